"""Sound: what a request gives, block by block, its level, and its pieces, cut where it is quiet.

::

    ├────────────── longest ──────────────┤
    ├──────────────────────────┼── search ┤
    ▄▆█▅▃▂▆█▇▃▁▂▅▆█▄▃▆█▇▅▃▂▁▂▅▆▇█▄▂▁▁▂▅▆▇█▄
                                   └ cut, at a whole hop

Shapes: n, k samples, c channels.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import RequestError
from unisono_sound.given import channels_of, told_of
from unisono_sound.signal import open_sound, sound_blocks

__all__ = ["Loudness", "Piece", "Source", "loudness", "pieces", "resampled", "source_of"]

BLOCK_SECONDS = 10.0
QUIET_SECONDS = 0.1
SEARCHED = 1 / 3
"""The share of a piece, at its end, in which the cut is sought."""
PEAK = 0.97
LEAST_SECONDS = 0.1
"""A sound that is shorter is refused."""

Blocks = Iterator[Float[np.ndarray, "n"]]


@dataclass(frozen=True, eq=False)
class Source:
    """A sound of one channel at ``rate``, which can be read again and again."""

    rate: int
    blocks: Callable[[], Blocks]


@dataclass(frozen=True)
class Loudness:
    """Of a whole sound: how many samples it has, its loudest 20 ms, and the gain that brings it to a level."""

    num_samples: int
    loudest: float
    gain: float


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a sound: ``wave`` [n] at the model's rate; ``last`` is whether the sound ends with it."""

    wave: Float[Tensor, "n"]
    last: bool


def source_of(path: str | None, samples: Any, rate: int, field: str) -> Source:
    """Return the sound of a file, or of samples [n] or [c, n] at ``rate``; ``field`` is the request's, for errors.

    Channels are averaged. Raises ``RequestError`` for a file that cannot be read (of what is behind its header while
    blocks are read), and for samples that are none, not finite, or of several lengths.
    """
    if path is not None:
        return _of_file(Path(path), field)
    wave = channels_of(samples, field).mean(0)
    return Source(rate, lambda: iter([wave]))


def _of_file(path: Path, field: str) -> Source:
    def blocks() -> Blocks:
        with told_of(str(path), field), open_sound(path) as file:
            for block in sound_blocks(path, file, max(1, round(BLOCK_SECONDS * file.samplerate))):
                yield block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]

    with told_of(str(path), field), open_sound(path) as file:
        return Source(file.samplerate, blocks)


def resampled(blocks: Iterable[Float[np.ndarray, "n"]], rate: int, new_rate: int) -> Blocks:
    """Yield blocks at another rate, by one resampler (soxr, high quality), so that their borders are not heard."""
    if rate == new_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        if len(made := stream.resample_chunk(np.ascontiguousarray(block, np.float32))):
            yield made
    if len(rest := stream.resample_chunk(np.zeros(0, np.float32), last=True)):
        yield rest


def loudness(source: Source, dbfs: float | None) -> Loudness:
    """Read a sound once and return what its level is: as ``unisono_sound.corpus.level`` measures training recordings.

    Raises ``RequestError`` for a sound of less than 0.1 s.
    """
    size = max(1, source.rate // 50)
    count, peak, powers, rest = 0, 0.0, [], np.zeros(0, np.float32)
    for block in source.blocks():
        count += len(block)
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        held = np.concatenate([rest, block])
        whole = len(held) // size * size
        powers.append(np.square(held[:whole].reshape(-1, size), dtype=np.float64).mean(1))
        rest = held[whole:]
    if count < LEAST_SECONDS * source.rate:
        seconds = count / source.rate
        message = f"{seconds:.3f} s are too short: {LEAST_SECONDS:g} s are the least that can be converted"
        raise RequestError(message, code="range", path="audio", value=seconds)
    power = np.concatenate(powers)
    loudest = float(power.max())
    if dbfs is None or not loudest:
        return Loudness(count, loudest, 1.0)
    speech = max(float(power[power > loudest * 1e-3].mean()), 1e-12)
    return Loudness(count, loudest, min(10 ** (dbfs / 20) / speech**0.5, PEAK / max(peak, 1e-9)))


def pieces(blocks: Iterable[Float[np.ndarray, "n"]], rate: int, longest_seconds: float, hop: int) -> Iterator[Piece]:
    """Yield the pieces of a sound, each of ``longest_seconds`` at most and, but for the last, of whole hops; together
    they are the sound. The same samples give the same pieces, however they come in blocks.
    """
    longest = max(2, round(longest_seconds * rate / hop)) * hop
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > longest:
            cut = quietest(held[:longest], rate, hop)
            yield Piece(torch.from_numpy(held[:cut].copy()), last=False)
            held = held[cut:]
    yield Piece(torch.from_numpy(held), last=True)


def quietest(wave: Float[np.ndarray, "n"], rate: int, hop: int) -> int:
    """Return where a piece that is too long is cut: the whole hop nearest to the middle of its quietest 100 ms."""
    first = round(len(wave) * (1 - SEARCHED))
    size = max(1, min(round(QUIET_SECONDS * rate), len(wave) - first))
    power = np.concatenate([[0.0], np.cumsum(np.square(wave[first:], dtype=np.float64))])
    middle = first + int((power[size:] - power[:-size]).argmin()) + size // 2
    return min(max(round(middle / hop), 1), len(wave) // hop - 1) * hop
