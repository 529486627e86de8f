"""Calls of a network as a pipeline makes them: recorded, compared, and evaluated many at once.

A call's arguments are of two kinds. Those with a row per sample are stacked over calls; a timestep given as one number
becomes one per row. All else is shared: calls that differ in it are evaluated apart. Position tables
(`txt_ids`, rotary embeddings) are shared whatever their shape.

Letters: b rows of one call, n rows of all calls that are stacked.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unisono.diffusion.chain.purity import has_rows
from unisono.diffusion.chain.tree import distance, finite
from unisono.diffusion.solvers.evaluator import Evaluator
from unisono.errors import UnisonoError

Path = tuple[Any, ...]

_TABLES = ("rotary", "rope", "freqs")
_HERE = object()


@dataclass(frozen=True)
class Answer:
    """What a network answered: its tensors [b, …], and the form in which they came (no tensors: their places)."""

    tensors: tuple[Tensor, ...]
    kind: type
    keys: tuple[str, ...]
    parts: tuple[Any, ...]

    @classmethod
    def of(cls, given: Any) -> Answer:
        """Take a network's answer apart: a tensor, or a tuple, list or output class with tensors in it.

        Raises:
            UnisonoError: if there is no tensor in it.
        """
        keys = tuple(given) if isinstance(given, Mapping) else ()
        whole = [given[key] for key in keys] if keys else given if isinstance(given, (tuple, list)) else [given]
        tensors = tuple(part for part in whole if isinstance(part, Tensor))
        if not tensors:
            raise UnisonoError(
                f"the network answered with a {type(given).__name__} that holds no tensor at its top",
                code="type",
                path="network",
                value=type(given).__name__,
            )
        return cls(tensors, type(given), keys, tuple(_HERE if isinstance(part, Tensor) else part for part in whole))

    def give(self) -> Any:
        """The answer in its form; the tensors are copies, which the pipeline may change."""
        tensors = iter(self.tensors)
        whole = [next(tensors).clone() if part is _HERE else part for part in self.parts]
        if self.keys:
            return self.kind(**dict(zip(self.keys, whole, strict=True)))
        return self.kind(whole) if issubclass(self.kind, (tuple, list)) else whole[0]


@dataclass(frozen=True)
class Call:
    """One recorded call: `x` [b, …] is its first tensor, `rows` has what is per row, `shared` the rest."""

    network: str
    bound: inspect.BoundArguments
    x: Tensor
    rows: dict[Path, Tensor]
    shared: dict[Path, Any]

    @classmethod
    def of(cls, network: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Record a call.

        Raises:
            UnisonoError: if the first argument is no tensor with a batch.
        """
        bound = signature.bind(*args, **kwargs)
        name, first = next(iter(bound.arguments.items()))
        if not isinstance(first, Tensor) or first.ndim < 2:
            raise UnisonoError(
                f"{network} gets a {type(first).__name__} as {name!r}, not a tensor with a batch: such a pipeline "
                "cannot run in parallel",
                code="unsupported",
                path=f"{network}.{name}",
                value=type(first).__name__,
            )
        first = first.clone()  # pipelines may go on writing into it
        call = cls(network, bound, first, {}, {})
        for key, value in bound.arguments.items():
            call._sort(value, (key,))
        call.rows[(name,)] = first
        return call

    def _sort(self, value: Any, path: Path) -> None:
        name, b = str(path[0]), len(self.x)
        timestep = "timestep" in name and len(path) == 1
        if isinstance(value, Mapping):
            for key in value:
                self._sort(value[key], (*path, key))
        elif isinstance(value, (list, tuple)):
            for i, part in enumerate(value):
                self._sort(part, (*path, i))
            self.shared[(*path, "length")] = len(value)
        elif timestep and isinstance(value, (int, float)) and not isinstance(value, bool):
            dtype = torch.float64 if isinstance(value, float) else torch.int64
            self.rows[path] = torch.tensor(value, dtype=dtype, device=self.x.device).expand(b)
        elif timestep and isinstance(value, Tensor) and value.numel() == 1:
            self.rows[path] = value.reshape(1).expand(b)
        elif isinstance(value, Tensor) and value.ndim and len(value) == b and not _is_table(value, path):
            self.rows[path] = value
        else:
            self.shared[path] = value

    @property
    def timestep(self) -> float | None:
        """The timestep of the first row; None if the network is told none by that name."""
        for path, value in self.rows.items():
            if "timestep" in str(path[0]) and len(path) == 1 and value.ndim == 1:
                return float(value[0])
        return None

    def stacks_with(self, other: Call) -> bool:
        """Whether two calls can be evaluated as one."""
        if self.network != other.network or self.rows.keys() != other.rows.keys():
            return False
        if any(v.shape != other.rows[p].shape or v.dtype != other.rows[p].dtype for p, v in self.rows.items()):
            return False
        if self.shared.keys() != other.shared.keys():
            return False
        return all(_same(value, other.shared[path]) for path, value in self.shared.items())

    def moved(self, old: Call) -> Float[Tensor, " b"]:
        """How far each row is from where it was in an earlier run: the largest relative distance of its tensors."""
        most = torch.zeros(len(self.x), device=self.x.device)
        if self.rows.keys() != old.rows.keys():
            return most + torch.inf
        for path, new in self.rows.items():
            was = old.rows[path]
            if new is was or not new.is_floating_point() or "timestep" in str(path[0]):
                continue
            if new.shape != was.shape:
                return most + torch.inf
            apart = distance(new.reshape(len(new), -1), was.reshape(len(was), -1)).to(most)
            most = torch.where(apart > most, apart, torch.where(apart.isnan(), apart, most))
        return most

    def fill(self, rows: Mapping[Path, Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments with other rows."""
        filled = {key: _filled(value, (key,), rows) for key, value in self.bound.arguments.items()}
        bound = inspect.BoundArguments(self.bound.signature, OrderedDict(filled))
        return bound.args, bound.kwargs


def evaluate_calls(
    calls: Sequence[Call], numbers: Sequence[int], forward: Mapping[str, Callable[..., Any]], evaluator: Evaluator
) -> list[Answer]:
    """The answers of calls, evaluated in as few batches as what they share allows; `numbers` are their steps.

    Raises:
        UnisonoError: if a network fails with stacked calls, or answers with another number of rows.
    """
    answers: list[Answer | None] = [None] * len(calls)
    while None in answers:
        lead = calls[answers.index(None)]
        group = [i for i, call in enumerate(calls) if answers[i] is None and call.stacks_with(lead)]
        b, device = len(lead.x), lead.x.device
        x = {path: torch.cat([calls[i].rows[path] for i in group]) for path in lead.rows}
        form: list[Answer] = []

        def evaluate(x: Any, step: Tensor, sample: Tensor, lead: Call = lead, form: list[Answer] = form) -> Any:
            args, kwargs = lead.fill(x)
            try:
                given = forward[lead.network](*args, **kwargs)
            except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                shared = sorted({".".join(map(str, p)) for p, v in lead.shared.items() if isinstance(v, Tensor)})
                raise UnisonoError(
                    f"{lead.network} fails with {len(step)} rows of several steps in one batch ({error}); taken as "
                    f"shared: {', '.join(shared) or 'no tensor'}; run this pipeline by itself",
                    code="unsupported",
                    path=lead.network,
                ) from error
            answer = Answer.of(given)
            form[:] = [replace(answer, tensors=())]
            if not has_rows(answer.tensors, len(step)):
                raise UnisonoError(
                    f"{lead.network} answered {len(step)} rows with {[tuple(t.shape) for t in answer.tensors]}: "
                    "a network that mixes its rows cannot run in parallel",
                    code="shape",
                    path=lead.network,
                    value=[tuple(t.shape) for t in answer.tensors],
                )
            return answer.tensors

        step = torch.tensor([numbers[i] for i in group], device=device).repeat_interleave(b)
        sample = torch.arange(b, device=device).repeat(len(group))
        packed = evaluator(evaluate, x, step, sample)
        for k, i in enumerate(group):
            answers[i] = replace(form[0], tensors=tuple(t[k * b : (k + 1) * b] for t in packed))
    return [answer for answer in answers if answer is not None]


def finite_rows(answer: Answer) -> Bool[Tensor, " b"]:
    """Whether all numbers of a row of an answer are finite."""
    return finite([t.reshape(len(t), -1) for t in answer.tensors]).cpu()


def _is_table(value: Tensor, path: Path) -> bool:
    """Positions and rotary embeddings, which all rows share even where their length happens to be the batch size."""
    name = str(path[0])
    return any(part in name for part in _TABLES) or (name.endswith("_ids") and len(path) == 1 and value.ndim == 2)


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        both = isinstance(a, Tensor) and isinstance(b, Tensor)
        return both and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and bool(a == b)


def _filled(value: Any, path: Path, rows: Mapping[Path, Tensor]) -> Any:
    if path in rows:
        return rows[path]
    if isinstance(value, Mapping):
        return {key: _filled(part, (*path, key), rows) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_filled(part, (*path, i), rows) for i, part in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
