"""Guide (stage 2): from the handle to logits, by one evaluation or several.

A guide returns two sets of logits: what scores read and what tokens are drawn from. Guided logits are for
the draw; with ``scores=True`` the order follows them too, as in LLaDA and MoMask.

Letters: b batch, k positions, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas
from unisono.masked.run.handle import Handle, select_rows
from unisono.masked.stages.plan import Planned

Pair = tuple[Float[Tensor, "b k v"], Float[Tensor, "b k v"]]


class Guide(Protocol):
    """Logits for scores, logits for draws."""

    def __call__(self, handle: Handle, canvas: Canvas, planned: Planned, query: Int[Tensor, "b k"] | None) -> Pair: ...


@dataclass(frozen=True, eq=False)
class Plain:
    """The model's own logits: one evaluation."""

    def __call__(self, handle: Handle, canvas: Canvas, planned: Planned, query: Tensor | None) -> Pair:
        logits = handle(canvas, query)
        return logits, logits


@dataclass(frozen=True, eq=False)
class ClassifierFree:
    """u + s·(c − u): away from what another model says (Ho and Salimans, 2022, arXiv:2207.12598).

    `guidance_scale` s = 1 is the plain model; papers that write c + w·(c − u) mean s = 1 + w. `other` is the same
    network without its condition, or with a negative prompt (Muse, arXiv:2301.00704); None hides the frozen tokens
    from the model instead (LLaDA). `ramp` lets s grow linearly from 1 with the progress of the group (ARPG, Muse).
    `rescale` mixes in logits of c's own spread at that position (MaskGCT, arXiv:2409.00750, takes the spread of the
    whole batch, so that rows depend on their neighbours; here no row does).
    """

    guidance_scale: float
    other: Any = None
    ramp: bool = False
    rescale: float = 0.0
    scores: bool = False

    def __post_init__(self):
        if not is_real(self.guidance_scale):
            raise UnisonoError(
                f"guidance_scale {self.guidance_scale!r}: give a number; 1 is no guidance",
                code=fault_of(self.guidance_scale),
                path="guidance_scale",
                value=self.guidance_scale,
            )
        if not is_real(self.rescale, 0, 1):
            raise UnisonoError(
                f"rescale {self.rescale!r}: give a share from 0 to 1",
                code=fault_of(self.rescale),
                path="rescale",
                value=self.rescale,
            )

    def __call__(self, handle: Handle, canvas: Canvas, planned: Planned, query: Tensor | None) -> Pair:
        logits = handle(canvas, query)
        if self.other is None:
            hidden = canvas.frozen & ~canvas.padding
            bare = replace(canvas, known=canvas.known & ~hidden, tokens=canvas.tokens.masked_fill(hidden, 0))
            without = handle(bare, query)
        else:
            without = handle(canvas, query, model=self.other)
        more = self.guidance_scale - 1
        more = more * planned.progress if self.ramp else torch.full_like(planned.progress, more)
        # c + (s − 1)·(c − u): the same, and exactly c at s = 1.
        guided = logits + more.to(logits)[:, None, None] * (logits - without)
        if self.rescale:
            ratio = logits.std(-1, keepdim=True) / guided.std(-1, keepdim=True)
            guided = guided * (1 - self.rescale + self.rescale * ratio)
        return (guided if self.scores else logits), guided

    def begin(self, canvas: Canvas) -> None:
        """Tell the other model that a new canvas begins, if it keeps anything."""
        if hasattr(self.other, "begin"):
            self.other.begin(canvas)

    def rows(self, index: Int[Tensor, " n"]) -> ClassifierFree:
        return self if self.other is None else replace(self, other=select_rows(self.other, index))


@dataclass(frozen=True, eq=False)
class Autoregressive:
    """log p + w·log p_AR: an autoregressive model's word on tokens whose whole past is known.

    `model` gives at each position the logits of its token from the known tokens before it. Where a token
    before is still masked it has no opinion, and the masked model stands alone. A product of experts; not
    the verification of FlashDLM (arXiv:2505.21467), which accepts or rejects.
    """

    model: Any
    weight: float = 1.0
    scores: bool = False

    def __post_init__(self):
        if not is_real(self.weight):
            raise UnisonoError(
                f"weight {self.weight!r} of the autoregressive model: give a number",
                code=fault_of(self.weight),
                path="weight",
                value=self.weight,
            )

    def __call__(self, handle: Handle, canvas: Canvas, planned: Planned, query: Tensor | None) -> Pair:
        logits = handle(canvas, query)
        opinion = handle(canvas, query, model=self.model).log_softmax(-1)
        past = canvas.known.long().cumprod(1)
        open_ = torch.cat([torch.ones_like(past[:, :1]), past[:, :-1]], 1).bool()
        if query is not None:
            open_ = open_.gather(1, query)
        guided = logits + self.weight * opinion.masked_fill(~open_[..., None], 0)
        return (guided if self.scores else logits), guided

    def begin(self, canvas: Canvas) -> None:
        """Tell the other model that a new canvas begins, if it keeps anything."""
        if hasattr(self.model, "begin"):
            self.model.begin(canvas)

    def rows(self, index: Int[Tensor, " n"]) -> Autoregressive:
        return replace(self, model=select_rows(self.model, index))
