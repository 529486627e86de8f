"""Speed: the blocks that a model repeats, compiled each kind once, or computed again in the backward pass.

A block stays the module that it is: it is given a class derived from its own, so that the names of weights, copies,
exports and previews are what they were. Both switches act in training steps alone; validation, synthesis and exports
run as without them.

``torch.compile`` works on regions: of a network of 24 equal blocks it compiles one. Activation checkpointing is
``torch.utils.checkpoint`` without reentrance (Chen et al., arXiv:1604.06174), which keeps dropout's choices.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unisono.errors import RecipeError, did_you_mean
from unisono.switches import ActivationCheckpointing, Compile

_PLAIN = "_unisono_plain_class"


def speed_up(
    model: nn.Module, compiling: bool | Compile, checkpointing: bool | ActivationCheckpointing, device: str = "cpu"
) -> str | None:
    """Switch on what a recipe asks for; returns a sentence that says of which blocks, or None where it asks for none.

    Raises ``RecipeError`` where the model repeats no blocks, a pattern names no module, or no compiler is there.
    """
    told = []
    chosen: dict[str, nn.Module] = {}
    kinds: dict[int, tuple[Compile | None, bool]] = {}
    if compiling:
        spec = Compile() if compiling is True else compiling
        _check_compiler(spec, device)
        found = regions(model, spec.regions) if spec.regions else blocks(model, "run.compile")
        chosen |= found
        kinds |= {id(block): (spec, False) for block in found.values()}
        told.append(f"compiled: {_counted(found)}")
    if checkpointing:
        every = 1 if checkpointing is True else checkpointing.every
        found = dict(list(blocks(model, "run.activation_checkpointing").items())[::every])
        chosen |= found
        for block in found.values():
            kinds[id(block)] = (kinds.get(id(block), (None, False))[0], True)
        told.append(f"activations computed again: {_counted(found)}")
    for block in chosen.values():
        spec, again = kinds[id(block)]
        block.__class__ = _class(type(block), spec, again)
    return "; ".join(told) or None


def slow_down(model: nn.Module) -> None:
    """Give every block its own class back."""
    for module in model.modules():
        plain = type(module).__dict__.get(_PLAIN)
        if plain is not None:
            module.__class__ = plain


def blocks(model: nn.Module, path: str) -> dict[str, nn.Module]:
    """Return the blocks that a model declares (``Model.regions``, patterns of names), or repeats.

    Repeated are two or more modules of one class, made of other modules, side by side in a list. Left out are those
    that only training needs (discriminators), and those that change a state of their own at each call (batch norms,
    codebooks by moving averages).
    """
    declared = tuple(getattr(model, "regions", ()))
    if declared:
        return regions(model, declared)
    training_only = tuple(getattr(model, "training_only", ()))
    found = {
        name: block
        for name, block in _repeated(model, "")
        if not name.startswith(training_only) or not training_only
        if not _keeps_state(block)
    }
    if not found:
        raise RecipeError(
            f"{path}: {type(model).__name__} repeats no blocks that it could act on: switch it off"
            + (", or name submodules in run.compile.regions" if path == "run.compile" else ""),
            path=path,
            code="unsupported",
        )
    return found


def regions(model: nn.Module, patterns: tuple[str, ...]) -> dict[str, nn.Module]:
    """Return the submodules whose names fit patterns such as ``net.blocks.*``; none within another one."""
    names = dict(model.named_modules())
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        fitting = [
            name for name in names if name and fnmatchcase(name, pattern) and pattern.count(".") == name.count(".")
        ]
        if not fitting:
            raise RecipeError(
                f"run.compile.regions: no submodule is named {pattern!r:.80}{did_you_mean(pattern, names)}",
                path="run.compile.regions",
                value=pattern,
                code="unknown",
            )
        found |= {name: names[name] for name in fitting}
    return {name: module for name, module in found.items() if not any(name.startswith(f"{other}.") for other in found)}


def _repeated(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    lists = isinstance(module, nn.ModuleList | nn.Sequential)
    kinds = [type(child) for child in module.children()]
    for name, child in module.named_children():
        here = f"{path}{name}"
        if lists and kinds.count(type(child)) > 1 and not _is_layer(child):
            yield here, child
        else:
            yield from _repeated(child, f"{here}.")


def _is_layer(module: nn.Module) -> bool:
    """Whether it is a layer or a list of torch's own, or holds no weights."""
    own = type(module).__module__.startswith("torch.nn.")
    return own or not any(True for _ in module.children()) or not any(True for _ in module.parameters())


def _keeps_state(module: nn.Module) -> bool:
    return bool(module.state_dict().keys() - dict(module.named_parameters(remove_duplicate=False)).keys())


def _counted(found: dict[str, nn.Module]) -> str:
    counts: dict[str, int] = {}
    for block in found.values():
        name = type(block).__name__
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in counts.items())


# ---- the classes -------------------------------------------------------------------------------


@cache
def _class(plain: type[nn.Module], spec: Compile | None, again: bool) -> type[nn.Module]:
    """Derive a class whose ``forward`` is compiled, computed again in the backward pass, or both."""
    compiled: Callable[..., Any] | None = None
    if spec is not None:
        mode = None if spec.mode == "default" else spec.mode
        compiled = torch.compile(plain.forward, dynamic=spec.dynamic, backend=spec.backend, mode=mode)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if compiled is None or _counting.on:
            return plain.forward(self, *args, **kwargs)
        return compiled(self, *args, **kwargs)

    def sped_up(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return plain.forward(self, *args, **kwargs)
        if not again:
            return forward(self, *args, **kwargs)
        before = [buffer._version for buffer in self.buffers()]
        made = checkpoint(forward, self, *args, use_reentrant=False, context_fn=_contexts, **kwargs)
        for (name, buffer), version in zip(self.named_buffers(), before, strict=True):
            if buffer._version != version:
                raise RecipeError(
                    f"run.activation_checkpointing: {plain.__name__} changes its {name!r} at each call, and would do "
                    "so twice: switch it off",
                    path="run.activation_checkpointing",
                    value=plain.__name__,
                    code="unsupported",
                )
        return made

    return type(plain.__name__, (plain,), {"forward": sped_up, _PLAIN: plain, "__module__": plain.__module__})


class _Counting:
    """Whether a step's operations are being counted (``unisono.train.callbacks.flops``), and how to leave some out."""

    on = False
    pause: Callable[[], AbstractContextManager[Any]] = staticmethod(nullcontext)


_counting = _Counting()


@contextmanager
def counted(pause: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Run blocks uncompiled here, so that operations can be seen; ``pause`` surrounds what is computed again."""
    _counting.on, _counting.pause = True, pause
    try:
        yield
    finally:
        _counting.on, _counting.pause = False, nullcontext


def _contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _counting.pause()


def _check_compiler(spec: Compile, device: str) -> None:
    known = torch._dynamo.list_backends(exclude_tags=())
    if spec.backend not in known:
        raise RecipeError(
            f"run.compile.backend={spec.backend!r:.80} is not known{did_you_mean(spec.backend, known)}",
            path="run.compile.backend",
            value=spec.backend,
            code="unknown",
        )
    if spec.backend != "inductor" or os.name == "nt":
        return
    given = os.environ.get("CXX")
    names = [given.split()[0]] if given else ["g++", "clang++", "c++"]
    if device == "cpu" and not any(shutil.which(name) for name in names):
        raise RecipeError(
            f"run.compile needs a C++ compiler ({' or '.join(names)}), which is not on this machine: install one, or "
            "switch run.compile off",
            path="run.compile",
            value=True,
            code="dependency",
        )
    if device == "cuda" and find_spec("triton") is None:
        raise RecipeError(
            "run.compile needs the package triton on this device: pip install triton, or switch run.compile off",
            path="run.compile",
            value=True,
            code="dependency",
        )


# ---- memory ------------------------------------------------------------------------------------


@contextmanager
def saved_bytes() -> Iterator[dict[str, int]]:
    """Count the bytes that the forward pass here keeps for the backward pass, under ``bytes``; each storage once."""
    seen: set[int] = set()
    told = {"bytes": 0}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                held.append(tensor.detach())  # its memory is not given to another meanwhile
                told["bytes"] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield told
