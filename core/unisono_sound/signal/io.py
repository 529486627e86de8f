"""Audio files in and out: wav, flac, ogg and mp3 of any rate, by soundfile; resampling by soxr.

A file that cannot be trusted is refused with ``DataError``: unreadable, zero-length, or cut off so
that it holds less than its header promises (libsndfile reads such a wav without a word).

Shapes: n samples (m after resampling), c channels.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


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
    _check_present(path)
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    _check_complete(path)
    if info.frames == 0:
        raise DataError(f"{path}: holds no samples; record it again or take it off the list")
    return AudioInfo(info.samplerate, info.frames, info.channels, info.format)


def read_audio(path: str | os.PathLike, sample_rate: int | None = None) -> tuple[Float[Tensor, "n"], int]:
    """Read a file as mono float32 within about ±1, and its rate.

    Channels are averaged. With ``sample_rate`` the result is resampled to it (soxr, high quality).
    Raises ``DataError``, naming the file, if it is missing, unreadable, truncated or empty.
    """
    path = Path(path)
    _check_present(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            promised, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    _check_complete(path)
    if len(samples) == 0:
        raise DataError(f"{path}: holds no samples; record it again or take it off the list")
    if len(samples) < promised:
        raise DataError(
            f"{path}: truncated: {len(samples)} of {promised} samples can be read; copy it again from the source"
        )
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: holds NaN or infinite samples; export it again")
    wave = torch.from_numpy(samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0])
    if sample_rate is not None and rate != sample_rate:
        return resample(wave, rate, sample_rate), sample_rate
    return wave, rate


def write_audio(path: str | os.PathLike, wave: Float[Tensor, "n"] | Float[Tensor, "c n"], sample_rate: int) -> None:
    """Write a waveform in the format of the suffix (wav and flac in 16 bits), clipped beyond ±1.

    Opus knows five rates; a waveform of another is resampled to 48 kHz.
    """
    path = Path(path)
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        raise DataError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'!r}; use one of {', '.join(AUDIO_SUFFIXES)}"
        )
    samples = torch.as_tensor(wave).detach().cpu().float().numpy().T
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: the waveform holds NaN or infinite samples; nothing was written")
    container = subtype = None
    if path.suffix.lower() == ".opus":
        container, subtype = "OGG", "OPUS"
        if sample_rate not in OPUS_RATES:
            samples = soxr.resample(samples, sample_rate, 48000, quality="HQ")
            sample_rate = 48000
    try:
        soundfile.write(str(path), samples.clip(-1, 1), sample_rate, subtype, format=container)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise DataError(f"{path}: cannot be written: {error}") from None


def resample(wave: Float[Tensor, "n"], rate: int, new_rate: int) -> Float[Tensor, "m"]:
    """Resample a waveform with soxr at high quality."""
    if rate == new_rate:
        return wave
    return torch.from_numpy(soxr.resample(wave.numpy(), rate, new_rate, quality="HQ"))


def _check_present(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such audio file; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes); copy it again from the source")


def _unreadable(path: Path, error: Exception) -> DataError:
    cause = getattr(error, "error_string", str(error)).rstrip(".")
    return DataError(f"{path}: cannot be read as audio ({cause}); convert it to wav, flac or ogg, or copy it again")


def _check_complete(path: Path) -> None:
    """Refuse a RIFF file whose ``data`` chunk is longer than what is left of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"data":
                present = size - file.tell()
                # 0xFFFFFFFF stands for "unknown" in wavs that were written to a pipe
                if length != 0xFFFFFFFF and length > present:
                    raise DataError(
                        f"{path}: truncated: its header promises {length} bytes of sound, "
                        f"{present} are there; copy it again from the source"
                    )
                return
            file.seek(length + length % 2, os.SEEK_CUR)
