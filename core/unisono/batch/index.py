"""Index: which rows there are and what became of them, on disk, so that memory does not grow with their number.

It is derived: made anew at each start from the parts of the manifest, and removed at the end.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unisono.batch.making import Failure
from unisono.batch.rows import Row
from unisono.batch.shards import Entry
from unisono.errors import DataError, UnisonoError
from unisono.files import shown

CACHE_KIB = 16_384
"""Memory of the index, whatever it holds."""
TABLES = (
    "CREATE TABLE made (key TEXT PRIMARY KEY, shard INTEGER, seed INTEGER, amount REAL, unit TEXT, bytes INTEGER)"
    " WITHOUT ROWID",
    "CREATE TABLE failed (key TEXT PRIMARY KEY, reason TEXT, code TEXT) WITHOUT ROWID",
    "CREATE TABLE asked (key TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE rows (number INTEGER PRIMARY KEY, file TEXT, line INTEGER, key TEXT, reason TEXT, code TEXT)",
)


class Found(NamedTuple):
    """A row of the input and what became of it: ``entry`` with its shard's number, or ``reason``."""

    number: int
    file: str
    line: int
    key: str | None
    shard: int | None
    entry: Entry | None
    reason: str | None
    code: str | None


class Index:
    """Rows that are asked for, and rows that are made, in a temporary database at ``path``."""

    def __init__(self, path: Path):
        self.path = path
        path.unlink(missing_ok=True)
        try:
            self._base = sqlite3.connect(path, isolation_level=None)
            settings = ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}", "temp_store = FILE")
            for setting in settings:
                self._base.execute(f"PRAGMA {setting}")
            self._base.execute("BEGIN")  # one transaction to the end: nothing of it need survive
            for table in TABLES:
                self._base.execute(table)
        except sqlite3.Error as error:
            raise self._lost(error) from None

    def close(self) -> None:
        """Remove the index."""
        self._base.close()
        self.path.unlink(missing_ok=True)

    def made(self, shard: int, entries: Iterable[Entry]) -> None:
        """Note what a finished shard holds."""
        rows = ((e.key, shard, e.seed, e.amount, e.unit, e.bytes) for e in entries)
        self._many("INSERT OR IGNORE INTO made VALUES (?, ?, ?, ?, ?, ?)", rows)

    def failed(self, failures: Iterable[Failure]) -> None:
        """Note rows that could not be made."""
        self._many("INSERT OR REPLACE INTO failed VALUES (?, ?, ?)", ((f.key, f.reason, f.code) for f in failures))

    def row(self, number: int, row: Row, key: str) -> bool:
        """Note a row of the input; return whether it is the first that asks for this."""
        self._do("INSERT INTO rows VALUES (?, ?, ?, ?, NULL, NULL)", (number, row.file, row.line, key))
        return self._do("INSERT OR IGNORE INTO asked VALUES (?)", (key,)).rowcount > 0

    def bad_row(self, number: int, row: Row, error: UnisonoError) -> None:
        """Note a row that asks for nothing that could be made."""
        values = (number, row.file, row.line, str(error), error.code)
        self._do("INSERT INTO rows VALUES (?, ?, ?, NULL, ?, ?)", values)

    def has(self, key: str) -> bool:
        """Whether a row is made."""
        return self._do("SELECT 1 FROM made WHERE key = ?", (key,)).fetchone() is not None

    def left_over(self) -> int:
        """Return how many rows of finished shards are not asked for by the input."""
        told = "SELECT count(*) FROM made WHERE NOT EXISTS (SELECT 1 FROM asked WHERE asked.key = made.key)"
        return self._do(told).fetchone()[0]

    def counts(self) -> tuple[int, int]:
        """Return how many rows ask for what another one asks for, and how many failed."""
        rows, bad = self._do("SELECT count(*), count(*) - count(key) FROM rows").fetchone()
        asked = self._do("SELECT count(*) FROM asked").fetchone()[0]
        failed = self._do("SELECT count(*) FROM rows JOIN failed USING (key)").fetchone()[0]
        return rows - bad - asked, bad + failed

    def found(self, failures_only: bool = False) -> Iterator[Found]:
        """Yield the rows of the input in their order."""
        wanted = "WHERE rows.reason IS NOT NULL OR failed.reason IS NOT NULL" if failures_only else ""
        cursor = self._do(
            "SELECT number, file, line, key, shard, seed, amount, unit, bytes,"
            " coalesce(rows.reason, failed.reason), coalesce(rows.code, failed.code)"
            f" FROM rows LEFT JOIN made USING (key) LEFT JOIN failed USING (key) {wanted} ORDER BY number"
        )
        for number, file, line, key, shard, seed, amount, unit, size, reason, code in cursor:
            entry = None if shard is None else Entry(key, seed, amount, unit, size)
            yield Found(number, file, line, key, shard, entry, reason, code)

    def _do(self, command: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._base.execute(command, values)
        except sqlite3.Error as error:
            raise self._lost(error) from None

    def _many(self, command: str, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            self._base.executemany(command, rows)
        except sqlite3.Error as error:
            raise self._lost(error) from None

    def _lost(self, error: sqlite3.Error) -> DataError:
        message = f"cannot write {shown(self.path)!r}: {error}; free some space, and start again"
        return DataError(message, code="write", path=self.path, value=str(error))
