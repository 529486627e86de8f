"""Picture files: a coded picture as bytes, and what is needed to know whose it is.

::

    magic "\\x89uc\\n" · 2 · codec's name · fingerprint 8 B · unisono and torch, 3 B each · width, height, latents:
    varints
        · checksums of latents and picture, 4 B each · message · crc32

The magic is that of sound files, whose next byte is 1. Whole numbers are little endian, a varint has 7 bits to the
byte, low ones first. The crc32 is over all bytes before it. Sides are those of the picture; the codec pads them itself.
"""

import re
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import unisono
from unisono.errors import DataError
from unisono.files import Fault, fault_of

from unisono_codec.files.uc import AGAIN, MAGIC, PICTURE, varint

KIND = PICTURE
MAX_SIDE = 65535
MAX_BYTES = 2**28


@dataclass(frozen=True)
class PictureHeader:
    """Whose picture this is. ``versions`` are of unisono and torch, of the encoder; ``latents`` those that were kept.

    ``latent_sum`` and ``picture_sum`` are checksums (crc32) of what the decoder must find.
    """

    codec: str
    fingerprint: str
    versions: tuple[str, str]
    width: int
    height: int
    latents: int
    latent_sum: int = 0
    picture_sum: int = 0

    @classmethod
    def of(cls, codec: str, fingerprint: str, width: int, height: int, latents: int) -> "PictureHeader":
        """Return the header of a picture that is coded here and now."""
        versions = tuple(_plain(version) for version in (unisono.__version__, torch.__version__))
        return cls(codec, fingerprint, (versions[0], versions[1]), width, height, latents)

    def with_sums(self, latent_sum: int, picture_sum: int) -> "PictureHeader":
        return replace(self, latent_sum=latent_sum, picture_sum=picture_sum)

    def to_bytes(self) -> bytes:
        """Raises ``DataError`` for a number that the format has no room for."""
        name = self.codec.encode()
        if len(name) > 255 or not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise DataError(
                f"a picture of {self.width} × {self.height} pixels by {self.codec!r}: sides go up to {MAX_SIDE}, names "
                "to 255 bytes",
                code="limit",
                path="header",
                value=(self.width, self.height),
            )
        body = bytes([len(name)]) + name + bytes.fromhex(self.fingerprint)
        for version in self.versions:
            body += bytes(int(part) for part in version.split("."))
        body += b"".join(varint(number) for number in (self.width, self.height, self.latents))
        return MAGIC + bytes([KIND]) + body + struct.pack("<II", self.latent_sum, self.picture_sum)


def write_picture(header: PictureHeader, message: bytes) -> bytes:
    """Return the content of a file."""
    content = header.to_bytes() + message
    return content + struct.pack("<I", zlib.crc32(content))


def read_picture(content: bytes, name: str) -> tuple[PictureHeader, bytes]:
    """Return header and message; raises ``DataError`` for what is foreign, newer, of sound, cut off or damaged."""
    if not content.startswith(MAGIC[: len(content)]) or not content:
        raise DataError(
            f"{name}: is not a .uc file, it begins with {content[:4]!r}: give one that unisono codec encode wrote",
            code="format",
            path=name,
            value=content[:4],
        )
    kind = content[len(MAGIC)] if len(content) > len(MAGIC) else None
    if kind is not None and kind > KIND:
        raise DataError(
            f"{name}: has .uc format {kind}, this version reads up to {KIND}: upgrade unisono",
            code="version",
            path=name,
            value=kind,
        )
    if kind == 1:
        raise DataError(
            f"{name}: holds sound: decode it with the codec of sound that encoded it",
            code="type",
            path=name,
            value=kind,
        )
    body, found = content[:-4], content[-4:]
    if kind != KIND or len(content) < len(MAGIC) + 5 or struct.pack("<I", zlib.crc32(body)) != found:
        raise DataError(f"{name}: damaged or cut off: its checksum does not agree; {AGAIN}", code="damaged", path=name)
    try:
        at = len(MAGIC) + 2
        end = at + content[at - 1]
        codec = body[at:end].decode()
        fingerprint, versions = body[end : end + 8].hex(), body[end + 8 : end + 14]
        width, at = _read_varint(body, end + 14)
        height, at = _read_varint(body, at)
        latents, at = _read_varint(body, at)
        sums = struct.unpack("<II", body[at : at + 8])
        text = [".".join(str(part) for part in versions[first : first + 3]) for first in (0, 3)]
        header = PictureHeader(codec, fingerprint, (text[0], text[1]), width, height, latents, *sums)
        if not (1 <= header.width <= MAX_SIDE and 1 <= header.height <= MAX_SIDE and header.latents):
            raise ValueError("sizes that none has")
    except (ValueError, IndexError, struct.error):
        raise DataError(f"{name}: damaged: its header is none; {AGAIN}", code="damaged", path=name) from None
    return header, body[at + 8 :]


def kind_of(path: str | Path) -> int | None:
    """Return what a file holds by its first bytes: 1 for sound, 2 for a picture, None for what is no .uc file."""
    if fault_of(path) is not None:
        return None
    with Path(path).open("rb") as file:
        start = file.read(len(MAGIC) + 1)
    return start[-1] if len(start) > len(MAGIC) and start.startswith(MAGIC) else None


def content_of(path: Path) -> bytes:
    """Return the bytes of a .uc file; raises ``DataError`` where there is none."""
    if (fault := fault_of(path)) is not None:
        raise Fault(fault.reason, f"no such .uc file: {fault.detail}", fault.fix, path).error(DataError)
    if path.stat().st_size > MAX_BYTES:
        raise DataError(
            f"{path}: has {path.stat().st_size} bytes, a coded picture up to {MAX_BYTES}: give a .uc file of a picture",
            code="limit",
            path=path,
            value=path.stat().st_size,
        )
    return path.read_bytes()


def check_picture_codec(header: PictureHeader, name: str, codec: str, fingerprint: str) -> None:
    """Raise ``DataError`` where a file is another codec's than this one."""
    if (header.codec, header.fingerprint) != (codec, fingerprint):
        raise DataError(
            f"{name}: was made by {header.codec} with weights {header.fingerprint}, this codec is {codec} with weights "
            f"{fingerprint}: decode with the export that encoded it",
            code="conflict",
            path=name,
            value=header.fingerprint,
        )


def _plain(version: str) -> str:
    found = [int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3]]
    return ".".join(str(min(part, 255)) for part in (*found, *[0] * (3 - len(found))))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        byte: Any = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number that does not end")
