"""MaskedText: what the masked diffusion models share: hiding tokens by time, the bound that this gives, and filling.

MDLM (arXiv:2406.07524) in continuous time: at time t each token is hidden with probability 1 − α(t), and
the bound is the integral of −α′/(1 − α) times what the hidden tokens cost. SUBS are the core's: a mask has no logit
(zero masking probability), and what is known costs nothing (carry-over). Hiding and weights are
`unisono.masked.Diffusion`, the same that decoding is proved against.

Time is drawn with low variance: strata over the *global* batch while training, whatever the number of processes;
a golden-ratio sequence over the rows in validation. `bound`, which is to be measured and not to be differentiated,
draws a number of hidden tokens in place of a time (`unisono.masked.Counted`; LLaDA, arXiv:2502.09992, eq. 14), in
strata over its samples: the same expectation, without the weights 1/t whose variance has no limit.

Shapes: b batch, t tokens, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono import Text
from unisono.batching import Progress
from unisono.data import derive_seed
from unisono.masked import Canvas, Corrupted, Counted, Diffusion, Handle, Layout, masked_cross_entropy
from unisono.masked.model import MaskedModel, Task
from unisono.peers import gather, peer_rank

from unisono_text.filling.generate import Filling, TextTask, check_request, read_all, rows_that_fit, stream
from unisono_text.filling.reading import Reading
from unisono_text.filling.request import TextRequest, read_request
from unisono_text.models.ar import Autoregressive
from unisono_text.models.language import LanguageModel

GOLDEN = 0.6180339887498949
"""The golden ratio's fraction: multiples of it, modulo 1, fill [0, 1) evenly, however many there are."""


class MaskedText(LanguageModel, MaskedModel):
    """The base of ``text/mdlm``, ``text/block``, ``text/anchored`` and ``text/seed``.

    ``min_time`` is the least time of training, as published: below it weights are above a thousand.
    """

    Request: ClassVar[type[TextRequest]] = TextRequest
    min_time: ClassVar[float] = 1e-3

    roles: ClassVar[dict[str, str]] = {
        "guide": "a text/ar of the same tokenizer that guides the draws",
        "judge": "a text/ar that reads what was made; evaluation needs it",
    }
    component_kinds: ClassVar[dict[str, Any]] = {"guide": Autoregressive, "judge": Autoregressive}

    # ---- times ---------------------------------------------------------------------------------

    def num_times(self, length: int) -> int:
        """Return how many times of its own a row of a length has: one, or one per block."""
        return 1

    def times(self, batch: dict[str, Any], seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        """Return the rows' times in (0, 1), float64: strata of the global batch, or of the rows in validation.

        ``n`` is what `num_times` gives for the longest row that there may be, so that a batch's padding, and how it
        is shared among processes, change nothing.
        """
        num = self.num_times(max(self.context, batch["tokens"].shape[1]))
        if not self.training:
            place = batch["row"].double()[:, None] * num + torch.arange(num, device=self.device)
            return ((place + 0.5) * GOLDEN % 1).clamp(1e-12, 1 - 1e-12)
        mine = torch.tensor(seeds, device=self.device)
        everyone, first = _gathered(mine)
        lot, u = (_numbers(everyone, purpose, num) for purpose in ("lot", "time"))
        rank = lot.flatten().argsort().argsort().reshape(lot.shape)
        times = (rank + u) / lot.numel()
        return (self.min_time + (1 - self.min_time) * times)[first : first + len(mine)].to(self.device)

    def sample_numbers(self, batch: dict[str, Any], sample: int, num_samples: int, seed: int) -> Float[Tensor, "b n"]:
        """Return numbers in (0, 1) for one of several samples of the bound: each is in a part of its own."""
        rows = torch.tensor([derive_seed(seed, row, sample) for row in batch["row"].tolist()])
        u = _numbers(rows, "number", self.num_times(batch["tokens"].shape[1]))
        return ((sample + u) / num_samples).to(self.device)

    # ---- costs ---------------------------------------------------------------------------------

    def canvas(self, batch: dict[str, Any], seeds: Sequence[int]) -> Canvas:
        """Return the batch's canvas: everything to be filled, but for prompts, which are given, and padding."""
        tokens, learnt = batch["tokens"], self.learnt(batch)
        canvas = Canvas.blank(self.layout(tokens.shape[1]), seeds, batch["lengths"], tokens.device)
        return canvas.freeze(tokens, ~learnt & ~canvas.padding)

    def layout(self, num_positions: int, request: TextRequest | None = None) -> Layout:
        """Return what the positions of a row are: one group, or the blocks of the request or of the model."""
        block = (request.block if request is not None else None) or self.block_size
        if not block:
            return Layout.sequence(num_positions, self.vocabulary)
        return Layout.blocks(num_positions, block, self.vocabulary)

    def corrupted(self, batch: dict[str, Any], seeds: Sequence[int], times: Float[Tensor, "b n"]) -> Corrupted:
        """Return the batch with tokens hidden at the rows' times, and what that weighs."""
        return Diffusion(min_time=0.0).at(self.canvas(batch, seeds), self.targets(batch), times[:, 0])

    def targets(self, batch: dict[str, Any]) -> Tensor:
        """Return the true tokens; where there is padding, any of the vocabulary."""
        return batch["tokens"].clamp(0, self.vocabulary - 1)

    def read(self, corrupted: Corrupted, batch: dict[str, Any]) -> Float[Tensor, "b t v"]:
        """Return the network's logits of a corrupted batch."""
        canvas = corrupted.canvas
        ids = torch.where(canvas.known, canvas.tokens, self.mask_id)
        return self.predict(ids, self.attention_mask(batch))

    def cost(self, batch: dict[str, Any], seeds: Sequence[int], times: Float[Tensor, "b n"]) -> Float[Tensor, "b t"]:
        """Return one sample of each token's share of the bound, in nats."""
        return self.cost_of(self.corrupted(batch, seeds, times), batch)

    def cost_of(self, corrupted: Corrupted, batch: dict[str, Any]) -> Float[Tensor, "b t"]:
        """Return what the hidden tokens of a corrupted batch cost, times their weights."""
        return masked_cross_entropy(self.read(corrupted, batch).float(), corrupted, reduction="none")

    def token_losses(
        self, batch: dict[str, Any], seeds: Sequence[int]
    ) -> tuple[dict[str, Float[Tensor, "b t"]], Bool[Tensor, "b t"]]:
        return {"loss": self.cost(batch, seeds, self.times(batch, seeds))}, self.learnt(batch)

    @torch.no_grad()
    def bound(self, batch: dict[str, Any], num_samples: int = 1, seed: int = 0) -> Float[Tensor, " b"]:
        total = torch.zeros(len(batch["tokens"]), dtype=torch.float64, device=batch["tokens"].device)
        for sample in range(num_samples):
            seeds = [derive_seed(self.salt, "bound", seed, row, sample) for row in batch["row"].tolist()]
            u = self.sample_numbers(batch, sample, num_samples, seed)
            corrupted = Counted(beside=self.block_size > 0).at(self.canvas(batch, seeds), self.targets(batch), u)
            total += self.cost_of(corrupted, batch).double().sum(1)
        return total / num_samples

    # ---- synthesis -----------------------------------------------------------------------------

    def task(self, request: TextRequest, seed: int, streaming: bool = False) -> TextTask:
        check_request(self, request)
        return TextTask(self, Reading(self, read_request(self, 0, request, seed)))

    def read_all(self, requests: Sequence[TextRequest], generator: torch.Generator | None = None) -> Sequence[TextTask]:
        return read_all(self, requests, generator)

    def filling(self, windows: Sequence[TextTask]) -> Filling:
        return Filling(self, windows)

    def rows_that_fit(self, windows: Sequence[TextTask]) -> int:
        return rows_that_fit(self, windows)

    def count_evaluations(self, handle: Handle, canvas: Canvas) -> None:
        super().count_evaluations(handle, canvas)
        self.rounds += int(canvas.step.max())
        self.token_forwards += handle.positions

    def watch(self, tasks: Sequence[Task], progress: Progress) -> Callable[[Canvas], None] | None:
        """Count positions as they are committed; remasking makes the count fall, which is not told."""
        if progress.on_step is None:
            return None
        before = sum(task.done for task in tasks)

        def tell(canvas: Canvas) -> None:
            made = before + int((canvas.known & ~canvas.frozen).sum())
            if made < progress.total:
                progress.to(made)

        return tell

    def stream(self, request: TextRequest, generator: torch.Generator | None = None) -> Iterator[Text]:
        """Yield the text block by block; joined, the pieces read as the whole."""
        return stream(self, request, generator)


def _numbers(seeds: Tensor, purpose: str, count: int) -> Float[Tensor, "b n"]:
    """Uniform numbers in (0, 1), of each row's own seed."""
    made = torch.empty(len(seeds), count, dtype=torch.float64)
    for row, seed in zip(made, seeds.tolist(), strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(derive_seed(seed, purpose)))
    return made.clamp(1e-12, 1 - 1e-12)


def _gathered(mine: Tensor) -> tuple[Tensor, int]:
    """All processes' numbers, as many from each, in one order; and where this one's begin."""
    return torch.cat(gather(mine)), peer_rank() * len(mine)
