"""Streams: a network run on a sound that comes, or goes, piece by piece.

A network that sees ``left`` frames before and ``right`` frames after a frame is run on windows::

    ├── left ──┼── block ──┼── right ──┤      what is computed
               ├── block ──┤                  what is handed on

Windows lie on a grid of blocks, wherever the pieces end: the same numbers come out of any cutting into pieces, bit for
bit, because the same windows are computed. Of the whole computed at once they differ as sums do that are added up in
another order.

Shapes: b batch, u units (samples, or vectors) of which a frame has ``unit``, d channels.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from unisono.errors import RequestError

BLOCK = 32
"""Frames handed on at once, unless said otherwise: what is heard lags behind by these, and by what is seen ahead."""


def windows(
    chunks: Iterable[Tensor],
    function: Callable[[Tensor], Tensor],
    left: int,
    right: int,
    unit: int = 1,
    block: int = BLOCK,
    least: int = 1,
) -> Iterator[Tensor]:
    """Run ``function`` on a stream of chunks [b, u, …] in windows; yield what it makes of each block of frames.

    ``function`` takes whole frames, [b, frames · unit, …], and makes any fixed number of units of each along the second
    axis. The last frame is filled up with zeros. The first block has ``least`` frames or more. Raises
    ``RequestError`` where chunks differ in more than their length.
    """
    if block < 1:
        raise RequestError(f"block={block} must be at least 1 frame", code="range", path="block", value=block)
    held: Tensor | None = None
    first = done = 0  # frames: where what is held begins, and how many are handed on

    def compute(held: Tensor, count: int, end: int) -> Tensor:
        start = max(done - left, 0)
        made = function(held[:, (start - first) * unit : (end - first) * unit])
        each = made.shape[1] // (end - start)
        return made[:, (done - start) * each : (done - start + count) * each]

    for chunk in chunks:
        if held is not None and (chunk.shape[0], *chunk.shape[2:]) != (held.shape[0], *held.shape[2:]):
            message = (
                f"a chunk of shape {list(chunk.shape)} after one of {list(held.shape)}: only the length may change"
            )
            raise RequestError(message, code="shape", path="chunks", value=tuple(chunk.shape))
        held = chunk if held is None else torch.cat([held, chunk], dim=1)
        while first + held.shape[1] // unit >= done + (count := block if done else max(block, least)) + right:
            yield compute(held, count, done + count + right)
            done += count
            drop = max(done - left - first, 0)
            held, first = held[:, drop * unit :], first + drop
    if held is None:
        return
    short = -held.shape[1] % unit
    if short:
        held = F.pad(held.movedim(1, -1), (0, short)).movedim(-1, 1)
    total = first + held.shape[1] // unit
    while done < total:
        count = min(block if done else max(block, least), total - done)
        yield compute(held, count, min(done + count + right, total))
        done += count


def checked(chunks: Iterable[Float[Tensor, "b n"]]) -> Iterator[Float[Tensor, "b n"]]:
    """Pass waves on, or raise ``RequestError`` at the first that holds NaN or infinity."""
    for chunk in chunks:
        if not bool(chunk.isfinite().all()):
            raise RequestError(
                "the waveform holds NaN or infinite samples: repair it first", code="value", path="chunks"
            )
        yield chunk
