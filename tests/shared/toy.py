"""Toy: a model that takes no time, for what is made of many requests in many processes.

Texts that begin with certain words do what a real model does on a bad day: ``bad`` is refused, ``boom`` raises what
nobody expects, ``die`` ends the process.
"""

import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn
from unisono import Model, Request, Synthesizer, Text
from unisono.data import item_generator
from unisono.errors import RequestError
from unisono.request import file_of


class ToyRequest(Request):
    text: str = Field(min_length=1)
    level: float = Field(default=1.0, ge=0, le=4)
    numbers: tuple[int, ...] = ()


class Toy(Model):
    """Writes what it was asked, and numbers that depend on the seed and, were it careless, on the batch."""

    Request: ClassVar[type[ToyRequest]] = ToyRequest
    Media: ClassVar[type[Text]] = Text
    training_only: ClassVar[tuple[str, ...]] = ("helper",)

    def __init__(self, weight: float = 0.5):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.constant_(self.layer.weight, weight)
        nn.init.zeros_(self.layer.bias)
        self.helper = nn.Linear(4, 4)  # as an aligner: drawn anew by each process

    def synthesize(self, requests: Sequence[Any], generator=None, on_step=None) -> list[Text]:
        made = []
        for request in requests:
            if request.text.startswith("bad"):
                raise RequestError("this is a bad one", code="value", path="text", value=request.text)
            if request.text.startswith("boom"):
                raise IndexError("nobody expects it")
            if request.text.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            drawn = torch.randn(1, generator=item_generator(request.seed, "toy", 0))
            value = float(self.layer(drawn * request.level))
            made.append(Text(f"{request.text} {value!r} " + "x" * (len(request.text) % 7)))
        return made


class FileRequest(Request):
    text: str = Field(json_schema_extra=file_of(".md", ".note"))
    level: float = Field(default=1.0, ge=0, le=4)


class FileToy(Toy):
    """Writes what it read in a file."""

    Request: ClassVar[type[FileRequest]] = FileRequest  # pyright: ignore[reportIncompatibleVariableOverride]

    def synthesize(self, requests: Sequence[Any], generator=None, on_step=None) -> list[Text]:
        made = []
        for request in requests:
            content = Path(request.text).read_text(encoding="utf-8")
            if content.startswith("bad"):
                raise RequestError(f"{request.text} is a bad one", code="value", path="text", value=content)
            drawn = torch.randn(1, generator=item_generator(request.seed, "toy", 0))
            made.append(Text(f"{content} {float(drawn * request.level)!r}"))
        return made


def open_file_toy() -> Synthesizer:
    return Synthesizer(FileToy(), {"model": "toy/file"})


def open_toy(weight: float = 0.5) -> Synthesizer:
    return Synthesizer(Toy(weight), {"model": "toy/toy"})


def open_where_files_are_short() -> Synthesizer:
    """Have the system refuse to let a file of this process grow beyond 40,000 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write says so
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return open_toy()


def rows_of(dest: Path) -> dict[str, bytes]:
    """Return the media of every shard of a folder by their names; each once."""
    import tarfile

    import pyarrow.parquet as parquet

    found: list[tuple[str, bytes]] = []
    for path in sorted(dest.iterdir()):
        if path.name.startswith("."):
            continue  # half written, of a killed process
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    opened = archive.extractfile(member)
                    assert opened is not None
                    found.append((member.name, opened.read()))
        elif path.suffix == ".parquet":
            for row in parquet.read_table(path).to_pylist():
                found.append((f"{row['key']}{row['suffix']}", row["media"]))
        elif path.name.isdecimal():
            found += [(file.name, file.read_bytes()) for file in sorted(path.iterdir())]
    media = [(name, data) for name, data in found if not name.endswith(".json")]
    assert len({name for name, _ in media}) == len(media), "a row is there twice"
    return dict(media)
