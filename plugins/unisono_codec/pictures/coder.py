"""PictureCoder: a codec's network in float64, pictures to bytes and back, and files.

The encoder decodes what it wrote, by the decoder's way and on one thread, and refuses where that is another
picture; see ``coding`` for what other machines can rely on.

Shapes: h w height and width in pixels.
"""

import copy
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from unisono import Image
from unisono.errors import DataError, RequestError
from unisono.files import written_aside

from unisono_codec.files.recordings import fingerprint
from unisono_codec.pictures.coding import GUARD, SHIFTS, Reader, Unsure, Writer
from unisono_codec.pictures.picture_file import (
    PictureHeader,
    check_picture_codec,
    content_of,
    read_picture,
    write_picture,
)
from unisono_codec.pictures.reading import check_size, read_picture_file


@dataclass(frozen=True, eq=False)
class Coded:
    """A coded picture: ``content`` are the bytes of its file, ``pixels`` what is decoded of them.

    Attributes:
        message_bytes: of ``content``, those that are not header or checksum.
        estimated_bits: what the message needs by its tables.
        latent_bits: the same by latent.
        nearest: least distance of a prediction from a border, where one deviates by it another table is taken.
        notes: what was done to the picture before.
    """

    header: PictureHeader
    content: bytes
    pixels: UInt8[np.ndarray, "3 h w"]
    message_bytes: int
    estimated_bits: float
    latent_bits: dict[int, float]
    nearest: float
    notes: tuple[str, ...] = ()

    @property
    def bits_per_pixel(self) -> float:
        return 8 * len(self.content) / (self.header.width * self.header.height)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded picture; ``same`` says whether it is the encoder's to the last bit."""

    header: PictureHeader
    pixels: UInt8[np.ndarray, "3 h w"]
    same: bool


class PictureCoder:
    """Codes and decodes with a copy of a codec's network, made once."""

    def __init__(self, codec: Any):
        self.codec = codec
        self.device = torch.device("cpu") if codec.device.type == "mps" else codec.device  # which has no float64
        self.net = copy.deepcopy(codec.net).to(self.device).double().eval().requires_grad_(False)
        self.name = codec.recipe.get("model", {}).get("name", type(codec).__name__)
        self.fingerprint = fingerprint(codec)

    @torch.no_grad()
    def encode(self, pixels: UInt8[np.ndarray, "3 h w"], latents: int | None = None, verify: bool = True) -> Coded:
        """Code a picture with the first ``latents`` latents (all, for None).

        Raises ``RequestError`` for too many pixels, for latents that the codec lacks, and where the bytes could be
        another picture elsewhere.
        """
        kept = self.codec.check_latents(latents)
        height, width = pixels.shape[1:]
        check_size(height, width)
        shape = self._shape(height, width)
        given = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).double()[None] / 127.5 - 1
        stride = self.net.stride
        given = F.pad(given, (0, -width % stride, 0, -height % stride), mode="replicate")
        writer = Writer(kept, self.net.scales)
        try:
            made = self._pixels(self.net.descend(shape, writer, self.net.analyse(given)), height, width)
        except Unsure:
            raise RequestError(
                f"the codec's predictions are no numbers, or lie within {GUARD} of a border whatever the {SHIFTS} "
                "shifts: another machine could decode noise, so nothing is written; train the codec on",
                code="failed",
                path="image",
            ) from None
        message = writer.encoder.finish()
        header = PictureHeader.of(self.name, self.fingerprint, width, height, kept)
        header = header.with_sums(writer.sum, zlib.crc32(made.tobytes()))
        content = write_picture(header, message)
        if verify:
            with _one_thread():
                again = self.decode(content, "the bytes just written")
            if not again.same:
                raise RequestError(
                    "decoding the bytes again gave another picture, so nothing is written: this machine's arithmetic "
                    "does not repeat itself",
                    code="failed",
                    path="image",
                )
        return Coded(header, content, made, len(message), writer.bits, writer.by_latent, writer.nearest)

    @torch.no_grad()
    def decode(self, content: bytes, name: str = "the file", latents: int | None = None) -> Decoded:
        """Return the picture of a file's bytes; of its first ``latents`` latents, where given.

        Raises ``DataError`` for what is no such file, damaged, another codec's, or was predicted otherwise where it was
        written; ``RequestError`` for latents that the file lacks.
        """
        header, message = read_picture(content, name)
        check_picture_codec(header, name, self.name, self.fingerprint)
        check_size(header.height, header.width)
        if header.latents > self.net.num_latents:
            raise DataError(
                f"{name}: damaged: {header.latents} latents of a codec of {self.net.num_latents}",
                code="damaged",
                path=name,
                value=header.latents,
            )
        kept = header.latents if latents is None else latents
        if not 1 <= kept <= header.latents:
            raise RequestError(
                f"latents={kept} must be from 1 to {header.latents}, which {name} holds",
                code="range",
                path="latents",
                value=kept,
            )
        shape = self._shape(header.height, header.width)
        try:
            reader = Reader(message, kept, self.net.scales)
            made = self._pixels(self.net.descend(shape, reader), header.height, header.width)
            if kept == header.latents:
                reader.decoder.finish()
        except DataError:
            raise self._otherwise(header, name) from None
        if kept == header.latents and reader.sum != header.latent_sum:
            raise self._otherwise(header, name)
        return Decoded(header, made, kept == header.latents and zlib.crc32(made.tobytes()) == header.picture_sum)

    def _shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 1, -(-height // self.net.stride), -(-width // self.net.stride)

    @staticmethod
    def _pixels(made: Float[Tensor, "1 3 y x"], height: int, width: int) -> UInt8[np.ndarray, "3 h w"]:
        values = ((made[0, :, :height, :width].clamp(-1, 1) + 1) * 127.5).round()
        return np.ascontiguousarray(values.cpu().numpy().astype(np.uint8))

    def _otherwise(self, header: PictureHeader, name: str) -> DataError:
        """The file is whole, its checksum says so; its latents are others than were written."""
        unisono, torch_version = header.versions
        return DataError(
            f"{name}: this machine predicts other latents (torch {torch.__version__} on {self.device}) than the one "
            f"that wrote it (unisono {unisono}, torch {torch_version}), so the picture would be noise: decode with "
            "those versions",
            code="version",
            path=name,
            value=header.versions,
        )


def encode_picture(codec: Any, source: str | Path, dest: str | Path, latents: int | None = None) -> Coded:
    """Code a picture's file into a .uc file; raises as ``PictureCoder.encode`` does, and then leaves nothing there."""
    read = read_picture_file(source)
    coded = PictureCoder(codec).encode(read.pixels, latents)
    with written_aside(Path(dest), RequestError) as part:
        part.write_bytes(coded.content)
    return Coded(**{**vars(coded), "notes": read.notes})


def decode_picture(codec: Any, source: str | Path, dest: str | Path, latents: int | None = None) -> Decoded:
    """Decode a .uc file of a picture into a picture's file; raises as ``PictureCoder.decode`` does."""
    Image.check_path(dest)
    decoded = PictureCoder(codec).decode(content_of(Path(source)), str(source), latents)
    Image(decoded.pixels).save(dest)
    return decoded


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: where there were several, sums are now of other parts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
