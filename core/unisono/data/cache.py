"""Feature caches: what is slow to compute is computed once, and found again by content.

An entry is one safetensors file per utterance, named by the hash of the recording's bytes and of
whatever the features depend on. Entries are written aside and renamed, so that a killed run leaves
none half-made; a damaged one is made anew. They are read memory-mapped, slice by slice. Nothing is
ever removed: delete the folder (``UNISONO_CACHE``, else ``~/.cache/unisono``) to have the space
back.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from unisono import files
from unisono.data.audit import Drop
from unisono.data.parallel import map_processes
from unisono.errors import DataError

REMEDY = "free some space, or set UNISONO_CACHE to a folder that you can write to"
Compute = Callable[[Any], tuple[dict[str, Tensor], dict[str, Any]]]
"""Makes one utterance's features: named tensors (time first), and facts as plain JSON."""


@dataclass
class Features:
    """One utterance's cached features: their shapes and facts at hand, their values on disk or in
    memory."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    facts: dict[str, Any]
    _tensors: dict[str, Tensor] | None = field(default=None, repr=False)

    def load(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return one feature, or a stretch of its first axis; only that much is read."""
        if self._tensors is not None:
            return self._tensors[name][start:stop]
        with safe_open(self.path, "pt") as file:
            return file.get_slice(name)[start:stop]

    def hold(self) -> None:
        """Keep the values in memory from now on."""
        self._tensors = load_file(self.path)


@dataclass
class Prepared:
    """An utterance with its features."""

    utterance: Any
    features: Features


def cache_root() -> Path:
    """Return the folder of all caches: ``UNISONO_CACHE``, else ``~/.cache/unisono``."""
    named = os.environ.get("UNISONO_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "unisono"


def written_aside(path: Path) -> AbstractContextManager[Path]:
    """Give a place beside ``path`` of a cache to write to; at the end it becomes ``path``.

    See ``unisono.files.written_aside``. Raises ``DataError`` where it cannot be written.
    """
    return files.written_aside(path, DataError, REMEDY, sync=False, also=(SafetensorError,))


def prepare_features(
    utterances: Sequence[Any],
    compute: Compute,
    version: str,
    *,
    key: Callable[[Any], str] | None = None,
    num_processes: int | None = None,
    progress: bool = True,
    description: str = "features",
) -> list[Prepared | Drop]:
    """Return each utterance's features, computed in parallel where the cache has none, in order.

    Args:
        compute: picklable; raises ``Drop`` to drop an utterance with a reason. A ``DataError`` (a
            file that cannot be read) becomes the drop "unreadable".
        version: names everything that the features depend on beside the recording: the mel spec,
            the versions of the methods. Another version is another entry.
        key: what else they depend on for an utterance, such as its text.
    """
    folder = cache_root() / "features"

    def look_up(utterance: Any) -> tuple[Path, Prepared | Drop | None]:
        try:
            digest = _digest(utterance.audio, version, key(utterance) if key else "")
        except OSError as error:
            drop = Drop("unreadable", f"{utterance.audio}: {error.strerror or error}")
            return utterance.audio, drop
        path = folder / digest[:2] / f"{digest}.safetensors"
        features = _open(path)
        return path, features and Prepared(utterance, features)

    with ThreadPoolExecutor(4) as threads:  # hashing and reading release the interpreter's lock
        looked_up = list(threads.map(look_up, utterances))
    tasks = [(utterance, path) for utterance, (path, found) in zip(utterances, looked_up, strict=True) if found is None]
    made = iter(map_processes(partial(_make, compute), tasks, num_processes, progress, description))
    results: list[Prepared | Drop] = []
    for utterance, (path, found) in zip(utterances, looked_up, strict=True):
        result = found or next(made)
        if result is None:
            features = _open(path)
            if features is None:
                raise DataError(f"{path}: vanished or was damaged as it was made; run again")
            result = Prepared(utterance, features)
        results.append(result)
    return results


def _make(compute: Compute, task: tuple[Any, Path]) -> Drop | None:
    """Compute and write one entry, in a worker."""
    utterance, path = task
    try:
        tensors, facts = compute(utterance)
    except Drop as drop:
        return drop
    except DataError as error:
        return Drop("unreadable", str(error))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with written_aside(path) as aside:
        save_file(tensors, aside, {"facts": json.dumps(facts)})
    return None


def _open(path: Path) -> Features | None:
    """Read an entry's header; None where there is no whole entry."""
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return Features(path, shapes, json.loads(file.metadata()["facts"]))
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        return None


def _digest(audio: Path, *parts: str) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        digest.update(f"{len(part)}:{part};".encode())
    with audio.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
