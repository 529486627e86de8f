"""UC format: the codes of a recording, and what is needed to know whose codes they are.

::

    magic "\\x89uc\\n" · format version 1 B · header's length 2 B · header · crc32
    chunk:   frames varint (> 0) · coding 1 B · payload's length varint · payload · crc32
    …
    end:     0 · samples of each channel varint · crc32

Whole numbers are little endian; a varint has 7 bits to the byte, low ones first. Each crc32 is over all bytes of the
file before it but the other checksums, so that no chunk can be lost or exchanged unseen; a file that was cut off
anywhere lacks its end.
A payload holds channel after channel, each frame after frame, in a frame codebook after codebook: as bits
(``⌈log2 size⌉`` for each code), or by rANS with the histogram that travels in the codec (see ``unisono.coding``); the
writer takes, chunk by chunk, what is shorter. Chunks are read and written one at a time, to pipes too.

Shapes: c channels, t frames of a chunk, q codebooks that are kept (levels).
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from jaxtyping import Int
from unisono.coding import Decoder, Encoder, Tables
from unisono.errors import DataError

MAGIC = b"\x89uc\n"
FORMAT, PICTURE = 1, 2
PACKED, RANS = 0, 1
CODINGS = {PACKED: "bits", RANS: "rANS"}
MAX_CODES = 1 << 22
"""Of a chunk: what a reader may be made to hold."""
AGAIN = "copy it again from the source"


@dataclass(frozen=True)
class Header:
    """Whose codes these are: ``codec`` is the model's name, ``fingerprint`` 16 hex digits of its weights' hash.

    ``version`` is that of the package which wrote the file. ``streams`` has (group, level) of each codebook that was
    kept, in their order.
    """

    codec: str
    fingerprint: str
    version: str
    sample_rate: int
    hop_length: int
    num_channels: int
    codebook_size: int
    streams: tuple[tuple[int, int], ...]

    @property
    def bits_per_code(self) -> int:
        return max(math.ceil(math.log2(self.codebook_size)), 1)

    @property
    def nominal_bit_rate(self) -> float:
        """Bits per second of all channels if every code were as likely as any other."""
        per_frame = self.num_channels * len(self.streams) * math.log2(self.codebook_size)
        return per_frame * self.sample_rate / self.hop_length

    def to_bytes(self) -> bytes:
        """Raises ``DataError`` for a number that the format has no room for."""
        try:
            numbers = (self.sample_rate, self.hop_length, self.codebook_size, self.num_channels, len(self.streams))
            body = _text(self.codec) + bytes.fromhex(self.fingerprint) + _text(self.version)
            body += struct.pack("<IIIBB", *numbers) + bytes(number for stream in self.streams for number in stream)
        except (struct.error, ValueError) as error:
            message = f"{self} cannot be written as a .uc header ({error}): sizes must fit the format"
            raise DataError(message, code="limit", path="header") from None
        return body

    @classmethod
    def from_bytes(cls, body: bytes) -> "Header":
        """Raises ``ValueError`` where the bytes are no header."""
        codec, rest = _read_text(body)
        fingerprint, rest = rest[:8].hex(), rest[8:]
        version, rest = _read_text(rest)
        rate, hop, size, channels, levels = struct.unpack("<IIIBB", rest[:14])
        pairs = rest[14:]
        if min(rate, hop, size, channels, levels) < 1 or len(pairs) != 2 * levels:
            raise ValueError("sizes that contradict each other")
        streams = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        return cls(codec, fingerprint, version, rate, hop, channels, size, streams)


@dataclass(frozen=True)
class Chunk:
    """A stretch of frames as it lies in the file."""

    num_frames: int
    coding: int
    payload: bytes

    def codes(self, header: Header, table: Tables | None) -> Int[np.ndarray, "c t q"]:
        """Return the codes; raises ``DataError`` for a payload that is damaged, or of a table that is not there."""
        shape = (header.num_channels, self.num_frames, len(header.streams))
        if self.coding == PACKED:
            codes = _unpack(self.payload, math.prod(shape), header.bits_per_code)
        elif table is None:
            message = "these codes need the histogram of their codec, which has none: decode with the right one"
            raise DataError(message, code="conflict", path="table")
        else:
            decoder = Decoder(self.payload)
            codes = decoder.take(np.tile(np.arange(shape[2]), shape[0] * shape[1]), table)
            decoder.finish()
        if codes.size and codes.max() >= header.codebook_size:
            message = f"code {codes.max()} of a codebook of {header.codebook_size}: damaged; {AGAIN}"
            raise DataError(message, code="damaged", path="payload", value=int(codes.max()))
        return codes.reshape(shape)


class UcWriter:
    """Writes a .uc file to anything with ``write``; not whole before ``close``.

    ``table`` is the codec's histogram of codes, None where it has none: all is then written as bits.
    """

    def __init__(self, file: BinaryIO, header: Header, table: Tables | None = None):
        self.header = header
        self.table = table
        self.num_frames = 0
        self.num_bytes = 0
        self._file = file
        self._crc = 0
        body = header.to_bytes()
        self._write(MAGIC + struct.pack("<BH", FORMAT, len(body)) + body)

    def write(self, codes: Int[np.ndarray, "c t q"]) -> None:
        """Write one chunk; one of more than ``MAX_CODES`` codes is written as several."""
        codes = np.asarray(codes, np.int64)
        wanted = (self.header.num_channels, len(self.header.streams))
        if codes.ndim != 3 or (codes.shape[0], codes.shape[2]) != wanted:
            raise ValueError(f"codes of shape {codes.shape}: give [{wanted[0]}, frames, {wanted[1]}]")
        if codes.size and not 0 <= codes.min() <= codes.max() < self.header.codebook_size:
            raise ValueError(f"codes from {codes.min()} to {codes.max()}: the codebook has {self.header.codebook_size}")
        step = MAX_CODES // math.prod(wanted)
        for first in range(0, codes.shape[1], step):
            part = codes[:, first : first + step]
            coding, payload = PACKED, _pack(part, self.header.bits_per_code)
            if self.table is not None:
                encoder = Encoder()
                encoder.put(part.ravel(), np.tile(np.arange(part.shape[2]), part.size // part.shape[2]), self.table)
                shorter = encoder.finish()
                if len(shorter) < len(payload):
                    coding, payload = RANS, shorter
            self._write(varint(part.shape[1]) + bytes([coding]) + varint(len(payload)) + payload)
            self.num_frames += part.shape[1]

    def close(self, num_samples: int) -> None:
        """Write the end; ``num_samples`` of each channel must be what the frames stand for."""
        expected = -(-num_samples // self.header.hop_length)
        if expected != self.num_frames:
            raise ValueError(f"{num_samples} samples are {expected} frames, {self.num_frames} were written")
        self._write(varint(0) + varint(num_samples))

    def _write(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        checked = data + struct.pack("<I", self._crc)
        self._file.write(checked)
        self.num_bytes += len(checked)


class UcReader:
    """Reads a .uc file from anything with ``read``, chunk by chunk.

    The header is read at once; ``num_samples`` and ``num_frames`` are known when all ``chunks`` were. Raises
    ``DataError`` naming the file where it is foreign, newer, cut off or damaged.
    """

    def __init__(self, file: BinaryIO, name: str = "the file"):
        self.name = name
        self.num_samples: int | None = None
        self.num_frames = 0
        self.num_bytes = 0
        self._file = file
        self._crc = 0
        start = file.read(len(MAGIC) + 1)
        if not MAGIC.startswith(start[: len(MAGIC)]):
            message = (
                f"{name}: is not a .uc file, it begins with {start[:4]!r}: give one that unisono codec encode wrote"
            )
            raise DataError(message, code="format", path=name, value=start[:4])
        if len(start) == len(MAGIC) + 1 and start[-1] == PICTURE:
            message = f"{name}: holds a picture: decode it with the codec of pictures that encoded it"
            raise DataError(message, code="type", path=name, value=PICTURE)
        if len(start) == len(MAGIC) + 1 and start[-1] > FORMAT:
            message = f"{name}: has .uc format {start[-1]}, this version reads up to {FORMAT}: upgrade unisono"
            raise DataError(message, code="version", path=name, value=start[-1])
        self._where = "its header"
        self._take(start, len(MAGIC) + 1)
        if start[-1] < 1:
            raise DataError(
                f"{name}: has .uc format 0, which there never was: {AGAIN}", code="damaged", path=name, value=start[-1]
            )
        (length,) = struct.unpack("<H", self._read(2))
        body = self._read(length)
        self._check()
        try:
            self.header = Header.from_bytes(body)
        except (ValueError, IndexError, struct.error) as error:
            raise DataError(
                f"{name}: its header makes no sense ({error}): {AGAIN}", code="damaged", path=name
            ) from None

    def chunks(self) -> Iterator[Chunk]:
        """Yield chunk after chunk, each checked; the file must end where it says."""
        header = self.header
        per_frame = header.num_channels * len(header.streams)
        number = 0
        while True:
            number += 1
            self._where = f"chunk {number}"
            num_frames = self._read_varint()
            if num_frames == 0:
                break
            coding, length = self._read(1)[0], self._read_varint()
            packed = -(-num_frames * per_frame * header.bits_per_code // 8)
            if num_frames * per_frame > MAX_CODES or coding not in CODINGS or length > packed:
                raise self._damaged()
            payload = self._read(length)
            self._check()
            if coding == PACKED and length != packed:
                raise self._damaged()
            self.num_frames += num_frames
            yield Chunk(num_frames, coding, payload)
        self._where = "its end"
        num_samples = self._read_varint()
        self._check()
        if -(-num_samples // header.hop_length) != self.num_frames:
            raise self._damaged()
        if rest := self._file.read(1):
            raise DataError(
                f"{self.name}: goes on after its end with {rest!r}: {AGAIN}", code="damaged", path=self.name, value=rest
            )
        self.num_samples = num_samples

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        self._take(data, length)
        return data

    def _take(self, data: bytes, length: int) -> None:
        self.num_bytes += len(data)
        if len(data) < length:
            message = f"{self.name}: truncated: it ends in {self._where}, after {self.num_bytes} bytes; {AGAIN}"
            raise DataError(message, code="damaged", path=self.name, value=self._where)
        self._crc = zlib.crc32(data, self._crc)

    def _check(self) -> None:
        expected = self._crc
        if self._read(4) != struct.pack("<I", expected):
            raise self._damaged()
        self._crc = expected  # running on over a checksum would make every sum that follows the same

    def _read_varint(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self._read(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise self._damaged()

    def _damaged(self) -> DataError:
        return DataError(
            f"{self.name}: damaged: {self._where} is not what was written; {AGAIN}",
            code="damaged",
            path=self.name,
            value=self._where,
        )


def check_codec(header: Header, name: str, own: Header) -> None:
    """Raise ``DataError`` where codes are another codec's than ``own`` says (its channels and version do not count)."""
    theirs, ours = (f"{h.codec} with weights {h.fingerprint}" for h in (header, own))
    if (header.codec, header.fingerprint) != (own.codec, own.fingerprint):
        message = f"{name}: was made by {theirs}, this codec is {ours}: decode with the export that encoded it"
        raise DataError(message, code="conflict", path=name, value=header.fingerprint)
    same = (header.sample_rate, header.hop_length, header.codebook_size)
    if same != (own.sample_rate, own.hop_length, own.codebook_size) or (
        header.streams != own.streams[: len(header.streams)]
    ):
        raise DataError(
            f"{name}: its sizes are not those of {ours}, which it names: {AGAIN}", code="damaged", path=name
        )


def _pack(codes: Int[np.ndarray, "..."], width: int) -> bytes:
    shifts = np.arange(width - 1, -1, -1)
    return np.packbits((codes.ravel()[:, None] >> shifts & 1).astype(np.uint8)).tobytes()


def _unpack(payload: bytes, count: int, width: int) -> Int[np.ndarray, "n"]:
    bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=count * width)
    return bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))


def varint(value: int) -> bytes:
    """Return a whole number in groups of 7 bits, low ones first."""
    groups: list[int] = []
    while True:
        groups.append(value & 127)
        value >>= 7
        if not value:
            return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def _text(text: str) -> bytes:
    encoded = text.encode()
    return bytes([len(encoded)]) + encoded


def _read_text(data: bytes) -> tuple[str, bytes]:
    end = 1 + data[0]
    if len(data) < end:
        raise ValueError("a name that is cut off")
    return data[1:end].decode(), data[end:]
