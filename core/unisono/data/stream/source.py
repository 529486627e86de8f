"""Sources: tar shards on disk, and tables of Hugging Face's ``datasets`` in streaming mode.

A root is a shard, a folder of shards, a pattern such as ``train-{000..009}.tar`` or ``train-*.tar``, or
``hf:NAME?split=train`` with the arguments of ``datasets.load_dataset``: ``name``, ``split``, ``revision``,
``data_dir``, ``data_files``; NAME is a data set of the hub, a folder, or a format such as ``parquet``. Several roots
with names, ``name=ROOT,name=ROOT``, are corpora side by side, which ``run.mixing`` weights by their names.
"""

import glob
import gzip
import hashlib
import io
import json
import lzma
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl

from unisono.data.audit import Audit
from unisono.data.known import stamp_of
from unisono.data.stream.listing import PACKED, find_shards
from unisono.data.stream.parts import Part, Shard, Source
from unisono.data.stream.spool import Spool
from unisono.errors import DataError, MissingExtra, did_you_mean
from unisono.files import is_file, is_folder, shown

HUB = "hf:"
ARGUMENTS = ("name", "split", "revision", "data_dir", "data_files")
_NAMED = re.compile(r"[\w.-]+=")


def open_source(root: str, parts: Sequence[Part], spool_gb: float = 20.0, audit: Audit | None = None) -> Source:
    """Return the source that a root names; raises ``DataError`` where there is none."""
    if _NAMED.match(root) and not is_file(Path(root)) and not is_folder(Path(root)):
        return JoinedSource(
            {name: open_source(own, parts, spool_gb, audit) for name, own in _named_roots(root).items()}
        )
    if root.startswith(HUB):
        return TableSource(root, parts, spool_gb)
    if re.match(r"[a-z][a-z0-9+.-]+:", root) and not is_file(Path(root)):
        raise DataError(
            f"data.root={root!r:.200} is no path: fetch the shards first, or stream a data set as hf:NAME?split=train",
            code="unsupported",
            path="data.root",
            value=root,
        )
    return TarSource(root, spool_gb, audit)


class JoinedSource:
    """Corpora by name, side by side; a shard's id begins with its corpus' name."""

    def __init__(self, sources: Mapping[str, Source]):
        self.sources = dict(sources)
        self.corpora = list(self.sources)

    def corpus_of(self, shard: Shard) -> str:
        """Return the name of a shard's corpus."""
        return shard.id.partition("/")[0]

    def shards(self) -> list[Shard]:
        return [
            replace(shard, id=f"{name}/{shard.id}")
            for name, source in self.sources.items()
            for shard in source.shards()
        ]

    def local(self, shard: Shard) -> Path:
        name, _, own = shard.id.partition("/")
        return self.sources[name].local(replace(shard, id=own))


class TarSource:
    """WebDataset shards on disk, read in place; compressed ones are unpacked into the spool."""

    def __init__(self, root: str, spool_gb: float = 20.0, audit: Audit | None = None):
        self.files = dict(find_shards(root, audit))
        self.spool = Spool("tar", spool_gb)

    def shards(self) -> list[Shard]:
        return [Shard(id, stamp_of(path), path.stat().st_size) for id, path in self.files.items()]

    def local(self, shard: Shard) -> Path:
        path = self.files[shard.id]
        unpack = next((opened for suffix, opened in PACKED.items() if path.name.lower().endswith(suffix)), None)
        if unpack is None:
            return path

        def make(aside: Path) -> None:
            try:
                with unpack(path, "rb") as source, aside.open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
            except (EOFError, lzma.LZMAError, gzip.BadGzipFile, ValueError):
                return  # what came out is kept: the shard's index says that it is damaged
            except OSError as error:
                if error.errno is not None:  # the disk's; a decompressor's errors have no number
                    raise

        return self.spool.get(shard, make)


class TableSource:
    """A data set of the hub, or files in one of its formats, shard by shard through ``datasets`` in streaming mode.

    A shard's rows are written to the spool as a tar file: media as they are stored, undecoded; all other columns
    together as ``.json``.
    """

    def __init__(self, root: str, parts: Sequence[Part], spool_gb: float = 20.0):
        self.root, self.parts = root, tuple(parts)
        self.arguments = _arguments(root)
        self.spool = Spool(f"table 1 {root} {parts}", spool_gb)
        self._table: Any = None

    @property
    def table(self) -> Any:
        """The iterable data set, its media undecoded."""
        if self._table is None:
            self._table = _opened(self.root, self.arguments)
        return self._table

    def shards(self) -> list[Shard]:
        files = self.arguments["options"].get("data_files")
        known = [stamp_of(Path(file)) for file in files or () if is_file(Path(file))]
        revision = hashlib.blake2b(repr((self.root, known, str(self.table.features))).encode(), digest_size=8)
        count = self.table.num_shards
        return [Shard(f"shard-{i:05d}", f"{revision.hexdigest()} {i} of {count}") for i in range(count)]

    def local(self, shard: Shard) -> Path:
        return self.spool.get(shard, lambda aside: self._write(shard, aside))

    def _write(self, shard: Shard, aside: Path) -> None:
        number, _, count = shard.stamp.split(" ", 1)[1].split(" ")
        rows = self.table.shard(num_shards=int(count), index=int(number))
        with tarfile.open(aside, "w", format=tarfile.GNU_FORMAT) as archive:
            for place, row in enumerate(_told(rows, self.root)):
                for suffix, data in _members(row, self.parts):
                    member = tarfile.TarInfo(f"{place:09d}{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}


def _named_roots(root: str) -> dict[str, str]:
    """Return roots by name; a comma parts two of them only where a name and ``=`` follow."""
    found: dict[str, str] = {}
    for part in re.split(rf",(?={_NAMED.pattern})", root):
        name, _, own = part.partition("=")
        if not own or name in found:
            raise DataError(
                f"data.root={root!r:.200}: {shown(name)} {'is given twice' if own else 'has no root'}: give "
                "name=ROOT,name=ROOT",
                code="conflict" if own else "missing",
                path="data.root",
                value=name,
            )
        found[name] = own
    return found


def _members(row: Mapping[str, Any], parts: Sequence[Part]) -> Iterator[tuple[str, bytes]]:
    """Yield a table's row as members of a tar: suffix and bytes."""
    taken = set()
    for part in parts:
        column = next((name for name in part.columns if row.get(name) is not None), None)
        if column is None:
            continue
        value = row[column]
        if isinstance(value, Mapping) and "bytes" in value:
            data = value["bytes"]
            if data is None:
                path = value.get("path")
                if not isinstance(path, str) or not is_file(Path(path)):
                    continue
                data = Path(path).read_bytes()
            suffix = PurePosixPath(str(value.get("path") or "")).suffix.lower()
            yield suffix if suffix in part.suffixes else part.suffixes[0], bytes(data)
        elif isinstance(value, bytes):
            yield part.suffixes[0], value
        elif isinstance(value, str):
            yield part.suffixes[0], value.encode("utf-8", "surrogatepass")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield part.suffixes[0], str(value).encode()
        else:
            yield part.suffixes[0], json.dumps(value, default=str).encode()
        taken.add(column)
    if not any(".json" in part.suffixes and taken & set(part.columns) for part in parts):
        rest = {name: value for name, value in row.items() if name not in taken and _is_plain(value)}
        yield ".json", json.dumps(rest, default=str).encode()


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _arguments(root: str) -> dict[str, Any]:
    name, _, query = root.removeprefix(HUB).partition("?")
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in ARGUMENTS:
            raise DataError(
                f"data.root={root!r:.200}: unknown argument {shown(key)}{did_you_mean(key, ARGUMENTS)}",
                code="unknown",
                path="data.root",
                value=key,
            )
        options[key] = value
    if not name:
        raise DataError(
            f"data.root={root!r:.200} names no data set: hf:NAME?split=train", code="missing", path="data.root"
        )
    if "data_files" in options:
        files = [file for pattern in options["data_files"].split(",") for file in sorted(glob.glob(pattern))]
        options["data_files"] = files or options["data_files"].split(",")
    return {"path": name, "options": {"split": "train", **options}}


def _opened(root: str, arguments: Mapping[str, Any]) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "datasets") from None
    try:
        table = datasets.load_dataset(arguments["path"], streaming=True, **arguments["options"])
        if table.features is None:  # told by no metadata: found in the first row
            table = table._resolve_features()
    except Exception as error:  # of the hub, the network, the file system and the readers of ten formats
        raise DataError(
            f"data.root={root!r:.200} cannot be opened ({_said(error)}); check its name and split",
            code="missing",
            path="data.root",
            value=root,
        ) from error
    for name, feature in (table.features or {}).items():
        if getattr(feature, "decode", False):
            table = table.cast_column(name, type(feature)(decode=False))
    return table


def _told(rows: Any, root: str) -> Iterator[Mapping[str, Any]]:
    try:
        yield from rows
    except Exception as error:
        raise DataError(
            f"data.root={root!r:.200}: reading on failed ({_said(error)})",
            code="failed",
            path="data.root",
            value=root,
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
