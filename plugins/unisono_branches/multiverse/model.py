"""branches/multiverse: text in parallel by its own structure, and branches/chain: the same text in one row.

Yang et al., 2025 (arXiv:2506.09991): a language model whose texts say by tags what is independent; attention keeps the
paths of a block blind to one another while training, so that they can be written side by side. Differences: a small
network trained from scratch instead of a fine-tuned 32B one; the grammar is enforced while writing, so that each text
is well formed, and what it determines (a block's own tags, the beginning of a path) is written without asking the
network.

Shapes: b batch, t tokens, l nested blocks, v vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono import Model, Text
from unisono.errors import CheckpointError
from unisono.model import OnStep

from unisono_branches.corpus.facts import TaggedFacts
from unisono_branches.grammar.read import visible
from unisono_branches.multiverse.execute import Execution, begin
from unisono_branches.multiverse.request import TaggedRequest
from unisono_branches.network.sight import Masked, causal_sight
from unisono_branches.network.sizes import NetworkSizes
from unisono_branches.network.transformer import Transformer


class Multiverse(Model):
    """A rotary transformer whose mask and positions follow the tags.

    Args:
        network: sizes of the transformer.

    Attributes:
        beside: whether paths begin at one position and are blind to one another.
        evaluations: of the network so far, each of a whole batch.
        rounds: the same: none goes on beside another.
        places: token positions computed so far, over all rows.
    """

    Media: ClassVar[type[Text]] = Text
    Facts: ClassVar[type[TaggedFacts]] = TaggedFacts
    facts: TaggedFacts
    Request: ClassVar[type[TaggedRequest]] = TaggedRequest
    pipeline_tag: ClassVar[str] = "text-generation"
    salt: ClassVar[str] = "branches"
    beside: ClassVar[bool] = True

    def __init__(self, *, network: NetworkSizes = NetworkSizes()):  # noqa: B008
        super().__init__()
        self.sizes = network
        self.evaluations: int = 0
        self.rounds: int = 0
        self.places: int = 0

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the characters of the texts."""
        super().build(facts)
        self.net = Transformer(len(self.facts.vocabulary), self.sizes)

    def predict(
        self,
        tokens: Int[Tensor, "b t"],
        positions: Int[Tensor, "b t"],
        blocks: Int[Tensor, "b t l"],
        branches: Int[Tensor, "b t l"],
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of what follows each token of whole texts, in one evaluation."""
        dropout = self.sizes.dropout if self.training else 0.0
        if not self.beside:
            return self.net(tokens, causal_sight(tokens, self.sizes.head_dim, dropout))
        seen = visible(blocks, branches)
        return self.net(tokens, Masked.at(positions, self.sizes.head_dim, seen, dropout=dropout))

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        logits = self.predict(batch["tokens"], batch["positions"], batch["blocks"], batch["branches"])
        targets, learnt = batch["tokens"][:, 1:], batch["learnt"][:, 1:]
        logits = logits[:, :-1].float()
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        right = (logits.argmax(-1) == targets).float()
        return {"loss": self.global_mean(loss, learnt), "accuracy": self.global_mean(right, learnt)}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"tokens": int(batch["lengths"].sum())}

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a model of other characters."""
        its = TaggedFacts.from_json(facts)
        if its.characters != self.facts.characters:
            raise CheckpointError(
                f"run.init_from reads {its.characters!r}, the data have {self.facts.characters!r}: start from a model "
                "of the same characters",
                code="conflict",
                path="run.init_from",
                value=its.characters,
            )

    def synthesize(
        self,
        requests: Sequence[TaggedRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Text]:
        """Write the text of each request.

        ``order`` says in which step each token was settled, −1 for the prompt's. ``facts`` has ``prompt_tokens``,
        ``steps`` (evaluations in which the request took part), ``depth`` (positions), ``branches`` that were opened,
        and ``cut``, tags that were written because a limit was near.
        """
        tasks = [begin(self.facts, request, self.seed_of(request, generator), self.beside) for request in requests]
        execution = Execution(self.net, self.facts, tasks)
        made = execution.run(on_step)
        self.evaluations += execution.evaluations
        self.rounds += execution.evaluations
        self.places += execution.places
        return made

    def preview_requests(self) -> list[TaggedRequest]:
        asked = [self.Request(text=text) for text in self.facts.sample_texts]
        return [*asked, self.Request(text=self.facts.sample_texts[0], temperature=1.0)]

    def check_requests(self) -> list[TaggedRequest]:
        text = self.facts.sample_texts[0]
        short = self.Request(text=text, max_depth=len(text) + 2)
        return [*super().check_requests(), short, self.Request(text=text, max_branches=1, max_nesting=2)]

    def given_parts(self, request: TaggedRequest, made: Text) -> list[tuple[Any, Any]]:
        return [(request.text, made.text[: len(request.text)])]


class Chain(Multiverse):
    """The same network and the same texts, read and written from left to right: what branches are compared with.

    Each path sees the paths before it, and begins behind them. ``execution`` makes no difference.
    """

    salt: ClassVar[str] = "chain"
    beside: ClassVar[bool] = False
