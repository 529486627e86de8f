"""Parts: what a row of a stream is made of, and what a source of rows gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unisono.data.audit import Drop
from unisono.errors import DataError
from unisono.files import Fault, decoded, parse_json

MOST_TEXT_BYTES = 2**20


@dataclass(frozen=True)
class Part:
    """One part of a row.

    name: what the reader calls it.
    suffixes: of a tar's members that are this part; the first serves where a table's column names no file.
    columns: of a table; the first that it has is taken.
    needed: whether a row without it is dropped.
    """

    name: str
    suffixes: tuple[str, ...]
    columns: tuple[str, ...] = ()
    needed: bool = True


@dataclass(frozen=True)
class Row:
    """One row as it is stored: the bytes of each part that it has."""

    id: str
    parts: Mapping[str, bytes]

    def text(self, name: str) -> str:
        """Return a part as text in UTF-8, the byte order mark and surrounding blanks removed; raises ``Drop``."""
        data = self.parts[name]
        if len(data) > MOST_TEXT_BYTES:
            raise Drop("too large", f"{name} has {len(data)} bytes of at most {MOST_TEXT_BYTES}")
        text = decoded(data.removeprefix(b"\xef\xbb\xbf"), Path(name))
        if isinstance(text, Fault):
            raise Drop(text.reason, text.detail)
        return text.strip()

    def json(self, name: str) -> Any:
        """Return a part as JSON; raises ``Drop``."""
        try:
            return parse_json(self.text(name), Path(name))
        except DataError as error:
            raise Drop("not JSON", str(error)) from None


@dataclass(frozen=True)
class Shard:
    """One shard of a source.

    ``id`` names it in audits; ``stamp`` changes when its content does; ``size`` is its bytes, 0 where unknown.
    """

    id: str
    stamp: str
    size: int = 0


class Source(Protocol):
    """Shards of rows. The content of a shard never changes while its stamp is the same."""

    def shards(self) -> Sequence[Shard]:
        """Return the shards in a fixed order."""
        ...

    def local(self, shard: Shard) -> Path:
        """Return an uncompressed tar file with the shard's rows, fetched or unpacked now where it is not there."""
        ...
