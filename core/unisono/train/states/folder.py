"""Shards: a state written by all processes into one folder, whole or not at all.

Each process writes what it holds, by ``torch.distributed.checkpoint``; what all hold alike is shared out by size. When
all have ended, rank 0 looks whether every shard is there, adds ``state.json`` and renames the folder.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

import unisono
from unisono.errors import CheckpointError
from unisono.export.state_folder import FORMAT, STATE, check_files
from unisono.train.states.parts import parts_of


@dataclass(frozen=True)
class Piece:
    """A process's part of a tensor: the tensor's name and shape, where the part begins in it, and its values."""

    name: str
    whole: torch.Size
    begin: tuple[int, ...]
    local: Tensor


def pieces_of(tensors: Mapping[str, Tensor], rank: int, world_size: int, alike: Callable[[str], bool]) -> list[Piece]:
    """Return what this rank writes of a state's tensors, the same names on all ranks.

    ``alike`` says which tensors all ranks hold with the same values: these are shared out by size. Of others that are
    not sharded rank 0 has the values that count.
    """
    for name, tensor in tensors.items():
        held = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if type(held.detach()) is not Tensor:
            raise CheckpointError(
                f"{name:.200} is a {type(held).__module__}.{type(held).__qualname__}, whose parts cannot be written as "
                "shards: keep run.checkpoint.layout=file, or take an optimiser that keeps plain numbers",
                code="unsupported",
                path=name,
            )
    pieces = []
    load = [0] * world_size
    plain = {name: tensor for name, tensor in tensors.items() if not isinstance(tensor, DTensor)}
    for name in sorted(plain, key=lambda name: (-plain[name].nbytes, name)):
        writer = load.index(min(load)) if alike(name) else 0
        load[writer] += plain[name].nbytes
        if writer == rank:
            pieces.append(Piece(name, plain[name].shape, (0,) * plain[name].ndim, plain[name].detach()))
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            local = tensor.to_local().detach()
            pieces += [Piece(name, tensor.shape, begin, local[inside]) for begin, inside in parts_of(tensor)]
    return pieces


def write_folder(aside: Path, pieces: Sequence[Piece], state: Any, step: int, group: Any) -> None:
    """Write a state into an empty folder ``aside``; ``state`` is what is no tensor, of rank 0; all ranks call it."""
    rank, world_size = (group.rank(), group.size()) if group is not None else (0, 1)
    metadata = save(
        {piece.name: piece.local for piece in pieces},
        storage_writer=FileSystemWriter(aside),
        planner=_Planner(pieces),
        process_group=group,
        no_dist=group is None,
    )
    if rank == 0:
        _finish(aside, metadata, state, step, world_size)


def _finish(aside: Path, metadata: Metadata, state: Any, step: int, world_size: int) -> None:
    """Look whether all shards are there, and add ``state.json``."""
    tensors: dict[str, Any] = {}
    files: dict[str, int] = {}
    for name, described in metadata.state_dict_metadata.items():
        assert isinstance(described, TensorStorageMetadata)
        pieces = []
        for chunk in described.chunks:
            place = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
            pieces.append([list(chunk.offsets), list(chunk.sizes), place.relative_path, place.offset, place.length])
            files[place.relative_path] = max(files.get(place.relative_path, 0), place.offset + place.length)
        dtype = str(described.properties.dtype).removeprefix("torch.")
        tensors[name] = {"dtype": dtype, "shape": list(described.size), "pieces": pieces}
    told = {
        "format": FORMAT,
        "unisono": unisono.__version__,
        "step": step,
        "processes": world_size,
        "files": files,
        "state": state,
        "tensors": tensors,
    }
    try:
        check_files(aside, told)
    except CheckpointError as error:
        raise CheckpointError(
            f"a process's part of the state did not arrive ({error.path}): the folder of a run must lie on a disk that "
            "all machines share",
            code="write",
            path=error.path,
        ) from error
    with (aside / STATE).open("w", encoding="utf-8") as file:
        json.dump(told, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def remove_folder(path: Path, hidden: Path) -> None:
    """Remove a state's folder so that no half of it is ever taken for a state."""
    try:
        os.replace(path, hidden)
    except FileNotFoundError:
        return
    shutil.rmtree(hidden, ignore_errors=True)


class _Planner(DefaultSavePlanner):
    """Writes the pieces that it is given; what is no tensor goes another way."""

    def __init__(self, pieces: Sequence[Piece]):
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.pieces = {MetadataIndex(piece.name, piece.begin): piece for piece in pieces}

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([self._item(index, piece) for index, piece in self.pieces.items()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Any:
        return self.pieces[index].local

    def _item(self, index: MetadataIndex, piece: Piece) -> WriteItem:
        chunk = ChunkStorageMetadata(torch.Size(piece.begin), piece.local.shape)
        properties = TensorProperties(dtype=piece.local.dtype)
        return WriteItem(
            index=index,
            type=WriteItemType.SHARD,
            tensor_data=TensorWriteData(chunk=chunk, properties=properties, size=piece.whole),
        )
