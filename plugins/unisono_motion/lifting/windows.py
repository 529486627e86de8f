"""Windows: stretches of a long clip that a network sees at once, and what of each is kept.

Neighbours overlap. Of two, the earlier one is kept up to the middle of what both see, so that a frame comes from the
window in which it has the most before and behind it.
"""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Window:
    """Frames ``start`` to ``stop`` are seen, ``first`` to ``last`` of the clip are kept."""

    start: int
    stop: int
    first: int
    last: int


def windows(num_frames: int, size: int, overlap: float) -> list[Window]:
    """Return the windows of a clip in their order; what they keep covers it without a gap.

    Args:
        size: frames of a window; a shorter clip is one window, and the last window ends where the clip ends.
        overlap: the share of a window that its neighbour sees too, at least, in [0, 1).
    """
    step = max(1, int(size * (1 - overlap)))
    starts = [*range(0, max(num_frames - size, 0), step), max(num_frames - size, 0)]
    ends = [(one + size + other) // 2 for one, other in pairwise(starts)]
    return [
        Window(start, min(start + size, num_frames), first, last)
        for start, first, last in zip(starts, [0, *ends], [*ends, num_frames], strict=True)
    ]
