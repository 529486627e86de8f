"""Opus files: libsndfile's encoder, without the ringing that it puts at a loud end.

libopus goes on beyond the end of a sound by prediction, and of a sound that ends loud the last milliseconds are
decoded up to three times too loud. Silence is encoded behind the sound, therefore, and the granule position of the
last Ogg page, by which a decoder trims the end (RFC 7845, section 4.4), is set back to where the sound ends.

Shapes: n samples, c channels.
"""

import io
import struct

import numpy as np
import soundfile
from jaxtyping import Float

__all__ = ["OPUS_RATES", "encode_opus", "opus_rate"]

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""The rates of Opus, in Hz."""
_SILENCE_SECONDS = 0.01
_CLOCK = 48000
_PAGE = 27


def opus_rate(sample_rate: int) -> int:
    """Return the rate at which a sound of ``sample_rate`` Hz is encoded: its own, the next higher one, or 48 kHz."""
    return next((rate for rate in OPUS_RATES if rate >= sample_rate), OPUS_RATES[-1])


def encode_opus(samples: Float[np.ndarray, "n *c"], sample_rate: int, compression_level: float | None = None) -> bytes:
    """Return an Ogg Opus file of as many samples as are given; ``sample_rate`` is one of Opus' five.

    ``compression_level`` is libsndfile's, in [0, 1]: 256 down to 6 kb/s a channel; its own choice where None.
    """
    silence = round(_SILENCE_SECONDS * sample_rate)
    buffer = io.BytesIO()
    padded = np.concatenate([samples, np.zeros((silence, *samples.shape[1:]), np.float32)])
    soundfile.write(buffer, padded, sample_rate, "OPUS", format="OGG", compression_level=compression_level)
    return _end_earlier(bytearray(buffer.getvalue()), silence * _CLOCK // sample_rate)


def _end_earlier(ogg: bytearray, granules: int) -> bytes:
    """Set the end of an Ogg stream back; unchanged where the last page holds nothing else."""
    place, pages = 0, []
    while place < len(ogg):
        count = ogg[place + 26]
        pages.append(place)
        place += _PAGE + count + sum(ogg[place + _PAGE : place + _PAGE + count])
    last, before = pages[-1], pages[-2]
    (end,), (start,) = struct.unpack_from("<q", ogg, last + 6), struct.unpack_from("<q", ogg, before + 6)
    if end - granules <= start:
        return bytes(ogg)
    struct.pack_into("<q", ogg, last + 6, end - granules)
    struct.pack_into("<I", ogg, last + 22, 0)
    struct.pack_into("<I", ogg, last + 22, _crc(ogg[last:]))
    return bytes(ogg)


def _crc(data: bytearray) -> int:
    """Ogg's checksum (RFC 3533): polynomial 0x04C11DB7, high bit first, from zero."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value


def _entry(value: int) -> int:
    value <<= 24
    for _ in range(8):
        value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


_TABLE = [_entry(value) for value in range(256)]
