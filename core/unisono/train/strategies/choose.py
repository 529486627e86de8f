"""Choose: strategies and profilers as a recipe names them.

::

    strategy: fsdp2                                                a name
    strategy: {name: ddp, static_graph: true}                      a name with options
    strategy: {class_path: package.Strategy, init_args: {...}}     a class, of Lightning or your own

Options are dataclasses, checked when a recipe is read; a class is imported when a run begins, and by nothing else.
"""

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unisono.arguments import build
from unisono.errors import RecipeError, did_you_mean, shown
from unisono.train.strategies.options import PROFILERS, STRATEGIES

CHOICES: dict[str, dict[str, Any]] = {"strategy": STRATEGIES, "profiler": PROFILERS}
"""The names of each argument of the trainer that have options."""
REPLACED = {"fsdp": "fsdp2", "fsdp_cpu_offload": "fsdp2", "ddp_find_unused_parameters_true": "ddp"}


def check_choice(kind: str, given: Any, origin: str) -> Any:
    """Return a choice as plain data, its options checked and filled in; a name alone stays one.

    Raises ``RecipeError`` for an unknown name where there are options, and for other options than a name has.
    """
    path = f"trainer.{kind}"
    if not isinstance(given, Mapping):
        return given
    if "class_path" in given:
        unknown = [key for key in given if key not in ("class_path", "init_args")]
        if unknown or not isinstance(given["class_path"], str) or not isinstance(given.get("init_args", {}), Mapping):
            raise RecipeError(
                f"{origin}: {path}={shown(dict(given))} must be {{class_path: package.Class, init_args: {{…}}}}",
                path=f"{path}.{unknown[0]}" if unknown else path,
                value=dict(given),
                code="unknown" if unknown else "type",
            )
        return {"class_path": given["class_path"], "init_args": dict(given.get("init_args") or {})}
    name = given.get("name")
    known = CHOICES[kind]
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(name, known) if isinstance(name, str) else f" (known: {', '.join(known)})"
        raise RecipeError(
            f"{origin}: {path}.name={shown(name)} is no {kind} with options{hint}; or give a class_path",
            path=f"{path}.name",
            value=name,
            code="missing" if name is None else "unknown",
        )
    options = build(known[name], {key: value for key, value in given.items() if key != "name"}, path, origin)
    return {"name": name, **asdict(options)}


def make(kind: str, given: Any, origin: str) -> Any:
    """Return what Lightning's Trainer takes for a choice: an object, or a name that it knows itself."""
    if isinstance(given, str) and kind == "strategy" and given in REPLACED:
        instead = REPLACED[given]
        options = "; name: ddp with find_unused_parameters: true" if instead == "ddp" else ""
        raise RecipeError(
            f"{origin}: trainer.strategy={given}: states of it would not go on elsewhere; use {instead}{options}",
            path="trainer.strategy",
            value=given,
            code="unsupported",
        )
    if isinstance(given, str) and given in CHOICES[kind] and given != "ddp":
        given = {"name": given}
    if not isinstance(given, Mapping):
        return given
    if "class_path" in given:
        return _of_class(kind, given["class_path"], given.get("init_args") or {}, origin)
    name = given["name"]
    options = {key: value for key, value in given.items() if key != "name"}
    return build(CHOICES[kind][name], options, f"trainer.{kind}", origin).make()


def _of_class(kind: str, class_path: str, arguments: Mapping[str, Any], origin: str) -> Any:
    path = f"trainer.{kind}.class_path"
    module, _, name = class_path.rpartition(".")
    base = _base(kind)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(
            f"{origin}: {path}={shown(class_path)} cannot be imported ({error}): give package.module.Class",
            path=path,
            value=class_path,
            code="missing",
        ) from error
    if not isinstance(found, type) or not issubclass(found, base):
        raise RecipeError(
            f"{origin}: {path}={shown(class_path)} is no {base.__module__}.{base.__qualname__}: give a class of "
            "that kind",
            path=path,
            value=class_path,
            code="type",
        )
    try:
        return found(**arguments)
    except Exception as error:  # whatever a constructor raises, its arguments do not fit
        raise RecipeError(
            f"{origin}: trainer.{kind}.init_args do not fit {class_path}: {' '.join(str(error).split()):.300}",
            path=f"trainer.{kind}.init_args",
            value=dict(arguments),
            code="value",
        ) from error


def _base(kind: str) -> type:
    if kind == "strategy":
        from lightning.pytorch.strategies import Strategy

        return Strategy
    from lightning.pytorch.profilers import Profiler

    return Profiler
