"""Encoder: sound to a format piece by piece: one header, one encoder, one resampler from the first piece to the last.

libsndfile mends headers at the end of a file, which a stream has sent by then. What it writes back to is left out here;
so is the first frame of an mp3, which is a place kept for a table of the whole. A stream says instead that its length
is not known: sizes of 0xFFFFFFFF in wav, 0 samples in flac.

Shapes: c channels, n samples.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float
from numpy import ndarray

from unisono.errors import RequestError
from unisono.media.audio import Audio
from unisono.media.opus import opus_rate

UNKNOWN = 0xFFFFFFFF
_KINDS = {"mp3": ("MP3", "MPEG_LAYER_III"), "flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}


class Encoder:
    """``write`` each piece, then ``close``: both return bytes, which follow one another in the file.

    ``format`` is ``wav``, ``flac``, ``opus``, ``mp3`` or ``pcm``, ``rate`` the one that is written, in Hz: the sound's
    own where it is not given, of opus the nearest that it has. Samples outside of [-1, 1] are clipped. Raises
    ``RequestError`` where the format cannot hold the sound.
    """

    def __init__(self, format: str, sample_rate: int, channels: int = 1, rate: int | None = None):
        self.format, self.channels = format, channels
        self.rate = rate or (opus_rate(sample_rate) if format == "opus" else sample_rate)
        self._resampler = None
        if self.rate != sample_rate:
            self._resampler = soxr.ResampleStream(sample_rate, self.rate, channels, dtype="float32", quality="HQ")
        self._sink: Any = _Sink(drop_first=format == "mp3")
        kind, subtype = _KINDS.get(format, ("RAW", "PCM_16"))
        more: dict[str, Any] = {"bitrate_mode": "CONSTANT", "compression_level": 0.5} if format == "mp3" else {}
        try:
            self._file = soundfile.SoundFile(
                self._sink, "w", self.rate, channels, subtype, "LITTLE" if kind == "RAW" else None, kind, **more
            )
        except soundfile.LibsndfileError as error:
            raise RequestError(
                f"{format} cannot hold {channels} channels at {self.rate} Hz ({error.error_string.strip()}): take wav",
                code="unsupported",
                path="format",
                value=format,
            ) from None
        self._head = _wav_head(self.rate, channels) if format == "wav" else b""

    def write(self, waveform: Float[ndarray, "c n"]) -> bytes:
        """Encode a piece; returns what is ready, which may be nothing."""
        return self._encode(waveform.T, last=False)

    def close(self) -> bytes:
        """Return what was held back."""
        left = self._encode(np.zeros((0, self.channels), np.float32), last=True)
        self._file.close()
        return left + self._sink.taken()

    def _encode(self, samples: Float[ndarray, "n c"], last: bool) -> bytes:
        if np.isnan(samples).any():
            raise RequestError(
                "this sound holds samples that are no numbers: the model diverged; train it again",
                code="damaged",
                path="waveform",
            )
        samples = np.ascontiguousarray(samples, np.float32)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        if len(samples):
            self._file.write(samples.clip(-1, 1))
            self._file.flush()
        head, self._head = self._head, b""
        return head + self._sink.taken()


def encoded(pieces: Iterable[Audio], format: str, rate: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of pieces of sound, of one rate and number of channels, as soon as there are any."""
    encoder = None
    for piece in pieces:
        if encoder is None:
            encoder = Encoder(format, piece.sample_rate, piece.waveform.shape[0], rate)
        if made := encoder.write(piece.waveform):
            yield made
    if encoder is not None and (made := encoder.close()):
        yield made


def _wav_head(rate: int, channels: int) -> bytes:
    width = 2 * channels
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * width, width, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", UNKNOWN)


class _Sink(io.RawIOBase):
    """A file that only grows: what was taken from it can no longer be changed, and changes to it are dropped."""

    def __init__(self, drop_first: bool):
        super().__init__()
        self._bytes, self._taken, self._at = bytearray(), 0, 0
        self._drop = 0 if drop_first else None  # bytes at the beginning that are not sent; None: none

    def write(self, data) -> int:  # type: ignore[override]
        data = bytes(data)
        if self._drop == 0 and self._at == 0:
            self._drop = len(data)
        skip = max(0, self._taken - self._at)
        place = max(0, self._at - self._taken)
        kept = data[skip:]
        self._bytes[place : place + len(kept)] = kept
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._taken + len(self._bytes))[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        """Take what was written since."""
        made = bytes(self._bytes)
        if self._drop and made:
            made, self._drop = made[self._drop :], None
        self._taken += len(self._bytes)
        self._bytes.clear()
        return made
