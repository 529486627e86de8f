"""Cuts: a long sound in pieces that end where it is quietest, each restored by itself and joined as it is.

Attention over a whole sound takes memory with its square, and looks at a part of it differently than at the whole. What
has been learnt on pieces is therefore given pieces, cut in pauses, with nothing that overlaps or fades::

    ┊──── piece ────┊──────── piece ────────┊── piece ──┊
         at most ``longest``; all but the last at least half of it

Shapes: c channels, n samples.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.stopping import may_stop

from unisono_restore.overlap import Function

__all__ = ["QuietCuts"]


@dataclass(frozen=True)
class QuietCuts:
    """Pieces of at most ``longest`` samples, cut at multiples of ``step`` in the quietest stretch of ``quiet`` steps.

    Raises ``ValueError`` where ``longest`` does not hold four such stretches.
    """

    longest: int
    step: int
    quiet: int = 1

    def __post_init__(self):
        if self.step < 1 or self.quiet < 1 or self.longest < 4 * self.step * self.quiet:
            raise ValueError(f"longest={self.longest} must be at least 4 · step={self.step} · quiet={self.quiet}")

    @property
    def latency(self) -> int:
        """Samples that must be there before the first piece is given, at most."""
        return self.longest + 1

    def __call__(self, blocks: Iterable[Float[Tensor, "c n"]], function: Function) -> Iterator[Float[Tensor, "c n"]]:
        held: Tensor | None = None
        start = 0
        for block in blocks:
            held = block if held is None else torch.cat([held, block], dim=1)
            while held.shape[1] > self.longest:
                may_stop()
                cut = self.cut(held[:, : self.longest])
                yield function(held[:, :cut], start)
                held, start = held[:, cut:], start + cut
        if held is not None and held.shape[1]:
            may_stop()
            yield function(held, start)

    def cut(self, wave: Float[Tensor, "c n"]) -> int:
        """Return where to cut: in the middle of the quietest stretch of the second half; of equal ones, the last."""
        steps = wave.shape[1] // self.step
        power = wave[:, : steps * self.step].double().square().sum(0).unflatten(0, (steps, self.step)).sum(1)
        first = steps // 2
        stretches = power[first:].unfold(0, self.quiet, 1).sum(1)
        last_quietest = len(stretches) - 1 - int(stretches.flip(0).argmin())
        return (first + last_quietest + (self.quiet + 1) // 2) * self.step
