"""Containers: whether a sound file holds all that its header promises.

libsndfile reads a file that was cut off as a shorter sound, without a word. What each container says of its own
end is therefore read here: the length of the chunk with the samples; the flag of Ogg's last page; the last frame of
an mp3, and the number of frames in its Xing header. FLAC counts its samples, which the reader compares. Known are
RIFF, RF64, W64, AIFF, AU, CAF, NIST SPHERE, Ogg and MPEG audio.
"""

import math
import mmap
import re
import struct
from collections.abc import Callable
from pathlib import Path

from unisono.errors import DataError
from unisono.files import Fault, open_file, reading

__all__ = ["AGAIN", "check_whole"]

AGAIN = "copy it again from the source"
UNKNOWN = 0xFFFFFFFF
"""The length of a chunk that was written to a pipe."""


def check_whole(path: Path) -> None:
    """Raise ``DataError`` (a fault "truncated") for a sound file that ends before its container says."""
    with open_file(path) as file, reading(path):
        size = file.seek(0, 2)
        if size == 0:
            raise Fault("empty", "is empty (0 bytes)", AGAIN, path).error(DataError)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            lack = _lack(data)
    if lack:
        raise Fault("truncated", f"truncated: {lack}", AGAIN, path).error(DataError)


def _lack(data: mmap.mmap) -> str | None:
    """Return what a file lacks, None where it is whole or of another container."""
    start = data[:16]
    for magic, check in _CHECKS.items():
        if start.startswith(magic):
            return check(data)
    if start[:3] == b"ID3" or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0):
        return _mpeg(data)
    return None


def _chunks(data: mmap.mmap, order: str, wanted: bytes) -> str | None:
    """Walk chunks of four letters and four bytes of length; ``ds64`` holds the lengths of RF64."""
    place, long_length = 12, None
    while place + 8 <= len(data):
        name, length = data[place : place + 4], struct.unpack_from(order + "I", data, place + 4)[0]
        if name == b"ds64" and place + 24 <= len(data):
            long_length = struct.unpack_from("<Q", data, place + 16)[0]
        if name == wanted:
            if length == UNKNOWN:
                if long_length is None:
                    return None
                length = long_length
            return _short(length, len(data) - place - 8)
        place += 8 + length + length % 2
    return None  # without the chunk there is nothing to read, which libsndfile says


def _short(promised: int, present: int) -> str | None:
    if promised <= present:
        return None
    return f"its header promises {promised} bytes of sound, {max(present, 0)} are there"


def _w64(data: mmap.mmap) -> str | None:
    place = 40
    while place + 24 <= len(data):
        length = struct.unpack_from("<Q", data, place + 16)[0]
        if data[place : place + 4] == b"data":
            return _short(length - 24, len(data) - place - 24)
        if length < 24:
            return None
        place += -(-length // 8) * 8
    return None


def _au(data: mmap.mmap, order: str) -> str | None:
    if len(data) < 24:
        return "it ends in its header"
    offset, length = struct.unpack_from(order + "II", data, 4)
    return None if length == UNKNOWN else _short(length, len(data) - offset)


def _caf(data: mmap.mmap) -> str | None:
    place = 8
    while place + 12 <= len(data):
        length = struct.unpack_from(">q", data, place + 4)[0]
        if data[place : place + 4] == b"data":
            return None if length < 0 else _short(length, len(data) - place - 12)
        if length < 0:
            return None
        place += 12 + length
    return None


def _nist(data: mmap.mmap) -> str | None:
    """SPHERE: a text header with the number of samples, their bytes and channels."""
    size = data[8:16].strip()
    header = data[: int(size) if size.isdigit() else 1024]
    numbers = dict(re.findall(rb"^(\w+) -i (\d+)", header, re.MULTILINE))
    names = (b"sample_count", b"sample_n_bytes", b"channel_count")
    if b"sample_count" not in numbers:
        return "its header has no sample_count"
    return _short(math.prod(int(numbers.get(name, 1)) for name in names), len(data) - len(header))


def _ogg(data: mmap.mmap) -> str | None:
    """Walk pages (RFC 3533): each must be whole and follow its stream's page before, the last must end its stream."""
    place, ended = 0, True
    numbers: dict[int, int] = {}
    while place + 27 <= len(data) and data[place : place + 4] == b"OggS":
        kind, (stream, number), count = data[place + 5], struct.unpack_from("<II", data, place + 14), data[place + 26]
        following = place + 27 + count + sum(data[place + 27 : place + 27 + count])
        if following > len(data) or place + 27 + count > len(data):
            return f"its last Ogg page lacks {following - len(data)} bytes"
        if stream in numbers and number != numbers[stream] + 1 and not kind & 2:
            return f"Ogg page {number} follows page {numbers[stream]}"
        numbers[stream], ended = number, bool(kind & 4)
        place = following
    if place < len(data) and b"OggS".startswith(data[place : place + 4]):
        return "it ends in the header of an Ogg page"
    return None if ended else "its last Ogg page does not end the stream"


# kbit/s by [version 1, versions 2 and 2.5][layer I, II, III]
_BIT_RATES = (
    (
        (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
        (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
        (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    ),
    (
        (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
        (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    ),
)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _mpeg(data: mmap.mmap) -> str | None:
    """Walk MPEG audio frames (ISO 11172-3); a last frame that is cut, or fewer than the Xing header counts."""
    place = 0
    while data[place : place + 3] == b"ID3" and place + 10 <= len(data):
        size = data[place + 6 : place + 10]
        place += 10 + sum((byte & 127) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
        if place > len(data):
            return "it ends in its ID3 tag"
    promised, count = None, 0
    while place + 4 <= len(data) and (length := _frame_length(data[place : place + 4])):
        if place + length > len(data):
            return f"its last frame has {len(data) - place} of {length} bytes"
        if not count:
            promised = _xing_frames(data[place : place + length])
        count += 1
        place += length
    if promised is not None and count < promised:
        return f"its header promises {promised} frames, {count} are there"
    return None


def _frame_length(head: bytes) -> int:
    """Return a frame's bytes by its header, 0 where it is none (or of a free bit rate)."""
    version, layer, rate_index = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or version == 1 or layer == 4:
        return 0
    if not 0 < rate_index < 15 or head[2] >> 2 & 3 == 3:
        return 0
    bit_rate = 1000 * _BIT_RATES[version != 3][layer - 1][rate_index - 1]
    sample_rate, padding = _RATES[version][head[2] >> 2 & 3], head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12 * bit_rate // sample_rate + padding)
    return (72 if layer == 3 and version != 3 else 144) * bit_rate // sample_rate + padding


def _xing_frames(frame: bytes) -> int | None:
    mono = frame[3] >> 6 == 3
    side = (17 if mono else 32) if frame[1] >> 3 & 3 == 3 else (9 if mono else 17)
    tag = frame[4 + side : 16 + side]
    if tag[:4] not in (b"Xing", b"Info") or len(tag) < 12 or not tag[7] & 1:
        return None
    return struct.unpack(">I", tag[8:12])[0]


_CHECKS: dict[bytes, Callable[[mmap.mmap], str | None]] = {
    b"RIFF": lambda data: _chunks(data, "<", b"data"),
    b"RIFX": lambda data: _chunks(data, ">", b"data"),
    b"RF64": lambda data: _chunks(data, "<", b"data"),
    b"FORM": lambda data: _chunks(data, ">", b"SSND") if data[8:11] == b"AIF" else None,
    b"riff": _w64,
    b".snd": lambda data: _au(data, ">"),
    b"dns.": lambda data: _au(data, "<"),
    b"caff": _caf,
    b"OggS": _ogg,
    b"NIST_1A": _nist,
}
