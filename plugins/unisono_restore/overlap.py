"""Overlap: a long sound in pieces that join to the whole, in memory that does not grow with it.

``OverlapSave`` serves what sees a bounded stretch around each sample: a piece is restored with that stretch on either
side, which is thrown away, so that what is left is what the whole would give, but for the rounding of sums::

    ┊context┊──── size ────┊context┊
            ┊              ┊context┊──── size ────┊context┊

``CrossFade`` serves what looks at all that it is given (attention, norms over time): windows of one length, each by
itself, faded into one another where they overlap. A sound no longer than a window is one window.

Both take and give pieces [c, n] of any size, and hold no more than a window and a block.

Shapes: c channels, n samples.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.stopping import may_stop

__all__ = ["CrossFade", "Function", "OverlapSave"]

Function = Callable[[Float[Tensor, "c n"], int], Float[Tensor, "c n"]]
"""Restores a stretch, of which the second argument is the number of the first sample; as many samples come out."""


@dataclass(frozen=True)
class OverlapSave:
    """Pieces of ``size`` samples with ``context`` on either side, that begin on multiples of ``step``.

    Raises ``ValueError`` where ``size`` is no multiple of ``step``.
    """

    size: int
    context: int
    step: int = 1

    def __post_init__(self):
        if self.size < 1 or self.step < 1 or self.context < 0 or self.size % self.step:
            raise ValueError(
                f"size={self.size} must be a positive multiple of step={self.step}, context={self.context} at least 0"
            )

    @property
    def latency(self) -> int:
        """Samples that must be there before the first piece is given, at most."""
        return self.size + self.context

    def __call__(self, blocks: Iterable[Float[Tensor, "c n"]], function: Function) -> Iterator[Float[Tensor, "c n"]]:
        held: Tensor | None = None
        start = done = 0  # the numbers of the first sample that is held, and of the first that is not yet given
        for block in blocks:
            held = block if held is None else torch.cat([held, block], dim=1)
            while held.shape[1] >= done - start + self.latency:
                may_stop()
                first = done - start
                yield function(held[:, : first + self.latency], start)[:, first : first + self.size]
                done += self.size
                drop = max(0, done - self.context - start) // self.step * self.step
                held, start = held[:, drop:], start + drop
        if held is not None and start + held.shape[1] > done:
            may_stop()
            yield function(held, start)[:, done - start :]


@dataclass(frozen=True)
class CrossFade:
    """Windows of ``length`` samples, of which neighbours share ``overlap``; there the weights are sin² and cos².

    The last window of a long sound ends with it and is as long as the others, so that none has little to look at.
    Raises ``ValueError`` where ``overlap`` is more than half of ``length``.
    """

    length: int
    overlap: int

    def __post_init__(self):
        if not 0 <= 2 * self.overlap <= self.length or self.length < 1:
            raise ValueError(f"overlap={self.overlap} must be from 0 to half of length={self.length}")

    @property
    def latency(self) -> int:
        """Samples that must be there before the first piece is given, at most."""
        return self.length + 1

    def __call__(self, blocks: Iterable[Float[Tensor, "c n"]], function: Function) -> Iterator[Float[Tensor, "c n"]]:
        hop = self.length - self.overlap
        held: Tensor | None = None
        before: Tensor | None = None  # the samples of the window before that this one does not hold
        tail: Tensor | None = None  # what the window before says of those that both hold
        start = 0
        for block in blocks:
            held = block if held is None else torch.cat([held, block], dim=1)
            while held.shape[1] > self.length:
                may_stop()
                made = self._faded(tail, function(held[:, : self.length], start))
                yield made[:, :hop]
                before, tail, held, start = held[:, :hop], made[:, hop:], held[:, hop:], start + hop
        if held is None or not held.shape[1]:
            return
        may_stop()
        more = 0 if before is None else min(self.length - held.shape[1], before.shape[1])
        window = held if not more or before is None else torch.cat([before[:, -more:], held], dim=1)
        yield self._faded(tail, function(window, start - more)[:, more:])

    def _faded(self, tail: Float[Tensor, "c k"] | None, made: Float[Tensor, "c n"]) -> Float[Tensor, "c n"]:
        if tail is None or not self.overlap:
            return made
        place = (torch.arange(self.overlap, device=made.device) + 0.5) / self.overlap
        share = (math.pi / 2 * place).sin().square()
        return torch.cat([torch.lerp(tail, made[:, : self.overlap], share), made[:, self.overlap :]], dim=1)
