"""Windows: sound of any length in pieces of some seconds, cut where it is quiet; read and resampled block by block.

A piece is as long as a recogniser was trained on, so that neither attention nor memory grows with the sound. It is cut
in its last third at the middle of the quietest 100 ms::

    ├────────────── longest ──────────────┤
    ├──────────────────────────┼── search ┤
    ▄▆█▅▃▂▆█▇▃▁▂▅▆█▄▃▆█▇▅▃▂▁▂▅▆▇█▄▂▁▁▂▅▆▇█▄
                                   └ cut

Shapes: n samples of the piece.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from unisono_sound.signal import AudioInfo, open_sound, sound_blocks

__all__ = ["Window", "quietest", "resampled", "sound_of", "windows"]

BLOCK_SECONDS = 10.0
QUIET_SECONDS = 0.1
SEARCHED = 1 / 3
"""The share of a window, at its end, in which the cut is sought."""


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of a sound: ``wave`` [n], from sample ``start`` on; ``last`` is whether the sound ends with it."""

    start: int
    wave: Float[Tensor, "n"]
    last: bool


def sound_of(path: str | Path) -> tuple[AudioInfo, Iterator[Float[np.ndarray, "n"]]]:
    """Return what a file's header says, and its samples block by block, channels averaged.

    Raises ``DataError`` as ``unisono_sound.signal.read_audio`` does; what is behind the header, while blocks are read.
    """
    path = Path(path)
    with open_sound(path) as file:
        info = AudioInfo(file.samplerate, file.frames, file.channels, file.format)

    def blocks() -> Iterator[Float[np.ndarray, "n"]]:
        with open_sound(path) as file:
            for block in sound_blocks(path, file, max(1, round(BLOCK_SECONDS * file.samplerate))):
                yield block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]

    return info, blocks()


def resampled(blocks: Iterable[Float[np.ndarray, "n"]], rate: int, new_rate: int) -> Iterator[Float[np.ndarray, "m"]]:
    """Yield blocks at another rate, by one resampler (soxr, high quality), so that their borders are not heard."""
    if rate == new_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        made = stream.resample_chunk(np.ascontiguousarray(block, np.float32))
        if len(made):
            yield made
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(rest):
        yield rest


def windows(blocks: Iterable[Float[np.ndarray, "n"]], rate: int, longest_seconds: float) -> Iterator[Window]:
    """Yield the pieces of a sound, each of ``longest_seconds`` at most; together they are the sound.

    The same samples give the same pieces, however they come in blocks.
    """
    longest = max(2, round(longest_seconds * rate))
    held = np.zeros(0, np.float32)
    start = 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > longest:
            cut = quietest(held[:longest], rate)
            yield Window(start, torch.from_numpy(held[:cut].copy()), last=False)
            start, held = start + cut, held[cut:]
    if len(held):
        yield Window(start, torch.from_numpy(held), last=True)


def quietest(wave: Float[np.ndarray, "n"], rate: int) -> int:
    """Return the sample in [1, n) at which a piece that is too long is cut."""
    first = max(1, round(len(wave) * (1 - SEARCHED)))
    size = max(1, min(round(QUIET_SECONDS * rate), len(wave) - first))
    power = np.concatenate([[0.0], np.cumsum(np.square(wave[first:], dtype=np.float64))])
    sums = power[size:] - power[:-size]
    return min(first + int(sums.argmin()) + size // 2, len(wave) - 1)
