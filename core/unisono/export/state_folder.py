"""State folders: a training state whose tensors lie in shards, read without opening a pickle of objects.

::

    checkpoints/0001000/
        __0_0.distcp, …   tensors, as torch.distributed.checkpoint writes them: a file or more of each process
        .metadata         that package's own index, a pickle: for its tools, never opened here
        state.json        everything else, and where each tensor lies; written last, so that a state has it or is none

What is no tensor is JSON with marks for what JSON lacks (``{"$tuple": […]}``); a tensor is ``{"$tensor": name}``. Each
tensor is read by ``torch.load(weights_only=True)``, whole or as the piece of it that this process holds.
"""

import base64
import io
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisono.errors import CheckpointError
from unisono.export.layout import kind_of, shown

STATE = "state.json"
FORMAT = 1
MOST_JSON = 2**30
"""Bytes of ``state.json``; one of a hundred thousand tensors on a thousand processes has less."""

At = tuple[Any, ...]
"""Where a value lies in a nested state: its keys."""
Box = tuple[tuple[int, ...], Tensor]
"""A room for a range of a tensor, and where the range begins."""
Spread = Callable[[At, torch.Size, torch.dtype], tuple[Tensor, list[Box]] | None]


def encode(value: Any, tensors: dict[str, Tensor], at: At = ()) -> Any:
    """Return a nested state as JSON has it; its tensors go to ``tensors`` under the names that stand in their place.

    Raises ``CheckpointError`` for a value that could not be read back without running code.
    """
    if isinstance(value, Tensor):
        name = ".".join(map(str, at))
        while name in tensors:
            name += "'"
        tensors[name] = value
        return {"$tensor": name}
    if value is None or type(value) in (bool, int, str):  # not of a class derived from these
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, Mapping):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: encode(inner, tensors, (*at, key)) for key, inner in value.items()}
        pairs = [[encode(key, tensors, at), encode(inner, tensors, (*at, key))] for key, inner in value.items()]
        return {"$dict": pairs}
    if isinstance(value, list | tuple | set | frozenset):
        inner = [encode(each, tensors, (*at, number)) for number, each in enumerate(value)]
        return inner if isinstance(value, list) else {"$tuple" if isinstance(value, tuple) else "$set": inner}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, torch.dtype | torch.device):
        return {f"${type(value).__name__}": str(value).removeprefix("torch.")}
    where = ".".join(map(str, at))
    raise CheckpointError(
        f"the state to save has a {type(value).__module__}.{type(value).__qualname__} at {where:.200}, which cannot be "
        "read back without running code: let state_dict() return numbers, texts, lists, dicts and tensors",
        code="type",
        path=where,
        value=value,
    )


def decode(value: Any, tensor: Callable[[str, At], Any], at: At = ()) -> Any:
    """Return what ``encode`` was given; ``tensor`` gives the tensor of a name and a place."""
    if isinstance(value, list):
        return [decode(inner, tensor, (*at, number)) for number, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    mark = next(iter(value), "") if len(value) == 1 else ""
    if not mark.startswith("$"):
        return {key: decode(inner, tensor, (*at, key)) for key, inner in value.items()}
    inner = value[mark]
    if mark == "$tensor":
        return tensor(inner, at)
    if mark == "$dict":
        pairs = [(decode(key, tensor, at), inner) for key, inner in inner]
        return {key: decode(inner, tensor, (*at, key)) for key, inner in pairs}
    if mark in ("$tuple", "$set"):
        return (tuple if mark == "$tuple" else set)(decode(inner, tensor, at))
    if mark == "$float":
        return float(inner)
    if mark == "$bytes":
        return base64.b64decode(inner)
    if mark == "$dtype" and isinstance(found := getattr(torch, inner, None), torch.dtype):
        return found
    if mark == "$device":
        return torch.device(inner)
    raise ValueError(f"unknown mark {mark!r:.40}")


def is_state_folder(path: Path) -> bool:
    """Whether a folder holds a whole state: ``state.json`` is written last."""
    return kind_of(path / STATE) == "file"


def read_state_folder(
    path: Path,
    *,
    only: Collection[str] | None = None,
    like: Spread = lambda at, shape, dtype: None,
    meta: bool = False,
) -> dict[str, Any]:
    """Read a state folder as the nested state that was saved.

    Args:
        only: the keys of the state to read; None for all.
        like: gives, for a tensor's place, shape and type, one to return, and the boxes of it that this process holds:
            only these are read. None reads the whole tensor.
        meta: read no tensors: those of the result are on the meta device.

    Raises ``CheckpointError`` for a folder that is damaged, half deleted, newer, or no state.
    """
    told = _read_index(path)
    entries = told["tensors"]
    if not meta:
        check_files(path, told)
    made: dict[str, Tensor] = {}
    rooms: dict[str, list[Box]] = {}

    def make(name: Any, at: At) -> Tensor:
        if name not in made:
            shape, dtype = torch.Size(entries[name]["shape"]), getattr(torch, entries[name]["dtype"])
            spread = None if meta else like(at, shape, dtype)
            if spread is not None:
                made[name], rooms[name] = spread
            else:
                made[name] = torch.empty(shape, dtype=dtype, device="meta" if meta else "cpu")
                rooms[name] = [((0,) * len(shape), made[name])]
        return made[name]

    try:
        rest = told["state"] if only is None else {key: told["state"][key] for key in only if key in told["state"]}
        state = decode(rest, make)
        if not meta:
            _fill(path, told, rooms)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a changed file leads to
        reason = " ".join(str(error).split())
        raise _damaged(path, f"({type(error).__name__}: {reason:.200})") from error
    return state


def check_files(path: Path, told: dict[str, Any] | None = None) -> None:
    """Raise ``CheckpointError`` unless all shards of a state folder are there, whole."""
    told = told or _read_index(path)
    held: dict[str, int] = {}
    missing = []
    for name, size in told["files"].items():
        if not isinstance(name, str) or Path(name).name != name or kind_of(path / name) == "special":
            raise CheckpointError(
                f"{shown(path / STATE)} names {str(name)!r:.80}, which is no file of this folder: do not use it",
                code="unsafe",
                path=path / STATE,
                value=name,
            )
        held[name] = os.stat(path / name).st_size if kind_of(path / name) == "file" else -1
        if held[name] != size:
            missing.append(name)
    if missing:
        first = missing[0]
        what = "is not there" if held[first] < 0 else f"has {held[first]} bytes of {told['files'][first]}"
        raise CheckpointError(
            f"{shown(path)} is not whole: {len(missing)} of its {len(held)} shards are missing or cut ({first} {what}"
            "): copy the whole folder again, or take another state of the run",
            code="missing" if held[first] < 0 else "damaged",
            path=path / first,
            value=len(missing),
        )


def _read_index(path: Path) -> dict[str, Any]:
    place = path / STATE
    if kind_of(place) != "file":
        raise CheckpointError(
            f"{shown(path)} is no training state: it has no {STATE}, which is written last; take another state of the "
            "run",
            code="missing",
            path=place,
        )
    try:
        if place.stat().st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON} bytes")
        told = json.loads(place.read_text(encoding="utf-8"))
        version = told["format"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise _damaged(path, f"({STATE}: {type(error).__name__}: {error!s:.120})") from None
    if type(version) is not int or version != FORMAT:
        raise CheckpointError(
            f"{shown(path)} has state format {version!r:.40}, this version reads {FORMAT}: upgrade unisono",
            code="version",
            path=place,
            value=version,
        )
    try:
        whole = (
            isinstance(told["state"], dict)
            and all(type(size) is int for size in told["files"].values())
            and all(_is_whole(entry, told["files"]) for entry in told["tensors"].values())
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise _damaged(path, f"({STATE} does not fit together)")
    return told


def _is_whole(entry: dict[str, Any], files: dict[str, int]) -> bool:
    """Whether the pieces of a tensor fill it, and fit in their files: what they ask for is no more than is there."""
    dtype = getattr(torch, entry["dtype"])
    shape = entry["shape"]
    filled = 0
    for offsets, sizes, file, start, length in entry["pieces"]:
        inside = all(
            type(number) is int and min(offset, number) >= 0 and offset + number <= whole
            for offset, number, whole in zip(offsets, sizes, shape, strict=True)
        )
        size = math.prod(sizes)
        if not inside or not 0 <= start <= start + length <= files[file] or size * dtype.itemsize > length:
            return False
        filled += size
    return filled == math.prod(shape)


def _fill(path: Path, told: dict[str, Any], rooms: dict[str, list[Box]]) -> None:
    """Read what the rooms are to hold; each process reads for itself, and asks no other."""
    by_file: dict[str, list[tuple[int, int, list[int], list[int], list[Box]]]] = {}
    for name, boxes in rooms.items():
        for offsets, sizes, file, start, length in told["tensors"][name]["pieces"]:
            by_file.setdefault(file, []).append((start, length, offsets, sizes, boxes))
    for file, pieces in by_file.items():
        with (path / file).open("rb") as stream:
            for start, length, offsets, sizes, boxes in sorted(pieces, key=lambda piece: piece[0]):
                shared = [found for begin, room in boxes if (found := _overlap(offsets, sizes, begin, room))]
                if not shared:
                    continue
                stream.seek(start)
                piece = torch.load(io.BytesIO(stream.read(length)), map_location="cpu", weights_only=True)
                if not isinstance(piece, Tensor) or list(piece.shape) != sizes:
                    raise ValueError(f"{file} holds another tensor at {start}")
                for source, target in shared:
                    target.copy_(piece[source])


def _overlap(
    offsets: list[int], sizes: list[int], begin: tuple[int, ...], room: Tensor
) -> tuple[tuple[slice, ...], Tensor] | None:
    """Where a piece and a room have the same values: the place in the piece, and the part of the room."""
    source, target = [], []
    for offset, size, first, wide in zip(offsets, sizes, begin, room.shape, strict=True):
        low, high = max(offset, first), min(offset + size, first + wide)
        if low >= high:
            return None
        source.append(slice(low - offset, high - offset))
        target.append(slice(low - first, high - first))
    return tuple(source), room[tuple(target)]


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{shown(path)} is damaged {why}: take another state of the run", code="damaged", path=path / STATE
    )
