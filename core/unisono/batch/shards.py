"""Shards: how a block's outputs are written, as a tar file in WebDataset's layout, as parquet, or as a folder of files.

Each output stands beside what it was made from: ``KEY.SUFFIX`` and ``KEY.json``, or the columns of a row. The same
outputs give the same bytes: no time, name or number of this machine is in them.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from unisono.extras import optional

ASIDE = ".part-"
FLUSH = 2**26
"""Bytes of media that a parquet shard holds in memory before they are written as a row group."""


@dataclass(frozen=True)
class Entry:
    """One output: its request's key and seed, its own amount with the unit, and the bytes of its file."""

    key: str
    seed: int
    amount: float | None
    unit: str | None
    bytes: int

    def about(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return what stands beside the output, as plain JSON."""
        return {**asdict(self), "request": {**fields, "seed": self.seed}}


Beside = tuple[str, bytes]
"""Times of an output: the suffix of their file, and its content."""


class Writer(Protocol):
    """Writes one shard at a place aside."""

    suffix: str

    def __init__(self, path: Path, with_times: bool = False): ...
    def add(
        self, entry: Entry, suffix: str, data: bytes, fields: dict[str, Any], times: Beside | None = None
    ) -> None: ...
    def close(self) -> None: ...
    def sync(self) -> None: ...


class TarWriter:
    """WebDataset's layout: two members for each row, three where there are times."""

    suffix = ".tar"

    def __init__(self, path: Path, with_times: bool = False):
        self.path = path
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115, closed by close()

    def add(self, entry: Entry, suffix: str, data: bytes, fields: dict[str, Any], times: Beside | None = None) -> None:
        about = json.dumps(entry.about(fields), ensure_ascii=False, sort_keys=True).encode()
        for end, content in ((suffix, data), (beside(suffix), about), *([times] if times else ())):
            member = tarfile.TarInfo(f"{entry.key}{end}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        self._tar.close()

    def sync(self) -> None:
        _sync(self.path)


class ParquetWriter:
    """A row for each output: its key, seed, amount, request as JSON, the bytes of its file, and its times if any."""

    suffix = ".parquet"

    def __init__(self, path: Path, with_times: bool = False):
        self.path = path
        arrow = optional("pyarrow", extra="batch")
        parquet = optional("pyarrow", "pyarrow.parquet", extra="batch")
        columns = {
            "key": arrow.string(),
            "seed": arrow.int64(),
            "amount": arrow.float64(),
            "unit": arrow.string(),
            "request": arrow.string(),
            "suffix": arrow.string(),
            "media": arrow.binary(),
            **({"times": arrow.string()} if with_times else {}),
        }
        self._schema = arrow.schema(list(columns.items()))
        # Media are compressed already.
        self._file = parquet.ParquetWriter(path, self._schema, compression="none")
        self._arrow = arrow
        self._rows: list[dict[str, Any]] = []
        self._held = 0

    def add(self, entry: Entry, suffix: str, data: bytes, fields: dict[str, Any], times: Beside | None = None) -> None:
        about = entry.about(fields)
        request = json.dumps(about["request"], ensure_ascii=False, sort_keys=True)
        written = {"times": times[1].decode()} if times else {}
        self._rows.append({**about, "request": request, "suffix": suffix, "media": data, **written})
        self._held += len(data)
        if self._held >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._held = [], 0

    def close(self) -> None:
        try:
            self._flush()
        finally:
            self._file.close()

    def sync(self) -> None:
        _sync(self.path)


class FolderWriter:
    """A folder of plain files."""

    suffix = ""

    def __init__(self, path: Path, with_times: bool = False):
        self.path = path
        path.mkdir()

    def add(self, entry: Entry, suffix: str, data: bytes, fields: dict[str, Any], times: Beside | None = None) -> None:
        about = json.dumps(entry.about(fields), ensure_ascii=False, sort_keys=True).encode()
        (self.path / f"{entry.key}{suffix}").write_bytes(data)
        (self.path / f"{entry.key}{beside(suffix)}").write_bytes(about)
        if times:
            (self.path / f"{entry.key}{times[0]}").write_bytes(times[1])

    def close(self) -> None:
        """Nothing is open."""

    def sync(self) -> None:
        for file in self.path.iterdir():
            _sync(file)
        _sync(self.path)


WRITERS: dict[str, type[Writer]] = {"tar": TarWriter, "parquet": ParquetWriter, "files": FolderWriter}


def beside(suffix: str) -> str:
    """Return the suffix of what an output was made from."""
    return ".about.json" if suffix == ".json" else ".json"


def aside_of(folder: Path, number: int, suffix: str) -> Path:
    """Return a new hidden place for a shard that is being written."""
    return folder / f"{ASIDE}{number:06d}-{uuid4().hex}{suffix}"


def remove(path: Path) -> None:
    """Remove a shard, if it is there."""
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_asides(folder: Path) -> None:
    """Remove what killed processes were writing."""
    for pattern in (f"{ASIDE}*", ".unisono-*"):
        for path in folder.glob(pattern):
            remove(path)


def size_of(path: Path) -> int | None:
    """Return a shard's bytes, of a folder those of its files; None where it is not there."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return None


def digest_of(path: Path) -> str:
    """Return the hash of a shard's content, of a folder that of its files' names and contents."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{file.name} {file.stat().st_size} ".encode())
        with file.open("rb") as opened:
            while part := opened.read(2**20):
                digest.update(part)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
