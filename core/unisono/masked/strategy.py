"""A strategy: eight stages, composed. The presets are strategies; so is whatever you put together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jaxtyping import Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.masked.canvas import Layout
from unisono.masked.stages.draw import Categorical, Draw
from unisono.masked.stages.guide import Guide, Plain
from unisono.masked.stages.plan import Plan
from unisono.masked.stages.revise import Never, Revise
from unisono.masked.stages.score import Score
from unisono.masked.stages.select import Select, TopK
from unisono.masked.stages.stop import Complete, Stop
from unisono.masked.stages.warp import Keep, Warp

STAGES = ("plan", "guide", "warp", "score", "select", "draw", "revise", "stop")


@dataclass(frozen=True, eq=False)
class Strategy:
    """How to fill a canvas: which positions, how many, in which order, drawn how, revised when.

    `query_only` chooses positions before the evaluation and asks the model for those alone, for networks
    whose cost is in the queries (ARPG, locality-aware parallel decoding).

    Raises:
        UnisonoError: for `query_only` with a score, selection or reviser that reads what the model says.
    """

    plan: Plan
    score: Score
    select: Select = field(default_factory=TopK)
    draw: Draw = field(default_factory=Categorical)
    warp: Warp = field(default_factory=Keep)
    guide: Guide = field(default_factory=Plain)
    revise: Revise = field(default_factory=Never)
    stop: Stop = field(default_factory=Complete)
    query_only: bool = False
    name: str = "strategy"

    def __post_init__(self):
        if self.query_only and not (self.score.blind and self.select.static and isinstance(self.revise, Never)):
            raise UnisonoError(
                f"{self.name}: query_only chooses before the evaluation, so its score must be blind, "
                "its selection static, and nothing revised",
                code="conflict",
                path="query_only",
                value=self.name,
            )

    @property
    def uses_draw(self) -> bool:
        """Whether positions are chosen by looking at drawn tokens."""
        return self.score.uses_draw

    @property
    def exact_at_one(self) -> bool:
        """Whether one token per step gives exactly the joint law that the model's conditionals define."""
        plain = isinstance(self.warp, Keep) and isinstance(self.guide, Plain) and isinstance(self.stop, Complete)
        return plain and not self.uses_draw and self.draw.exact and self.revise.keeps_law

    @property
    def static(self) -> bool:
        """Whether the number of steps and of commits in each is known before the first evaluation."""
        return self.select.static and self.revise.static and self.stop.static

    def check(self, layout: Layout) -> None:
        """Raise `UnisonoError` if this strategy cannot work on the layout."""
        self.plan.check(layout)

    def rows(self, index: Int[Tensor, " n"]) -> Strategy:
        """The strategy for some rows of a batch: stages that hold something per row select theirs."""
        parts = {name: getattr(self, name) for name in STAGES}
        return replace(self, **{name: part.rows(index) for name, part in parts.items() if hasattr(part, "rows")})
