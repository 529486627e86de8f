"""Index: where each row of a stream lies and how large it is, found in one pass, kept on disk and mapped into memory.

Each shard is read once, shards side by side in several processes; what was found is noted per shard, so that a pass
that is killed goes on where it was, and a corpus that grows costs what is new. All shards together make one folder of
arrays, which processes of a machine share: a row costs some 100 bytes of disk and no memory of its own.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int

from unisono.data.audit import Audit, Drop
from unisono.data.cache import read_entry, write_entry
from unisono.data.folder import CacheError, cache_root, spare_root
from unisono.data.parallel import map_processes
from unisono.data.sampler import derive_seed
from unisono.data.stream.parts import Part, Row, Shard, Source
from unisono.data.stream.tar import rows_of
from unisono.errors import DataError
from unisono.files import checksum, folder_written_aside, lone_surrogate, read_json

VERSION = "stream 1"
MOST_LISTED = 1000
"""Drops that a shard lists with their details; more are counted by reason."""


@dataclass(frozen=True)
class Examined:
    """What the pass finds of a row.

    size: a measure of length; rows of similar size share a batch.
    amount: how much it is, in the audit's unit.
    group: a class, a corpus or another part that batches can be weighted by.
    same: rows with the same text here are never divided between training and validation; by default the id.
    """

    size: int
    amount: float = 0.0
    group: str = ""
    same: str = ""


Examine = Callable[[Row], Examined]
"""Looks at a row; picklable; raises ``Drop`` for one that cannot be used."""


class StreamIndex:
    """All rows of a stream that can be used, in the order of the shards.

    Attributes:
        places: int64 [n, p, 2], the first byte of each part and its bytes; (-1, 0) for a part that a row lacks.
        sizes: int64 [n]. ranks: int64 [n], what rows are held out by. amounts: float64 [n], in the audit's unit.
        shard_of, group_of: int32 [n].
        shards, groups: their names.
    """

    ARRAYS: ClassVar[dict[str, type]] = {
        "places": np.int64,
        "sizes": np.int64,
        "ranks": np.int64,
        "amounts": np.float64,
        "shard_of": np.int32,
        "group_of": np.int32,
        "ids": np.uint8,
        "id_ends": np.int64,
    }

    def __init__(self, folder: Path, parts: Sequence[Part]):
        self.folder, self.parts = folder, tuple(parts)
        facts = read_json(folder / "index.json")
        self.facts: dict[str, Any] = facts
        self.shards = [Shard(*shard) for shard in facts["shards"]]
        self.groups: list[str] = facts["groups"]
        self._map()

    def _map(self) -> None:
        arrays = {
            name: np.memmap(path, kind, "r")
            if (path := self.folder / f"{name}.bin").stat().st_size
            else np.zeros(0, kind)
            for name, kind in self.ARRAYS.items()
        }
        self.places = arrays["places"].reshape(-1, len(self.parts), 2)
        self.sizes, self.ranks, self.amounts = arrays["sizes"], arrays["ranks"], arrays["amounts"]
        self.shard_of, self.group_of = arrays["shard_of"], arrays["group_of"]
        self._ids, self._id_ends = arrays["ids"], arrays["id_ends"]

    def __len__(self) -> int:
        return len(self.sizes)

    def id(self, row: int) -> str:
        """Return a row's name: its shard's, and its own in it."""
        start = int(self._id_ends[row - 1]) if row else 0
        own = bytes(self._ids[start : int(self._id_ends[row])]).decode()
        return f"{self.shards[int(self.shard_of[row])].id}/{own}"

    def held_out(self, wanted: int) -> Int[np.ndarray, "m"]:
        """Return the rows to hold out, ascending: at least ``wanted``, whole sets of rows that are the same.

        The choice depends on the rows alone, as that of ``hold_out``. Raises ``DataError`` where none would be left.
        """
        if not wanted:
            return np.zeros(0, np.int64)
        order = np.argsort(self.ranks, kind="stable")
        last = min(wanted, len(order)) - 1
        bound = self.ranks[order[last]]
        held = np.flatnonzero(np.asarray(self.ranks) <= bound)
        if len(held) == len(self):
            raise DataError(
                f"data.val_size={wanted} leaves nothing to train on: there are {len(self)} rows; lower it, or give "
                "more data",
                code="range",
                path="data.val_size",
                value=wanted,
            )
        return held

    def tell(self, audit: Audit) -> None:
        """Add what was kept and dropped to an audit."""
        for group, count, amount in self.facts["kept"]:
            audit.keep_many(count, amount, self.facts["unit"], group)
        for id, reason, detail in self.facts["dropped"]:
            audit.drop(id, reason, detail)
        for note in self.facts["notes"]:
            audit.note(note)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("folder", "parts", "facts", "shards", "groups")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._map()


def index_shards(
    source: Source,
    parts: Sequence[Part],
    examine: Examine,
    version: str,
    *,
    unit: str = "",
    num_processes: int | None = None,
    progress: bool = True,
) -> StreamIndex:
    """Return the index of a source, made now as far as it is not known.

    Args:
        version: names everything that ``examine`` depends on beside the rows.
        unit: of ``Examined.amount``.
    """
    shards = list(source.shards())
    if not shards:
        raise DataError("the stream has no shard; check data.root", code="empty", path="data.root")
    known = f"{VERSION} {version} {[(part.name, part.suffixes, part.needed) for part in parts]}"
    names = [_digest(known, shard.id, shard.stamp) for shard in shards]
    whole = _digest(known, unit, *names)
    for root in (cache_root, spare_root):
        folder = root() / "streams" / whole
        if (index := _opened(folder, parts)) is not None:
            return index
        todo = [(shard, name) for shard, name in zip(shards, names, strict=True) if not _entry(root(), name).exists()]
        try:
            make = partial(_index_shard, source, tuple(parts), examine, root())
            map_processes(make, todo, num_processes, progress, "reading shards", few=1, chunk=1)
            _merge(folder, root(), shards, names, make, unit)
        except CacheError:
            continue
        if (index := _opened(folder, parts)) is not None:
            return index
    raise DataError("neither a cache nor a temporary folder can hold the index of the stream", code="write")


def _entry(root: Path, name: str) -> Path:
    return root / "streams" / "shards" / f"{name}.safetensors"


def _index_shard(
    source: Source, parts: tuple[Part, ...], examine: Examine, root: Path, task: tuple[Shard, str]
) -> None:
    """Read one shard and note what was found, in a worker."""
    shard, name = task
    path = source.local(shard)
    places, sizes, ranks, amounts, groups, ids = [], [], [], [], [], []
    dropped: list[list[str]] = []
    notes: list[str] = []
    more: dict[str, int] = {}

    def drop(id: str, reason: str, detail: str) -> None:
        if len(dropped) < MOST_LISTED:
            dropped.append([id, reason, detail])
        else:
            more[reason] = more.get(reason, 0) + 1

    with path.open("rb") as file:
        for found in rows_of(path, parts, shard.id):
            if len(found) == 3:
                if found[1]:
                    drop(*found)
                else:
                    notes.append(found[2])
                continue
            id, where = found
            row = Row(f"{shard.id}/{id}", _read(file.fileno(), parts, where))
            try:
                seen = examine(row)
                if half := lone_surrogate(seen.group + seen.same):
                    raise Drop("half a character", f"{half} alone is half of a character")
            except Drop as problem:
                drop(row.id, problem.reason, problem.detail)
                continue
            places.append(where)
            sizes.append(seen.size)
            ranks.append(derive_seed("split", seen.same or id))
            amounts.append(seen.amount)
            groups.append(seen.group)
            ids.append(id.encode("utf-8", "backslashreplace"))
    named = sorted(set(groups))
    code = {group: number for number, group in enumerate(named)}
    tensors = {
        "places": torch.tensor(places, dtype=torch.int64).reshape(len(places), len(parts), 2),
        "sizes": torch.tensor(sizes, dtype=torch.int64),
        "ranks": torch.tensor(ranks, dtype=torch.int64),
        "amounts": torch.tensor(amounts, dtype=torch.float64),
        "groups": torch.tensor([code[group] for group in groups], dtype=torch.int64),
        "ids": torch.tensor(list(b"".join(ids)), dtype=torch.uint8),
        "id_ends": torch.tensor([len(id) for id in ids], dtype=torch.int64).cumsum(0),
    }
    notes += [f"{count} more of {shard.id} are dropped: {reason}" for reason, count in more.items()]
    write_entry(_entry(root, name), tensors, {"groups": named, "dropped": dropped, "notes": notes})


def _merge(
    folder: Path,
    root: Path,
    shards: Sequence[Shard],
    names: Sequence[str],
    make: Callable[[tuple[Shard, str]], None],
    unit: str,
) -> None:
    """Put the shards' notes together in one folder, shard by shard."""
    groups: dict[str, int] = {}
    kept: dict[str, list[Any]] = {}
    facts: dict[str, Any] = {"dropped": [], "notes": []}
    ends = 0
    with folder_written_aside(folder, CacheError, keep_other=True, sync=False) as aside:
        files = {name: (aside / f"{name}.bin").open("wb") for name in StreamIndex.ARRAYS}
        try:
            for number, (shard, name) in enumerate(zip(shards, names, strict=True)):
                tensors, found = _noted(root, shard, name, make)
                codes = np.array([groups.setdefault(group, len(groups)) for group in found["groups"]], np.int32)
                own = tensors["groups"].numpy()
                for place, group in enumerate(found["groups"]):
                    row = kept.setdefault(group, [group, 0, 0.0])
                    row[1] += int((own == place).sum())
                    row[2] += float(tensors["amounts"].numpy()[own == place].sum())
                facts["dropped"] += found["dropped"]
                facts["notes"] += found["notes"]
                arrays = {
                    "places": tensors["places"].numpy(),
                    "sizes": tensors["sizes"].numpy(),
                    "ranks": tensors["ranks"].numpy(),
                    "amounts": tensors["amounts"].numpy(),
                    "shard_of": np.full(len(own), number, np.int32),
                    "group_of": codes[own] if len(own) else np.zeros(0, np.int32),
                    "ids": tensors["ids"].numpy(),
                    "id_ends": tensors["id_ends"].numpy() + ends,
                }
                for array_name, array in arrays.items():
                    files[array_name].write(array.tobytes())
                ends += len(arrays["ids"])
        finally:
            for file in files.values():
                file.close()
        facts |= {
            "shards": [[shard.id, shard.stamp, shard.size] for shard in shards],
            "groups": list(groups),
            "kept": list(kept.values()),
            "unit": unit,
            "checksums": {name: checksum(aside / f"{name}.bin") for name in StreamIndex.ARRAYS},
        }
        (aside / "index.json").write_text(json.dumps(facts), encoding="utf-8")


def _noted(
    root: Path, shard: Shard, name: str, make: Callable[[tuple[Shard, str]], None]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What was noted of a shard, made anew where it is damaged."""
    if (entry := read_entry(_entry(root, name))) is None:
        make((shard, name))
        entry = read_entry(_entry(root, name))
    if entry is None:
        raise CacheError(f"{_entry(root, name)} vanished or was damaged as it was made", code="write")
    return entry


def _opened(folder: Path, parts: Sequence[Part]) -> StreamIndex | None:
    """The index of a folder that is whole."""
    try:
        index = StreamIndex(folder, parts)
        sound = all(checksum(folder / f"{name}.bin") == known for name, known in index.facts["checksums"].items())
    except (DataError, OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    if not sound:
        return None
    return index


def _read(descriptor: int, parts: Sequence[Part], where: Sequence[Sequence[int]]) -> dict[str, bytes]:
    """Read the parts that a row has."""
    return {
        part.name: os.pread(descriptor, size, start)
        for part, (start, size) in zip(parts, where, strict=True)
        if start >= 0
    }


def _digest(*parts: str) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=20).hexdigest()
