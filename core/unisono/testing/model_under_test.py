"""One model under test: its tiny recipe, and the runs, export and outputs that several checks share."""

import copy
import json
import os
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch import Callback, LightningModule, Trainer

from unisono import plugin as plugins
from unisono.assemble import assemble
from unisono.errors import RequestError
from unisono.export import export_run, find_training_state, load, read_training_state, save_export
from unisono.recipe import Recipe
from unisono.testing.check import CheckFailed, ensure
from unisono.testing.compare import distance, numbers, sizes
from unisono.testing.processes import other_processes, workspace
from unisono.train import RunResult, train
from unisono.train.ranks import RUN_DIR, RUN_STATE

STEPS = 4
"""Optimiser steps of the runs that are compared; one is killed after three, having saved two."""

PLAIN = ("--optim.weight_decay=0", "--optim.eps=1e-20")
"""AdamW that moves every weight which has any gradient at all, and no other."""

PROPORTIONAL = ("--optim.weight_decay=0", "--optim.eps=1", "--optim.lr=0.1", "--trainer.max_steps=2")
"""AdamW whose steps are proportional to gradients, so that rounding in a small one stays small."""

DOUBLE = "--trainer.precision=64-true"
UNVALIDATED = "--trainer.limit_val_batches=0"
"""Some of the tiny recipes have fewer items to validate on than there are processes, which is refused."""


Made = TypeVar("Made")


class once(Generic[Made]):
    """A property that is made on first use and kept; what it raised is kept too, and raised again."""

    def __init__(self, make: Callable[[Any], Made]):
        self.make, self.name, self.__doc__ = make, make.__name__, make.__doc__

    @overload
    def __get__(self, subject: None, owner: Any) -> "once[Made]": ...
    @overload
    def __get__(self, subject: Any, owner: Any) -> Made: ...
    def __get__(self, subject: Any, owner: Any) -> Any:
        if subject is None:
            return self
        kept = subject.__dict__.setdefault("made_once", {})
        if self.name not in kept:
            try:
                kept[self.name] = self.make(subject), None, None
            except Exception as error:
                kept[self.name] = None, error, error.__traceback__
        made, error, where = kept[self.name]
        if error is not None:
            raise error.with_traceback(where)
        return made


@dataclass
class Served:
    """What became of a model's `check_requests`: outputs, refusals (by the request's repr), and what broke."""

    made: list[tuple[Any, Any]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    broken: list[tuple[Any, Exception]] = field(default_factory=list)
    loose: list[int] = field(default_factory=list)
    """How many given tokens each masked decoding began with that were not frozen, where there were any."""


class Subject:
    """A registered model with its tiny recipe; everything is made on first use and kept."""

    def __init__(self, plugin: str, model: str):
        self.plugin = plugin
        self.model_name = f"{plugin}/{model}"
        self.recipe_name = f"{plugin}/{model}-tiny"
        self.folder = workspace() / plugin / model
        self.lengths = Lengths()

    @property
    def target(self) -> Any:
        """The model class."""
        return plugins.resolve(self.model_name, "models")

    @property
    def modules(self) -> tuple[str, ...]:
        """What another process of this model imports."""
        data = plugins.resolve(self.recipe().data["name"], "data")
        return ("unisono.train", "unisono.export", self.target.__module__, data.__module__)

    def recipe(self, *overrides: str, run: str = "run") -> Recipe:
        """Read the tiny recipe, its runs kept in the workspace."""
        return Recipe.read(
            self.recipe_name,
            [f"--run.dir={self.folder / run}", "--trainer.enable_model_summary=false", *overrides],
        )

    def train(self, recipe: Recipe, callbacks: Sequence[Callback] = (), resume: str | None = None) -> RunResult:
        """Train in this process, in an empty folder in which nothing may be left."""
        with _empty_folder(self.folder / "cwd"):
            result = train(recipe, progress=False, callbacks=callbacks, resume=resume)
        if result is None:
            raise CheckFailed("training returned nothing", "no-result")
        return result

    @once
    def short(self) -> RunResult:
        """The tiny recipe as it is shipped; a model that learns nothing is assembled."""
        if not self.target.learns:
            model, audit = assemble(self.recipe(run="short"))
            return RunResult(self.folder, model, {}, audit)
        return self.train(self.recipe(run="short"), [self.lengths])

    @once
    def straight(self) -> tuple[dict[str, Any], dict[str, torch.Tensor], set[str]]:
        """An uninterrupted run: its last state, the weights it began with, the names of the trainable ones."""
        start = Start()
        result = self.train(self.recipe(*self._straight, run="straight"), [start])
        return training_state(result.folder), start.weights, start.trainable

    @once
    def resumed(self) -> dict[str, Any]:
        """The last state of the same run, killed in its fourth step and resumed from its second."""
        recipe = self.recipe(*self._straight, run="resumed")
        try:
            self.train(recipe, [Kill(STEPS - 1)])
        except Killed:
            pass
        else:
            raise CheckFailed(f"a run of {STEPS} steps took less than {STEPS}", "run-short")
        (folder,) = (self.folder / "resumed" / recipe.name).iterdir()
        saved = training_state(folder)["global_step"]
        ensure(saved == 2, f"the killed run saved step {saved}, not 2", "killed-saved")
        return training_state(self.train(recipe, resume=str(folder)).folder)

    @property
    def _straight(self) -> tuple[str, ...]:
        return (*PLAIN, f"--trainer.max_steps={STEPS}", "--run.checkpoint.every=2")

    @once
    def one_process(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The last state of one process, and the weights it began with; on one thread, as each of two has."""
        return self._one("one")

    @once
    def one_in_double(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The same in float64."""
        return self._one("one-in-double", DOUBLE)

    def _one(self, run: str, *flags: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        start, threads = Start(), torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            result = self.train(self.recipe(*PROPORTIONAL, "--trainer.devices=1", *flags, run=run), [start])
        finally:
            torch.set_num_threads(threads)
        return training_state(result.folder), start.weights

    @once
    def two_processes(self) -> dict[str, Any]:
        """The last state of two gloo processes, by ddp."""
        return self.on_processes(2, "ddp")

    @once
    def two_shards(self) -> dict[str, Any]:
        """The last state of two gloo processes between which the weights are sharded."""
        return self.on_processes(2, "fsdp2")

    def on_processes(self, count: int, strategy: str, *flags: str, run: str = "", resume: str = "") -> dict[str, Any]:
        """Return the last state of so many gloo processes, in the places that Lightning gives to those it starts."""
        run = run or f"{count}-{strategy.strip('{}').replace(':', '-').replace(',', '-').replace(' ', '')}"
        folder = self.folder / run / self.recipe().name / "0001"
        command = [
            *("unisono", "train", self.recipe_name, *PROPORTIONAL, f"--run.dir={self.folder / run}", "--no-progress"),
            *("--trainer.accelerator=cpu", f"--trainer.devices={count}", f"--trainer.strategy={strategy}"),
            *("--trainer.enable_model_summary=false", "--run.preview_seconds=0", *flags),
        ]
        group = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(find_free_network_port()),
            "NODE_RANK": "0",
            "WORLD_SIZE": str(count),
            "OMP_NUM_THREADS": "1",
            RUN_DIR: str(folder),
            **({RUN_STATE: resume} if resume else {}),
        }
        ranks = [{**group, "LOCAL_RANK": str(rank)} for rank in range(count)]
        other_processes([command] * count, ranks, modules=self.modules)
        return training_state(folder)

    @once
    def export(self) -> Path:
        """An export of the straight run, components inside."""
        if not self.target.learns:
            return save_export(self.short.model, self.folder / "export")
        _ = self.straight
        (run,) = (self.folder / "straight" / self.recipe().name).iterdir()
        return export_run(run, self.folder / "export")

    @once
    def synthesizer(self) -> Any:
        """The export, loaded."""
        return load(self.export)

    @once
    def requests(self) -> list[Any]:
        """What the model itself proposes to ask of it."""
        requests = list(self.synthesizer.model.preview_requests())
        ensure(bool(requests), "preview_requests() is empty: propose at least one request", "no-preview", self.target)
        return requests

    @once
    def check_requests(self) -> list[Any]:
        """What the model lists for this kit; its previews come first in any case."""
        own = {repr(request) for request in self.requests}
        return self.requests + [r for r in self.synthesizer.model.check_requests() if repr(r) not in own]

    @once
    def served(self) -> Served:
        """All of them, synthesized in as few batches as serve; where a batch raises, it is halved to find out why."""
        served = Served()
        with _masked_starts(served.loose):
            self._serve(self.check_requests, served)
        return served

    def _serve(self, requests: list[Any], served: Served) -> None:
        try:
            served.made += zip(requests, self.synthesizer(list(requests)), strict=True)
        except Exception as error:
            if len(requests) > 1:
                before = len(served.refused) + len(served.broken)
                half = len(requests) // 2
                self._serve(requests[:half], served)
                self._serve(requests[half:], served)
                if len(served.refused) + len(served.broken) > before:
                    return  # the one to blame was found
            if len(requests) == 1 and isinstance(error, RequestError):
                served.refused[repr(requests[0])] = str(error)
            else:
                served.broken.append((requests[0], error))

    def raise_broken(self) -> None:
        """Raise for the first listed request that ended in anything but an output or a refusal."""
        for request, error in self.served.broken:
            sentence = f"{asked(request)} ends in {type(error).__name__}: {error}"
            raise CheckFailed(sentence, "request-raises", self.target, request=asked(request)) from error

    @once
    def of_several_sizes(self) -> list[Any]:
        """The first previews, and the requests whose outputs are the smallest and the largest of all."""
        made = [(request, numbers(output)) for request, output in self.served.made]
        made.sort(key=lambda item: sum(array.size for array in item[1].values()))
        chosen = list(self.requests[:2])
        own = {sizes(numbers(self.synthesizer(request))) for request in chosen}
        chosen += [request for request, output in (made[:1] + made[-1:]) if sizes(output) not in own]
        if len(own) == 1 and len(chosen) == 2:  # outputs of one size: the shortest and the longest of what is given
            made.sort(key=lambda item: sum(length for _, length in given_sizes(item[0])))
            lengths = {given_sizes(request) for request in chosen}
            chosen += [request for request, _ in (made[:1] + made[-1:]) if given_sizes(request) not in lengths]
        return chosen

    @property
    def varied_data(self) -> bool:
        """Whether the items of the data differ in length."""
        _ = self.short
        return len(self.lengths.found) > 1

    def synthesize(self, requests: Sequence[Any], **kwargs: Any) -> list[dict[str, np.ndarray]]:
        """Synthesize in one batch and return numbers."""
        return [numbers(made) for made in self.synthesizer(list(requests), **kwargs)]

    @once
    def outputs(self) -> list[dict[str, np.ndarray]]:
        """The numbers of all requests, synthesized in one batch."""
        return self.synthesize(self.requests)

    def rounding(self, request: Any, tries: int = 3) -> float:
        """Return how far an output moves when the last bit of every weight does, at most of some tries."""
        model = self.synthesizer.model
        kept = copy.deepcopy(model.state_dict())
        (exact,) = self.synthesize([request])
        generator = torch.Generator().manual_seed(0)
        farthest = 0.0
        for _ in range(tries):
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    sign = torch.randint(0, 2, value.shape, generator=generator) * 2 - 1
                    value.copy_(kept[name] * (1 + sign * torch.finfo(value.dtype).eps))
            (moved,) = self.synthesize([request])
            farthest = max(farthest, distance(exact, moved)[0])
        model.load_state_dict(kept)
        return farthest

    def fresh(self) -> dict[str, np.ndarray]:
        """The numbers that another process makes of the export."""
        out = self.folder / "fresh.npz"
        requests = json.dumps([request.model_dump(mode="json") for request in self.requests])
        program = ["unisono.testing.fresh", str(self.export), str(out)]
        other_processes([program], stdin=requests, modules=self.modules)
        with np.load(out, allow_pickle=False) as arrays:
            return dict(arrays)


@cache
def subject(plugin: str, model: str) -> Subject:
    """Return the one subject of a model in this process."""
    return Subject(plugin, model)


class Start(Callback):
    """Remember the weights that training begins with, and which of them are trainable."""

    weights: dict[str, torch.Tensor]
    trainable: set[str]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = {k: v.detach().clone() for k, v in pl_module.state_dict().items()}
        self.trainable = {name for name, p in pl_module.named_parameters() if p.requires_grad}


class Lengths(Callback):
    """Remember which lengths the items of the training data have."""

    def __init__(self) -> None:
        self.found: set[int] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        holder: Any = trainer  # Lightning puts the data there without declaring it
        items = holder.datamodule.train_set
        self.found = {items.size(index) for index in range(min(len(items), 256))}


class Killed(Exception):
    """What ends a run in the middle."""


class Kill(Callback):
    """End the run before its step ``step`` (from 0) is taken."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise Killed


def training_state(run: Path) -> dict[str, Any]:
    """Read the last state of a run folder."""
    return read_training_state(find_training_state(run))


def raw_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights that the optimiser works on: beside the average where there is one."""
    return state.get("current_model_state", state["state_dict"])


def asked(request: Any) -> str:
    """A request in short: the fields that were given, long values cut."""
    parts = []
    for name in sorted(request.model_fields_set):
        value = repr(getattr(request, name))
        parts.append(f"{name}={value if len(value) <= 40 else value[:39] + '…'}")
    return f"the request ({', '.join(parts)})"


def given_sizes(request: Any) -> tuple[tuple[str, int], ...]:
    """The lengths of what a request gives: its texts, lists and arrays."""
    given = {name: getattr(request, name) for name in type(request).model_fields}
    return tuple((name, len(value)) for name, value in given.items() if isinstance(value, Sized))


@contextmanager
def _masked_starts(loose: list[int]) -> Iterator[None]:
    """Note each masked decoding that begins with given tokens that are not frozen."""
    decode: Any = import_module("unisono.masked.run.decode")  # the name in its package is the function

    begin = decode._begin

    def watched(model: Any, canvas: Any, *rest: Any) -> Any:
        count = int((canvas.known & ~canvas.frozen & (canvas.age < 0)).sum())
        if count:
            loose.append(count)
        return begin(model, canvas, *rest)

    decode._begin = watched
    try:
        yield
    finally:
        decode._begin = begin


@contextmanager
def _empty_folder(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
    left = sorted(p.name for p in folder.iterdir())
    named = left[0] if left else ""
    ensure(not left, f"training left {named!r} in the working directory", "left-behind", file=named)
