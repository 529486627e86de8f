"""Audio files in and out: wav, flac, ogg and mp3 of any rate, by soundfile; resampling by soxr.

A file that cannot be trusted is refused with ``DataError``: no regular file, unreadable, zero-length, or cut off so
that it holds less than its container promises (see ``containers``). A file is read block by block, so that memory
grows with what is there and not with what a header says.

Shapes: n samples (m after resampling), c channels.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError
from unisono.files import Fault, fault_of, is_folder, shown, written_aside
from unisono.media.opus import OPUS_RATES, encode_opus

from unisono_sound.signal.containers import AGAIN, check_whole

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Sample rates that are read, in Hz."""
MOST_VALUES = 2**30
"""Samples times channels that are read into memory at once."""

_BLOCK_VALUES = 2**20
_FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
_LOSSY = (".ogg", ".opus", ".mp3")
# containers whose end is checked
_READ = frozenset(str.split("WAV WAVEX RF64 W64 AIFF AU CAF NIST FLAC OGG MP3"))
# what soundfile, libsndfile and the system raise; DataError is a ValueError and passes beforehand
_LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, OSError, OverflowError, AssertionError, MemoryError)


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    sample_rate: int
    num_samples: int
    num_channels: int
    format: str

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def probe_audio(path: str | os.PathLike) -> AudioInfo:
    """Read a file's header; raises ``DataError`` as ``read_audio`` does."""
    path = Path(path)
    with open_sound(path) as file:
        info = AudioInfo(file.samplerate, file.frames, file.channels, file.format)
    if info.num_samples <= 0:
        raise _empty(path)
    return info


def read_audio(path: str | os.PathLike, sample_rate: int | None = None) -> tuple[Float[Tensor, "n"], int]:
    """Read a file as mono float32 within about ±1, and its rate.

    Channels are averaged. With ``sample_rate`` the result is resampled to it (soxr, high quality).
    Raises ``DataError``, naming the file, if it is missing, unreadable, truncated or empty.
    """
    path = Path(path)
    blocks = []
    with open_sound(path) as file:
        rate, most = file.samplerate, MOST_VALUES // file.channels
        count = 0
        for block in sound_blocks(path, file, max(_BLOCK_VALUES // file.channels, 1)):
            count += len(block)
            if count > most:
                raise Fault("too large", f"holds more than {most} samples", "divide it", path).error(DataError)
            blocks.append(block.mean(axis=1) if block.shape[1] > 1 else block[:, 0])
    wave = torch.from_numpy(np.concatenate(blocks))
    if sample_rate is not None and rate != sample_rate:
        return resample(wave, rate, sample_rate), sample_rate
    return wave, rate


@contextmanager
def open_sound(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a sound file that is whole as far as its container tells; ``DataError`` otherwise."""
    if fault := fault_of(path, "check the path"):
        raise Fault(fault.reason, f"no such audio file: {fault.detail}", fault.fix, path).error(DataError)
    check_whole(path)
    try:
        file = soundfile.SoundFile(str(path))
    except _LIBRARY_ERRORS as error:
        _refuse(path, error)
    with file:
        if file.format not in _READ:
            detail = f"is a {file.format} file, of which nothing tells whether it is whole"
            raise Fault("unreadable", detail, "convert it to wav, flac or ogg", path).error(DataError)
        if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
            detail = f"a sample rate of {file.samplerate} Hz; between {LOWEST_RATE} and {HIGHEST_RATE} are read"
            raise Fault("unreadable", detail, "export it again", path).error(DataError)
        yield file


def sound_blocks(path: Path, file: soundfile.SoundFile, size: int) -> Iterator[Float[np.ndarray, "n c"]]:
    """Yield an open file's samples ``size`` at a time; ``DataError`` where it is empty, cut off or damaged."""
    count, promised = 0, file.frames
    while True:
        try:
            block = file.read(size, dtype="float32", always_2d=True)
        except _LIBRARY_ERRORS as error:
            _refuse(path, error)
        if not np.isfinite(block).all():
            raise Fault("not finite", "holds NaN or infinite samples", "export it again", path).error(DataError)
        count += len(block)
        if len(block):
            yield block
        if len(block) < size:
            break
    if not count:
        raise _empty(path)
    if count < promised:
        raise Fault(
            "truncated", f"truncated: {count} of {promised} samples can be read", AGAIN, path
        ).error(DataError)  # fmt: skip


def write_audio(path: str | os.PathLike, wave: Float[Tensor, "n"] | Float[Tensor, "c n"], sample_rate: int) -> None:
    """Write a waveform in the format of the suffix (wav and flac in 16 bits), clipped beyond ±1.

    Opus knows five rates; a waveform of another is resampled to 48 kHz. What a lossy format (ogg, opus, mp3) decodes
    to overshoots: the waveform is written as much quieter as it takes to stay within ±1. The file is written beside
    its place and renamed. Raises ``DataError`` where it cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in AUDIO_SUFFIXES:
        message = (
            f"{shown(path)}: cannot write {path.suffix or 'a file without suffix'!r}; "
            f"use one of {', '.join(AUDIO_SUFFIXES)}"
        )
        raise DataError(message, code="unsupported", path=path, value=path.suffix)
    samples = torch.as_tensor(wave).detach().cpu().float().numpy().T
    if not np.isfinite(samples).all():
        raise DataError(
            f"{shown(path)}: the waveform holds NaN or infinite samples; nothing was written", code="value", path=path
        )
    try:
        data = _encoded(suffix, samples, sample_rate)
    except _LIBRARY_ERRORS as error:
        message = (
            f"{shown(path)}: cannot be written: {_cause(error)}; shape {list(samples.T.shape)} at {sample_rate} Hz"
        )
        raise DataError(message, code="write", path=path, value=sample_rate) from None
    if not is_folder(path.parent):
        message = f"{shown(path)}: cannot be written: there is no folder {shown(path.parent)!r}; make it first"
        raise DataError(message, code="write", path=path, value=str(path.parent))
    with written_aside(path, DataError) as aside:
        aside.write_bytes(data)


def _encoded(suffix: str, samples: Float[np.ndarray, "n *c"], sample_rate: int) -> bytes:
    """Return the bytes of a sound file; of lossy formats, one that decodes to at most ±1."""
    if suffix == ".opus" and sample_rate not in OPUS_RATES:
        samples, sample_rate = soxr.resample(samples.clip(-1, 1), sample_rate, 48000, quality="HQ"), 48000
    samples = samples.clip(-1, 1)
    gain = 1.0
    while True:
        if suffix == ".opus":
            data = encode_opus(samples * gain, sample_rate)
        else:
            buffer = io.BytesIO()
            soundfile.write(buffer, samples * gain, sample_rate, format=_FORMATS[suffix])
            data = buffer.getvalue()
        if suffix not in _LOSSY or not samples.size:
            return data
        decoded, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        peak = float(np.abs(decoded).max(initial=0.0))
        if peak <= 1 or gain < 0.1:
            return data
        gain *= 0.995 / peak


def resample(wave: Float[Tensor, "n"], rate: int, new_rate: int) -> Float[Tensor, "m"]:
    """Resample a waveform with soxr at high quality."""
    if rate == new_rate:
        return wave
    return torch.from_numpy(soxr.resample(wave.numpy(), rate, new_rate, quality="HQ"))


def _refuse(path: Path, error: Exception) -> NoReturn:
    detail = f"cannot be read as audio ({_cause(error)})"
    raise Fault("unreadable", detail, "convert it to wav, flac or ogg, or copy it again", path).error(
        DataError
    ) from None


def _cause(error: Exception) -> str:
    """Return what a library says, without the names of its objects."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.rstrip(".") or type(error).__name__


def _empty(path: Path) -> DataError:
    error = Fault("empty", "holds no samples", "record it again or take it off the list", path).error(DataError)
    assert isinstance(error, DataError)
    return error
