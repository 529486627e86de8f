"""Formats: JPEG, WebP and AVIF by Pillow, at the quality that has a wanted PSNR, with what of their bytes is no header.

A format's quality is a whole number; between the two settings around the wanted PSNR, its bytes are interpolated on a
logarithmic scale, so that no format is charged for what it has no setting for.

Shapes: h w height and width in pixels.
"""

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

QUALITIES = (1, 100)


@dataclass(frozen=True)
class Format:
    """A way to write pictures: its name, Pillow's options, and how many of a file's bytes are coded picture."""

    name: str
    options: tuple[dict[str, Any], ...]
    payload: Callable[[bytes], int]


@dataclass(frozen=True)
class Size:
    """Bytes of a file, and those of them that are no header."""

    file: float
    payload: float


def formats() -> list[Format]:
    """Return the formats that this Pillow writes, each with its best options; chroma at half size is tried too."""
    from PIL import features

    found = [
        Format("jpeg", tuple({"optimize": True, "subsampling": s} for s in ("4:2:0", "4:4:4")), _jpeg_payload),
    ]
    if features.check("webp"):
        found.append(Format("webp", ({"method": 6},), _webp_payload))
    if features.check("avif"):
        found.append(Format("avif", tuple({"speed": 6, "subsampling": s} for s in ("4:2:0", "4:4:4")), _avif_payload))
    return found


def psnr(first: UInt8[np.ndarray, "3 h w"], second: UInt8[np.ndarray, "3 h w"]) -> float:
    """Return the peak signal-to-noise ratio in dB, over all values; infinite for equal pictures."""
    error = float(np.square(first.astype(np.float64) - second).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


@dataclass
class Curve:
    """A picture in a format, by quality; each setting is written once."""

    picture: UInt8[np.ndarray, "3 h w"]
    format: Format
    options: dict[str, Any]
    _known: dict[int, tuple[float, Size]] = field(default_factory=dict)

    def at(self, quality: int) -> tuple[float, Size]:
        """Return PSNR and size at a quality."""
        from PIL import Image

        if quality not in self._known:
            buffer = io.BytesIO()
            rows = np.ascontiguousarray(self.picture.transpose(1, 2, 0))
            Image.fromarray(rows).save(buffer, format=self.format.name.upper(), quality=quality, **self.options)
            data = buffer.getvalue()
            with Image.open(io.BytesIO(data)) as image:
                back = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            self._known[quality] = psnr(self.picture, back), Size(len(data), self.format.payload(data))
        return self._known[quality]

    def size_of(self, wanted: float) -> Size | None:
        """Return the size at a PSNR; None where no setting is as good, or even the lowest is better."""
        low, high = QUALITIES
        if not self.at(low)[0] <= wanted <= self.at(high)[0]:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.at(middle)[0] <= wanted else (low, middle)
        (below, small), (above, large) = self.at(low), self.at(high)
        share = 0.0 if above <= below or math.isinf(above) else (wanted - below) / (above - below)
        between = [a * (b / a) ** share for a, b in ((small.file, large.file), (small.payload, large.payload))]
        return Size(*between)


def size_at(picture: UInt8[np.ndarray, "3 h w"], format: Format, wanted: float) -> Size | None:
    """Return the least size of a picture in a format at a PSNR, over its options; None where it has no such setting."""
    sizes = [Curve(picture, format, options).size_of(wanted) for options in format.options]
    known = [size for size in sizes if size is not None]
    return min(known, key=lambda size: size.file) if known else None


def _jpeg_payload(data: bytes) -> int:
    """Bytes after the last table and before the end mark."""
    at = 2
    while at < len(data) - 4:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        at += 2 + length
        if marker == 0xDA:
            return len(data) - at - 2
    return len(data)


def _webp_payload(data: bytes) -> int:
    """Bytes of the chunks of coded picture in their RIFF file."""
    at, found = 12, 0
    while at + 8 <= len(data):
        name, length = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        found += length if name in (b"VP8 ", b"VP8L", b"ALPH") else 0
        at += 8 + length + length % 2
    return found


def _avif_payload(data: bytes) -> int:
    """Bytes of the boxes of media data."""
    at, found = 0, 0
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        length = len(data) - at if length == 0 else length
        found += length - 8 if name == b"mdat" else 0
        at += max(length, 8)
    return found
