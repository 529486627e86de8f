"""Folder: where a batch writes, what of it is finished, and the check that it is the same batch.

::

    spoken/
        batch.json                the settings, and the model's revision
        000000.tar 000001.tar     shards, each whole
        manifest/000000.jsonl     of each shard: its bytes and hash, then a line for each of its rows
        manifest.jsonl            a line for each row of the input, in its order; there once all of them are made

A shard is written aside by whoever makes it. The process that holds the folder's lock alone puts it in its place: first
its part of the manifest, then the shard. A part without its shard, or with one of another size, does not count, and its
rows are made again; a shard without a part is a stranger's.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unisono.batch.index import Found
from unisono.batch.making import REMEDY, Done
from unisono.batch.shards import WRITERS, Entry, digest_of, remove, remove_asides, size_of
from unisono.errors import DataError, RequestError
from unisono.files import is_file, lock_folder, read_json, shown, writing_to, written_aside

SETTINGS = "batch.json"
MANIFEST = "manifest.jsonl"
PARTS = "manifest"
FORMAT = 1
ASKED_BY = {
    "batch_size": "--batch-size",
    "shard_size": "--shard-size",
    "suffix": "--suffix",
    "times": "--times",
    "times_options": "--times-option",
    "shards": "--shards",
    "threads": "--threads",
    "device": "--device",
}
"""Settings that change what is written, by the flag that gives them."""


class Destination:
    """The folder of a batch, locked until ``close``.

    Raises ``RequestError`` where another batch works in it, where it holds files of something else, or was begun with
    another model or other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path, self.parts = path, path / PARTS
        self.settings = {"format": FORMAT, **settings}
        self.suffix = WRITERS[settings["shards"]].suffix
        self.told: list[str] = []
        self.numbers: set[int] = set()
        self._next = 0
        with writing_to(path, RequestError):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path, "makes a batch in", "choose another folder", RequestError)
        try:
            self._check()
            with writing_to(path, RequestError):
                self.tidy()
                if not is_file(path / SETTINGS):
                    with written_aside(path / SETTINGS, RequestError) as aside:
                        aside.write_text(json.dumps(self.settings, indent=1) + "\n", encoding="utf-8")
                self.parts.mkdir(exist_ok=True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another batch work in the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _check(self) -> None:
        """Raise where the folder is not one of this batch."""
        file = self.path / SETTINGS
        if not is_file(file):
            others = sorted(entry.name for entry in os.scandir(self.path) if not entry.name.startswith("."))
            if others:
                raise RequestError(
                    f"{shown(self.path)!r} holds {shown(others[0])!r} and no {SETTINGS}: it is no folder of a batch; "
                    "choose a new or an empty one",
                    code="exists",
                    path=self.path,
                    value=others[0],
                )
            return
        found = read_json(file, RequestError)
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise RequestError(
                f"{shown(file)!r} is no {SETTINGS} of a batch: choose another folder", code="format", path=file
            )
        if found["format"] != FORMAT:
            raise RequestError(
                f"{shown(self.path)!r} is of batch format {found['format']}, this version reads {FORMAT}: "
                f"{'upgrade unisono, or ' if found['format'] > FORMAT else ''}choose another folder",
                code="version",
                path=file,
                value=found["format"],
            )
        for name, value in self.settings.items():
            other = found.get(name)
            if other == value:
                continue
            if name in ASKED_BY:
                asked = f"give {ASKED_BY[name]}={other}" if other is not None else f"leave {ASKED_BY[name]} out"
                fix = f"{asked}, or choose another folder"
                message = f"{shown(self.path)!r} was begun with {name} {other!r:.80}, not {value!r:.80}: {fix}"
            else:
                was, now = (
                    f"{settings.get('model')} (revision {str(settings.get('revision'))[:12]})"
                    for settings in (found, self.settings)
                )
                message = f"{shown(self.path)!r} holds what {was:.120} made, not {now:.120}: choose another folder"
            raise RequestError(message, code="conflict", path=file, value=other)

    def finished(self, verify: bool = False) -> Iterator[tuple[int, list[Entry]]]:
        """Yield the number and the rows of each finished shard; what is not whole is removed, and told.

        Args:
            verify: also compare the hash of each shard's content.
        """
        noted: set[int] = set()
        for part in sorted(self.parts.glob("*.jsonl")):
            if not re.fullmatch(r"\d{6,}", part.stem):
                continue
            number = int(part.stem)
            try:
                about, entries = _read_part(part)
                why = self._why_not_whole(number, about, verify)
            except (ValueError, KeyError, TypeError) as error:
                entries, why = [], f"its part of the manifest is damaged ({' '.join(str(error).split())[:80]})"
            if why:
                with writing_to(self.path, RequestError):
                    part.unlink()
                    remove(self._shard(number))
                self.told.append(f"{self.name_of(number)}: {why}; its rows are made again")
                continue
            noted.add(number)
            yield number, entries
        self.numbers = noted
        known = {self.name_of(number) for number in noted}
        for entry in sorted(os.scandir(self.path), key=lambda entry: entry.name):
            if re.fullmatch(rf"\d{{6,}}{re.escape(self.suffix)}", entry.name) and entry.name not in known:
                raise RequestError(
                    f"{shown(self.path)!r} holds {entry.name!r}, which its manifest does not know: move it away",
                    code="exists",
                    path=entry.path,
                    value=entry.name,
                )

    def _why_not_whole(self, number: int, about: dict[str, Any], verify: bool) -> str | None:
        size = size_of(self._shard(number))
        if size is None:
            return "it is not there"
        if size != about["bytes"]:
            return f"it has {size} of {about['bytes']} bytes"
        if verify and digest_of(self._shard(number)) != about["sha256"]:
            return "its content has changed"
        return None

    def next_number(self) -> int:
        """Return the smallest number that no shard has yet."""
        while self._next in self.numbers:
            self._next += 1
        self._next += 1
        return self._next - 1

    def begin(self) -> None:
        """Take away the manifest of the whole, which is not of the input that is made now."""
        with writing_to(self.path, RequestError):
            (self.path / MANIFEST).unlink(missing_ok=True)

    def commit(self, done: Done) -> None:
        """Put a shard in its place; raises ``DataError`` where that cannot be."""
        if done.aside is None:
            return
        shard = self._shard(done.number)
        about = {"shard": shard.name, "bytes": size_of(done.aside), "sha256": digest_of(done.aside)}
        about["rows"] = len(done.entries)
        lines = [about, *(asdict(entry) for entry in done.entries)]
        with written_aside(self.parts / f"{done.number:06d}.jsonl", DataError, REMEDY) as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        with writing_to(shard, DataError, REMEDY):
            os.replace(done.aside, shard)
            _sync_folder(self.path)
        self.numbers.add(done.number)

    def write_manifest(self, found: Iterator[Found]) -> None:
        """Write a line for each row of the input."""
        revision, suffix = self.settings["revision"], self.settings["suffix"]
        with (
            written_aside(self.path / MANIFEST, DataError, REMEDY) as aside,
            aside.open("w", encoding="utf-8") as file,
        ):
            for row in found:
                line: dict[str, Any] = {"row": row.number, "file": row.file, "line": row.line, "key": row.key}
                if row.entry is None:
                    line |= {"error": row.reason or "not made", "code": row.code}
                else:
                    place = {"shard": self.name_of(row.shard or 0), "name": f"{row.entry.key}{suffix}"}
                    line |= {**asdict(row.entry), **place, "revision": revision}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def tidy(self) -> None:
        """Remove what processes that are gone left behind."""
        for folder in (self.path, self.parts):
            remove_asides(folder)

    def name_of(self, number: int) -> str:
        """Return a shard's name."""
        return f"{number:06d}{self.suffix}"

    def _shard(self, number: int) -> Path:
        return self.path / self.name_of(number)


def _read_part(path: Path) -> tuple[dict[str, Any], list[Entry]]:
    """The head and the rows of a part; raises ``ValueError``, ``KeyError`` or ``TypeError`` for a damaged one."""
    about, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not isinstance(about["bytes"], int) or not isinstance(about["sha256"], str):
        raise TypeError("no size or hash")
    if about["rows"] != len(rows):
        raise ValueError(f"{len(rows)} of {about['rows']} rows")
    return about, [Entry(**row) for row in rows]


def _sync_folder(path: Path) -> None:
    if os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(number)
    finally:
        os.close(number)
