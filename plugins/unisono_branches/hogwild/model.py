"""branches/hogwild: two workers that sort a list from both ends, each reading what the other is writing.

Rodionov et al., 2025 (arXiv:2504.06261) let reasoning models work together that were never trained for it; a small
network is trained for it, on what workers see when they do. The task is a demonstration, `blocks` and `execute` are the
mechanism.

Shapes: b batch, t tokens, v vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono import Model, Text
from unisono.batching import Progress
from unisono.data import derive_seed
from unisono.model import OnStep
from unisono.verify import Draw

from unisono_branches.corpus.facts import SortingFacts
from unisono_branches.corpus.sorting import (
    ASK,
    HEADERS,
    LETTERS,
    NUMBERS,
    PADDING,
    STEP,
    STOP,
    VOCABULARY,
    check_list,
    merged,
)
from unisono_branches.hogwild.execute import work
from unisono_branches.hogwild.layout import Apart, layouts
from unisono_branches.hogwild.request import SortRequest
from unisono_branches.network.sizes import NetworkSizes
from unisono_branches.network.transformer import Transformer


class Hogwild(Model):
    """A rotary transformer whose workers share what they keep.

    Args:
        network: sizes of the transformer; dropout is that of layers, not of attention.

    Attributes:
        evaluations: of the network so far, each of all workers.
        rounds: the same: none goes on beside another.
    """

    Media: ClassVar[type[Text]] = Text
    Facts: ClassVar[type[SortingFacts]] = SortingFacts
    facts: SortingFacts
    Request: ClassVar[type[SortRequest]] = SortRequest
    pipeline_tag: ClassVar[str] = "text-generation"
    salt: ClassVar[str] = "hogwild"

    def __init__(self, *, network: NetworkSizes = NetworkSizes()):  # noqa: B008
        super().__init__()
        self.sizes = network
        self.evaluations: int = 0
        self.rounds: int = 0

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.net = Transformer(len(VOCABULARY), self.sizes)

    def predict(self, tokens: Int[Tensor, "b t"], owners: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Return the logits of what follows each token that workers wrote, in one evaluation without a cache."""
        distance, mask = layouts(owners, tokens == NUMBERS[STEP], PADDING)
        return self.net(tokens, Apart.by(distance, mask, self.sizes.head_dim))

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        logits, targets = self.predict(batch["tokens"], batch["owners"]).float(), batch["targets"]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
        learnt = targets >= 0
        right = (logits.argmax(-1) == targets).float()
        return {
            "loss": self.global_mean(loss.view_as(targets), learnt),
            "accuracy": self.global_mean(right, learnt),
        }

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"tokens": int((batch["owners"] != PADDING).sum())}

    def synthesize(
        self,
        requests: Sequence[SortRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Text]:
        """Sort each list: ``text`` is the list, ``?``, and the list as sorted; ``order`` the step of each letter.

        ``facts`` has ``steps``, the evaluations, and ``cut``, workers that did not stop by themselves. Raises
        ``RequestError`` for what is no list of different letters.
        """
        for request in requests:
            check_list(request.text, self.facts.max_items)
        most = [2 * len(request.text) * request.workers for request in requests]
        progress, made = Progress(on_step, sum(most)), []
        for number, request in enumerate(requests):
            seed, finished = self.seed_of(request, generator), sum(most[:number])

            def tell(count: int, finished: int = finished) -> None:
                progress.to(min(finished + count, progress.total - 1))

            made.append(self._sort(request, seed, tell))
        progress.finish()
        return made

    def _sort(self, request: SortRequest, seed: int, tell: Any) -> Text:
        draw = Draw(request.temperature)
        seeds = [derive_seed("worker", seed, worker) for worker in range(request.workers)]
        letters = torch.tensor([piece in LETTERS or piece == STOP for piece in VOCABULARY])

        def choose(worker: int, written: Sequence[int], logits: Float[Tensor, " v"]) -> int:
            if len(written) % 2:  # a letter is a step by itself
                return NUMBERS[STEP]
            chosen = logits.masked_fill(~letters, -torch.inf)[None, None]
            return int(draw(chosen, torch.tensor([seeds[worker]]), torch.tensor([[len(written)]])))

        pieces = (*request.text, ASK)
        out = work(
            self.net,
            [NUMBERS[piece] for piece in pieces],
            [NUMBERS[header] for header in HEADERS[request.workers]],
            choose,
            end_of_step=NUMBERS[STEP],
            stop=NUMBERS[STOP],
            limit=2 * len(request.text),
            on_step=tell,
        )
        self.evaluations += out.evaluations
        self.rounds += out.evaluations
        written = [
            [(VOCABULARY[token], step) for token, step in zip(*own, strict=True) if VOCABULARY[token] in LETTERS]
            for own in zip(out.tokens, out.steps, strict=True)
        ]
        sorted_letters = merged(["".join(letter for letter, _ in own) for own in written])
        steps = [step for _, step in written[0]] + [step for own in written[1:] for _, step in own[::-1]]
        text = "".join(pieces) + sorted_letters
        said = {"steps": out.evaluations, "cut": out.cut, "written": [len(own) for own in written]}
        order = (*[-1] * len(pieces), *steps)
        return Text(text, tuple(NUMBERS[piece] for piece in text), tuple(text), order, said)

    def preview_requests(self) -> list[SortRequest]:
        asked = [self.Request(text=text) for text in self.facts.sample_texts]
        return [*asked, self.Request(text=self.facts.sample_texts[-1], temperature=1.0)]

    def given_parts(self, request: SortRequest, made: Text) -> list[tuple[Any, Any]]:
        return [(request.text + ASK, made.text[: len(request.text) + 1])]
