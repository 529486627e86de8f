"""Feature caches: what is slow to compute is computed once, and found again by content.

An entry is one safetensors file per item, named by the hash of the item's file and of whatever the features depend on,
with a checksum of all that it holds. Entries are written aside and renamed, so that a killed run leaves none half-made;
a damaged one is made anew. They are read memory-mapped, slice by slice. Where the cache cannot be written, features are
kept in memory instead. Nothing is ever removed: delete the folder (``UNISONO_CACHE``, else ``~/.cache/unisono``) to
have the space back.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unisono import files
from unisono.data.audit import Drop
from unisono.data.folder import CacheError, cache_root, written_aside
from unisono.data.known import content_hashes
from unisono.data.parallel import map_processes
from unisono.errors import DataError, UnisonoError

log = logging.getLogger("unisono")

Item = TypeVar("Item")
Compute = Callable[[Any], tuple[dict[str, Tensor], dict[str, Any]]]
"""Makes one item's features: named tensors (time first), and facts as plain JSON."""


@dataclass
class Features:
    """One item's features: their shapes at hand, their facts and values on disk or in memory."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    _facts: dict[str, Any] | None = field(default=None, repr=False)
    _tensors: dict[str, Tensor] | None = field(default=None, repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """What was noted with the features; read from the entry each time, unless the features are in memory only."""
        if self._facts is not None:
            return self._facts
        try:
            with safe_open(self.path, "pt") as file:
                return json.loads(file.metadata()["entry"])["facts"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise self._lost(error) from None

    @property
    def in_memory(self) -> bool:
        """Whether the values are in memory, so that they need no entry."""
        return self._tensors is not None

    def load(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return one feature, or a stretch of its first axis; only that much is read."""
        if self._tensors is not None:
            return self._tensors[name][start:stop]
        try:
            with safe_open(self.path, "pt") as file:
                return file.get_slice(name)[start:stop]
        except (OSError, SafetensorError) as error:
            raise self._lost(error) from None

    def hold(self) -> None:
        """Keep the values in memory from now on."""
        if self._tensors is None:
            try:
                self._tensors = safetensors.torch.load_file(self.path)
            except (OSError, SafetensorError) as error:
                raise self._lost(error) from None

    def _lost(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path}: the cache's entry is gone or damaged since this run began ({error}); run again",
            code="damaged",
            path=self.path,
        )


@dataclass
class Prepared(Generic[Item]):
    """An item with its features."""

    item: Item
    features: Features


def prepare_features(
    items: Sequence[Item],
    compute: Compute,
    version: str,
    *,
    file: Callable[[Item], Path],
    key: Callable[[Item], str] | None = None,
    num_processes: int | None = None,
    progress: bool = True,
    description: str = "features",
    note: Callable[[str], None] = log.warning,
) -> list[Prepared[Item] | Drop]:
    """Return each item's features, computed in parallel where the cache has none, in order.

    Args:
        compute: picklable; raises ``Drop`` to drop an item with a reason. Anything else that it raises becomes the drop
            "unreadable", but for errors that are not the item's fault: a missing package, and any ``UnisonoError`` that
            is no ``DataError``.
        version: names everything that the features depend on beside the file: settings, the versions of the methods.
            Another version is another entry.
        file: returns the file that an item's features are computed from.
        key: what else they depend on for an item, such as its text.
        note: told where the cache cannot be written, and the features are kept in memory.
    """
    folder = cache_root() / "features"
    sources = [file(item) for item in items]
    name = str(sources[0].parent) if sources else ""
    places: list[Path | Drop] = []
    for item, content in zip(items, content_hashes(sources, name), strict=True):
        if isinstance(content, DataError):
            places.append(Drop("unreadable", str(content)))
        else:
            digest = _digest(content, version, key(item) if key else "")
            places.append(folder / digest[:2] / f"{digest}.safetensors")
    there = [place for place in places if isinstance(place, Path) and files.is_file(place)]
    whole = zip(there, content_hashes(there, f"entries {name}", _checked), strict=True)
    known = {place for place, checked in whole if isinstance(checked, bytes)}

    def look_up(item: Item, place: Path | Drop) -> tuple[Path, Prepared[Item] | Drop | None]:
        if isinstance(place, Drop):
            return file(item), place
        features = _header(place) if place in known else None
        return place, features and Prepared(item, features)

    with ThreadPoolExecutor(4) as threads:
        looked_up = list(threads.map(look_up, items, places))
    tasks = [(item, path, file(item)) for item, (path, found) in zip(items, looked_up, strict=True) if found is None]
    made = iter(map_processes(partial(_make, compute), tasks, num_processes, progress, description))
    results: list[Prepared[Item] | Drop] = []
    without: list[str] = []
    for item, (path, found) in zip(items, looked_up, strict=True):
        result: Any = found if found is not None else next(made)
        if result is None:  # written: read it back, or do without
            features = _open(path)
            result = features and Prepared(item, features)
            if result is None:
                result = _make(compute, (item, path, file(item)), write=False)
        if isinstance(result, _Unwritten):
            without.append(result.why)
            result = Prepared(item, result.features(path))
        results.append(result)
    if without:
        note(f"{len(without)} of {len(items)} items are kept in memory, and computed anew in each run: {without[0]}")
    return results


@dataclass
class _Unwritten:
    """Features that could not be written, as the bytes of their entry; and why."""

    entry: bytes
    facts: dict[str, Any]
    why: str

    def features(self, path: Path) -> Features:
        tensors = safetensors.torch.load(self.entry)
        return Features(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, self.facts, tensors)


def _make(compute: Compute, task: tuple[Any, Path, Path], write: bool = True) -> Drop | _Unwritten | None:
    """Compute and write one entry, in a worker."""
    item, path, source = task
    try:
        tensors, facts = compute(item)
    except Drop as drop:
        return drop
    except DataError as error:
        return Drop("unreadable", str(error))
    except (UnisonoError, ImportError):
        raise
    except Exception as error:
        log.debug("%s", source, exc_info=True)
        return Drop("unreadable", f"{files.shown(source)}: {type(error).__name__}: {error}")
    why = f"{path} vanished or was damaged as it was made"
    if write:
        try:
            write_entry(path, tensors, facts)
            return None
        except CacheError as error:
            why = str(error)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return _Unwritten(safetensors.torch.save(contiguous), facts, why)


def _open(path: Path) -> Features | None:
    entry = read_entry(path)
    return entry and Features(path, {name: tuple(tensor.shape) for name, tensor in entry[0].items()})


def _header(path: Path) -> Features | None:
    """An entry that is known to be whole: only its header is read."""
    try:
        with safe_open(path, "pt") as file:
            return Features(path, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError):
        return None


def _checked(path: Path) -> bytes:
    """The checksum of an entry that is whole; raises ``DataError`` for one that is not."""
    entry = read_entry(path)
    if entry is None:
        raise DataError(f"{path}: damaged", code="damaged", path=path)
    return bytes.fromhex(_checksum(*entry)).ljust(20, b"\0")


def write_entry(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any] | None = None) -> None:
    """Write tensors and facts (plain JSON) as an entry of a cache; raises ``CacheError`` where that cannot be."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # one key: several would be written in an order that changes from run to run
    metadata = {"entry": json.dumps({"checksum": _checksum(tensors, facts or {}), "facts": facts or {}})}
    with written_aside(path) as aside:
        safetensors.torch.save_file(tensors, aside, metadata)


def read_entry(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return an entry's tensors and facts; None where there is none that is whole: every byte of it is checked."""
    if not files.is_file(path):
        return None
    try:
        with safe_open(path, "pt") as file:
            entry = json.loads(file.metadata()["entry"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = entry["facts"]
        if entry["checksum"] != _checksum(tensors, facts):
            return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return tensors, facts


def _checksum(tensors: dict[str, Tensor], facts: dict[str, Any]) -> str:
    known = json.dumps(facts)
    digest = hashlib.blake2b(f"{len(known)}:{known}".encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{len(name)}:{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest(content: bytes, *parts: str) -> str:
    """The name of an entry: of the hash of its file's content, and of all else that it depends on."""
    digest = hashlib.blake2b(content, digest_size=20)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b;" % (len(encoded), encoded))
    return digest.hexdigest()
