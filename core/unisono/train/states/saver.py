"""Saver: takes a trainer's state as it is now and has it written, as a file or in shards.

What is taken is Lightning's checkpoint: weights, their average, optimisers by name, schedules, loops, callbacks,
loaders' positions, recipe and facts. There are no generators in it: randomness follows from (seed, step, rank).
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from unisono.errors import CheckpointError, UnisonoError
from unisono.export.state_folder import decode, encode
from unisono.export.training_state import LAST_FILE, STATES_FORMAT
from unisono.files import writing_to
from unisono.recipe import CheckpointSpec
from unisono.train.states.attach import is_sharded
from unisono.train.states.folder import pieces_of, write_folder
from unisono.train.states.host import HostCopies
from unisono.train.states.shelf import Shelf, keep_file
from unisono.train.states.writer import Writer

REMEDY = "free some space, and go on with --resume"
WORTH_A_COPY = 64 * 2**20
"""Bytes of a state from which on it is written beside training; below, a write takes no longer than a step."""
PATIENCE = timedelta(hours=1)
"""How long processes wait for one another while a state is written."""


@dataclass
class _Shot:
    """A state that is being written, or was: its step, its place once it is whole, and its other names."""

    step: int
    names: list[str] = field(default_factory=list)
    path: Path | None = None


class Saver:
    """Writes the states of one run, one at a time; every rank has one, and calls it at the same steps.

    Attributes:
        step: of the state that was taken last; None before.
        writer: tells whether a write goes on, and how it ended.
    """

    def __init__(self, folder: Path, spec: CheckpointSpec):
        self.spec = spec
        self.shelf = Shelf(folder)
        self.copies = HostCopies()
        self.writer = Writer()
        self._shot: _Shot | None = None
        self._naming = threading.Lock()
        self._group: Any = None

    @property
    def step(self) -> int | None:
        return None if self._shot is None else self._shot.step

    def is_folder(self, trainer: Trainer) -> bool:
        """Whether states are folders of shards."""
        if self.spec.layout == "auto":
            return is_sharded(trainer.lightning_module)
        return self.spec.layout == "sharded"

    def save(self, trainer: Trainer) -> bool:
        """Take the state, and write it before this returns or beside what follows; return which, alike on all ranks."""
        self.writer.join()  # it reads the copies that are about to change
        self._shot = shot = _Shot(trainer.global_step)
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if isinstance(kept := checkpoint.get("unisono"), dict):
            kept["format"] = STATES_FORMAT
        tensors: dict[str, Tensor] = {}
        state = encode(checkpoint, tensors)
        if self.is_folder(trainer):
            return self._save_folder(trainer, shot, state, tensors)
        return self._save_file(trainer, shot, state, tensors)

    def save_by_strategy(self, trainer: Trainer) -> None:
        """Have a strategy with a format of its own write the state, before this returns."""
        path = self.shelf.folder / f"{trainer.global_step:07d}.ckpt"
        self._shot = _Shot(trainer.global_step, path=path)
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero and path.is_file():
            keep_file(path, self.shelf.folder / LAST_FILE)
            self.shelf.prune(path, self.spec.keep)

    def name(self, trainer: Trainer, name: str) -> Path:
        """Keep the state that was taken last under another name, now or when it is whole."""
        if trainer.is_global_zero:
            with self._naming, self._told():
                assert self._shot is not None
                if self._shot.path is not None:
                    self.shelf.name(self._shot.path, name)
                else:
                    self._shot.names.append(name)
        return self.shelf.folder / (name if self.is_folder(trainer) else f"{name}.ckpt")

    def close(self) -> None:
        """Give memory back, when nothing is written any more."""
        self.writer.join()
        self.copies.clear()

    # ---- one file ------------------------------------------------------------------------------

    def _save_file(self, trainer: Trainer, shot: _Shot, state: Any, tensors: dict[str, Tensor]) -> bool:
        first = trainer.is_global_zero
        for name, tensor in tensors.items():
            if isinstance(tensor, DTensor):  # every rank gives its pieces, one tensor after another
                whole = tensor.full_tensor()
                tensors[name] = whole.cpu() if first else torch.empty(0)
        beside = self._is_beside(trainer, tensors if first else {})
        if not first:
            return beside
        if beside:
            tensors = self.copies.take(tensors)
        whole_state = decode(state, lambda name, at: tensors[name].detach())

        def write() -> None:
            aside = self.shelf.hidden(".ckpt")
            try:
                with self._told():
                    aside.parent.mkdir(parents=True, exist_ok=True)
                    torch.save(whole_state, aside)
                    self._place(shot, lambda: self.shelf.place_file(aside, shot.step))
            finally:
                aside.unlink(missing_ok=True)

        self.writer.start(write, beside)
        return beside

    # ---- shards --------------------------------------------------------------------------------

    def _save_folder(self, trainer: Trainer, shot: _Shot, state: Any, tensors: dict[str, Tensor]) -> bool:
        rank, world_size, group = trainer.global_rank, trainer.world_size, self._group_of(trainer)
        weights = {name for name, _ in trainer.lightning_module.named_parameters()}

        def alike(name: str) -> bool:
            section, _, rest = name.partition(".")
            return section == "optimizer_states" or rest in weights

        pieces = pieces_of(tensors, rank, world_size, alike)
        local = {f"{piece.name} {piece.begin}": piece.local for piece in pieces}
        beside = self._is_beside(trainer, local)
        if beside or any(tensor.device.type != "cpu" for tensor in local.values()):
            taken = self.copies.take(local).values()
            pieces = [replace(piece, local=copy) for piece, copy in zip(pieces, taken, strict=True)]

        def write() -> None:
            aside = self._new_folder(rank, group)
            try:
                with self._told():
                    write_folder(aside, pieces, state, shot.step, group)
                    if rank == 0:
                        self._place(shot, lambda: self.shelf.place_folder(aside, shot.step))
            finally:
                if rank == 0:
                    shutil.rmtree(aside, ignore_errors=True)

        self.writer.start(write, beside)
        return beside

    def _new_folder(self, rank: int, group: Any) -> Path:
        """Make a folder to write to; the other ranks learn its name from rank 0, or that there is none."""
        made: list[Any] = [None]
        error: BaseException | None = None
        if rank == 0:
            try:
                with self._told():
                    aside = self.shelf.hidden()
                    aside.mkdir(parents=True)
                made = [str(aside)]
            except CheckpointError as problem:
                error = problem
        if group is not None:
            torch.distributed.broadcast_object_list(made, src=0, group=group)
        if made[0] is None:
            raise error or CheckpointError("rank 0 cannot write the state", code="write", path=self.shelf.folder)
        return Path(made[0])

    def _group_of(self, trainer: Trainer) -> Any:
        """The processes as a group of its own: its messages must not mix with those of training, whose device they are
        not for either."""
        if trainer.world_size > 1 and self._group is None:
            self._group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        return self._group

    # ---- both ----------------------------------------------------------------------------------

    def _place(self, shot: _Shot, place: Callable[[], Path]) -> None:
        with self._naming:
            shot.path = place()
            for name in shot.names:
                self.shelf.name(shot.path, name)
        self.shelf.prune(shot.path, self.spec.keep)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what a full disk leads to into one sentence, whichever library and process meets it."""
        with writing_to(self.shelf.folder, CheckpointError, REMEDY, also=(RuntimeError,)):
            try:
                yield
            except CheckpointException as error:  # of any process; it is no Exception
                first = next(iter(error.failures.values()))[0]
                raise _plainer(first) from None
            except RuntimeError as error:
                raise _plainer(error) from None

    def _is_beside(self, trainer: Trainer, tensors: dict[str, Tensor]) -> bool:
        """Whether all ranks write beside training: where one has much to write, and each has room for its copy."""
        if self.spec.asynchronous != "auto":
            return bool(self.spec.asynchronous)
        size = sum(tensor.nbytes for tensor in tensors.values())
        room = self.copies.nbytes >= size or size < _free_memory() // 2
        told = torch.tensor([size, int(not room)], device=trainer.lightning_module.device)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        most, crowded = told.tolist()
        return most >= WORTH_A_COPY and not crowded


def _plainer(error: BaseException) -> BaseException:
    """Return an error that a user can read in place of torch's, which counts bytes."""
    if isinstance(error, OSError | UnisonoError):
        return error
    if "inline_container" in str(error):
        return RuntimeError("the disk took a part of it only: it is full, or a quota is used up")
    return RuntimeError(f"{type(error).__name__}: {error}")


def as_checkpoint_error(error: BaseException, folder: Path) -> BaseException:
    """Return what ended a write as the user's to mend, or as it is."""
    if isinstance(error, UnisonoError) or not isinstance(error, Exception):
        return error
    return CheckpointError(
        f"the state could not be written: {type(error).__name__}: {error}", code="write", path=folder
    )


def _free_memory() -> int:
    """Bytes of memory that programs may still take; where the system does not say, as if there were enough."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2**62
