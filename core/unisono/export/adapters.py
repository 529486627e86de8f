"""Adapters alone: an export of what was trained beside a frozen model, which is named by the digest of its weights.

Its weights are the adapters, the parameters that were trained themselves, and the buffers; ``join`` gives a model the
rest from an export of the model that they were trained on, whose digest must be the same.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unisono.errors import CheckpointError
from unisono.export.layout import INFO, shown
from unisono.export.weights import export_state, read_header, read_safetensors
from unisono.nn.adapters import beneath_adapters

BASE = "base"
"""The key of ``unisono.json`` that an export of adapters alone has: ``{"digest": …, "name": …}``."""


def alone(model: Any, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the weights that an export of adapters alone holds; raises ``CheckpointError`` for a model without."""
    if not model.adapted:
        raise CheckpointError(
            f"this {type(model).__name__} has no adapters, which alone were to be written: export it merged",
            code="empty",
            path="adapters",
        )
    frozen = _frozen(model)
    return {name: value for name, value in export_state(model, state).items() if name not in frozen}


def digest(model: Any, state: Mapping[str, Any]) -> str:
    """Return the digest of the frozen weights beneath a model's adapters: of plain names and of float32 numbers."""
    told = hashlib.blake2b(digest_size=16)
    for plain, name in sorted((name.replace(".base_layer.", "."), name) for name in _frozen(model)):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        told.update(f"{plain}{tuple(value.shape)}".encode())
        told.update(value.numpy().tobytes())
    return told.hexdigest()


def base_header(base: Path) -> dict[str, Any]:
    """Return the header of the export that adapters were trained on."""
    from unisono.export.read import read_info

    if BASE in read_info(base):
        raise CheckpointError(
            f"{shown(base)} holds adapters alone, too: give the export that these were trained on",
            code="conflict",
            path=str(base),
        )
    return read_header(base)


def join(model: Any, folder: Path, info: Mapping[str, Any], base: Path) -> None:
    """Give a model that ``adapt`` has prepared the frozen weights of ``base``; raises where they are others."""
    told = info[BASE]
    wanted = told.get("digest") if isinstance(told, dict) else None
    own = model.state_dict()
    weights = {k: v.float() if v.is_floating_point() else v for k, v in read_safetensors(base).items()}
    state = beneath_adapters(own, weights)
    wrong = [name for name in _frozen(model) if name not in state or state[name].shape != own[name].shape]
    if wrong or digest(model, state) != wanted:
        why = f"its {wrong[0]} is missing or has another shape" if wrong else "its weights are others"
        raise CheckpointError(
            f"{shown(folder)} was trained on other weights than those of {shown(base)} ({why}): give the export with "
            f"the digest {wanted}",
            code="conflict",
            path=str(base),
            value=wanted,
        )
    model.load_state_dict({name: state[name] for name in _frozen(model)}, strict=False)


def needs_base(folder: Path, info: Mapping[str, Any]) -> CheckpointError:
    """Return the refusal of an export of adapters alone that is given no base."""
    told = info[BASE] if isinstance(info[BASE], dict) else {}
    name = f" (it was named {told['name']!r:.80})" if told.get("name") else ""
    return CheckpointError(
        f"{shown(folder)} holds adapters alone; {INFO} names the weights beneath them by the digest "
        f"{told.get('digest')!r:.60}{name}: give their export as base=FOLDER, or merge both by  "
        "unisono export ADAPTERS DEST --base FOLDER",
        code="missing",
        path="base",
    )


def _frozen(model: Any) -> set[str]:
    training_only = tuple(getattr(model, "training_only", ()))
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(model.adapted)
    return {name for name in names if not training_only or not name.startswith(training_only)}
