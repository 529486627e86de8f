"""Weights: one safetensors file, compared with the model by its header before anything is taken from it.

A recipe is text that anybody can edit: the model that it describes is built ``within`` a budget, which ends as soon as
far more is asked for than the file could fill.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from unisono.errors import CheckpointError
from unisono.export.layout import INFO, RECIPE, WEIGHTS, kind_of, shown

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""How floating-point weights may lie on disk: the name in ``unisono.json``, and in the header of the weights."""
# What a model may hold beyond its file: parts that only training needs, and buffers that are computed.
_SPARE_TENSORS, _SPARE_MODULES, _SPARE_ELEMENTS = 2_000, 20_000, 2**26


@dataclass(frozen=True)
class Entry:
    """One weight as the header describes it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def floating(self) -> bool:
        return self.dtype.startswith(("F", "BF"))


def read_header(folder: Path) -> dict[str, Entry]:
    """Return names, shapes and kinds of an export's weights; the weights themselves stay on the disk."""
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    kind = kind_of(path)
    if kind == "missing":
        raise CheckpointError(f"{shown(folder)} has no {WEIGHTS}: fetch the export again", code="missing", path=path)
    if kind != "file":  # a FIFO would block
        raise CheckpointError(f"{shown(path)} is no regular file: fetch the export again", code="unsafe", path=path)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            return {name: Entry(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{shown(path)} is truncated or not safetensors: fetch the export again ({error})",
            code="damaged",
            path=path,
        ) from None


def read_safetensors(folder: Path) -> dict[str, Any]:
    """Weights in the type in which they lie on disk; a model takes them over in its own."""
    from safetensors.torch import load_file

    read_header(folder)
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise CheckpointError(
            f"{shown(folder / WEIGHTS)} cannot be read: {error}", code="damaged", path=folder / WEIGHTS
        ) from None


def load_weights(model: Any, folder: Path, dtype: Any = None, expected: dict[str, Any] | None = None) -> None:
    """Give a built model the weights of an export; raises ``CheckpointError`` unless both agree in every weight.

    ``expected`` are the model's weights that the export must hold, all of them where not given. ``dtype`` is what
    ``unisono.json`` says of floating-point weights: read as another type of the same size, they would be other numbers.
    """
    header = read_header(folder)
    expected = export_state(model) if expected is None else expected
    missing, surplus = sorted(expected.keys() - header.keys()), sorted(header.keys() - expected.keys())
    shared = sorted(expected.keys() & header.keys())
    shapes = [k for k in shared if tuple(expected[k].shape) != header[k].shape]
    kinds = [k for k in shared if expected[k].is_floating_point() != header[k].floating]
    if missing or surplus or shapes or kinds:
        first = (missing or surplus or shapes or kinds)[0]
        raise CheckpointError(
            f"{shown(folder / WEIGHTS)} does not fit {RECIPE}: {len(missing)} weights missing, {len(surplus)} unknown, "
            f"{len(shapes)} of another shape{f', {len(kinds)} of another kind of number' if kinds else ''} "
            f"(first: {first!r:.120}); the files belong to different exports: fetch the export again",
            code="missing" if missing else "unknown" if surplus else "shape" if shapes else "type",
            path=folder / WEIGHTS,
            value=first,
        )
    told = DTYPES.get(dtype) if isinstance(dtype, str) else None
    other = next((k for k in shared if told and header[k].floating and header[k].dtype != told), None)
    if other is not None:
        raise CheckpointError(
            f"{shown(folder / WEIGHTS)} has {other!r:.120} as {header[other].dtype}, and {INFO} says {dtype}: "
            "fetch the export again",
            code="conflict",
            path=folder / WEIGHTS,
            value=other,
        )
    model.load_state_dict(read_safetensors(folder), strict=False)
    for name, parameter in model.named_parameters():
        if name in header and not bool(parameter.isfinite().all()):
            raise CheckpointError(
                f"{shown(folder / WEIGHTS)} has NaN or infinity in {name!r:.120}: fetch the export again, or export "
                "an earlier state of the run",
                code="damaged",
                path=folder / WEIGHTS,
                value=name,
            )


def export_state(model: Any, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the weights that belong in an export: all but what the model names as training-only."""
    training_only = tuple(getattr(model, "training_only", ()))
    weights: dict[str, Any] = dict(model.state_dict() if state is None else state)
    return {k: v for k, v in weights.items() if not training_only or not k.startswith(training_only)}


def on_disk(state: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return weights as they are written: floating-point ones in ``dtype``, whole numbers as they are."""
    target = getattr(torch, dtype)
    return {k: (v.to(target) if v.is_floating_point() else v).contiguous().clone() for k, v in state.items()}


def check_finite(weights: dict[str, Any], parameters: set[str], dtype: str) -> None:
    """Raise ``CheckpointError`` for NaN in any weight, and for infinity in one that is learnt (a mask may hold it)."""
    for name, value in weights.items():
        if not value.is_floating_point():
            continue
        bad = int((~value.isfinite() if name in parameters else value.isnan()).sum())
        if bad:
            half = f", or it does not fit {dtype}: export as float32" if dtype == "float16" else ""
            raise CheckpointError(
                f"the weights are not finite: {name} has {bad} of {value.numel()} values that are NaN or infinite; "
                f"training went wrong, take an earlier state{half}",
                code="damaged",
                path=name,
                value=bad,
            )


@contextmanager
def within(header: dict[str, Entry], folder: Path) -> Iterator[None]:
    """Build a model here; raises ``CheckpointError`` as soon as it asks for far more than the header's weights."""
    elements = 4 * sum(math.prod(entry.shape) for entry in header.values()) + _SPARE_ELEMENTS
    tensors, modules = 4 * len(header) + _SPARE_TENSORS, 40 * len(header) + _SPARE_MODULES
    counted = {"tensors": 0, "modules": 0, "elements": 0}

    def count(what: str, by: int, most: int) -> None:
        counted[what] += by
        if counted[what] > most:
            raise CheckpointError(
                f"{shown(folder / WEIGHTS)} does not fit {RECIPE}, which asks for far more than its {len(header)} "
                "weights; the files belong to different exports: fetch the export again",
                code="limit",
                path=folder / WEIGHTS,
                value=counted[what],
            )

    def on_parameter(module: Any, name: str, parameter: Any) -> None:
        count("tensors", 1, tensors)
        count("elements", 0 if parameter is None else parameter.numel(), elements)

    handles = [
        hooks.register_module_parameter_registration_hook(on_parameter),
        hooks.register_module_module_registration_hook(lambda *_: count("modules", 1, modules)),
    ]
    try:
        with _Sized(elements, lambda size: count("elements", size, elements)):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Sized(TorchDispatchMode):
    """Looks at the size of every tensor before it is made, and asks about those above a limit."""

    def __init__(self, most: int, ask: Any):
        super().__init__()
        self.most = most
        self.ask = ask

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not func._schema.is_mutable and (size := _size_made(func, args, kwargs)) > self.most:
            self.ask(size)
        return func(*args, **kwargs)


def _size_made(func: Any, args: Any, kwargs: Any) -> int:
    """How many elements an operation would make, found on the meta device; 0 where that cannot be told."""

    def bare(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().to("meta") if not value.is_meta else value
        return torch.device("meta") if isinstance(value, torch.device) else value

    if any(argument.name == "device" for argument in func._schema.arguments):
        kwargs = {**kwargs, "device": torch.device("meta")}
    try:
        with torch._C._DisableTorchDispatch():
            made = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    except (RuntimeError, NotImplementedError, TypeError):
        return 0
    return made.numel() if isinstance(made, torch.Tensor) else 0
