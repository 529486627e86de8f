"""Context: a stage's view of one step; the canvas before it, the plan, the marginals, and its own randomness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.canvas import Canvas
from unisono.masked.run.handle import Handle
from unisono.masked.stages.marginals import Marginals
from unisono.masked.stages.plan import Planned


@dataclass(eq=False)
class StepContext:
    """One step under way.

    `marginals` are raw, `drawn` holds a token at every open position for scores that rank draws, `score`
    ranks positions, `commit` is what was selected; each can be read once its stage has run. A stage may
    write to `memo`, which the next canvas carries on: tensors with the batch first.
    """

    canvas: Canvas
    handle: Handle
    planned: Planned
    memo: dict[str, Tensor]
    _marginals: Marginals | None = None
    _drawn: Int[Tensor, "b l"] | None = None
    _open: tuple[Marginals, Int[Tensor, "b k"]] | None = None
    _score: Float[Tensor, "b l"] | None = None
    _commit: Bool[Tensor, "b l"] | None = None

    @property
    def window(self) -> Bool[Tensor, "b l"]:
        return self.planned.window

    @property
    def marginals(self) -> Marginals:
        if self._marginals is None:
            raise UnisonoError(
                "a stage that chooses positions before the evaluation cannot read marginals",
                code="state",
                path="marginals",
            )
        return self._marginals

    @property
    def drawn(self) -> Int[Tensor, "b l"]:
        if self._drawn is None:
            raise UnisonoError(
                "tokens are drawn before the choice only if the score says uses_draw", code="state", path="drawn"
            )
        return self._drawn

    @property
    def drawn_logp(self) -> Float[Tensor, "b l"]:
        """The raw log-probability of `drawn` at open positions; elsewhere 0, or if a stage revises, the canvas'."""
        if self._open is None:
            return self.marginals.logp.gather(-1, self.drawn[..., None])[..., 0]
        marginals, sites = self._open
        logp = marginals.logp.gather(-1, self.drawn.gather(1, sites)[..., None])[..., 0]
        return logp.new_zeros(self.drawn.shape).scatter_(1, sites, logp)

    @property
    def score(self) -> Float[Tensor, "b l"]:
        if self._score is None:
            raise UnisonoError("nothing has been scored yet", code="state", path="score")
        return self._score

    @property
    def commit(self) -> Bool[Tensor, "b l"]:
        if self._commit is None:
            raise UnisonoError("nothing has been selected yet", code="state", path="commit")
        return self._commit

    def uniform(self, stream: int, sites: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b k"]:
        """Float64 in (0, 1), one per position or per site, for the row's own step."""
        where = self.canvas.sites if sites is None else sites
        return random.uniform(self.canvas.seed, self.canvas.step, where, stream)

    def gumbel(self, stream: int) -> Float[Tensor, "b l"]:
        return random.gumbel(self.canvas.seed, self.canvas.step, self.canvas.sites, stream)

    def remembered(self, key: str, like: Tensor) -> Tensor:
        """What `memo` has under a key, else zeros like `like`."""
        return self.memo[key] if key in self.memo else torch.zeros_like(like)
