"""Environment registry: environments by name; a third party registers its own.

An export names its environment, and never a module: what a name stands for is said by code that is installed, either by
``register_environment`` or by an entry point of the group ``unisono_control.environments``.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from unisono.errors import DataError, did_you_mean

from unisono_control.environments.protocol import Environment

GROUP = "unisono_control.environments"
BUILT_IN = {
    "table": "unisono_control.environments.table:Table",
    "lander": "unisono_control.environments.lander:Lander",
}
_registered: dict[str, Callable[..., Any]] = {}


def register_environment(name: str, make: Callable[..., Environment]) -> None:
    """Make an environment known under a name; raises ``DataError`` where the name is taken by another one."""
    if name in BUILT_IN or _registered.get(name, make) is not make:
        raise DataError(
            f"an environment {name!r} is known already: give another name",
            code="exists",
            path="environment",
            value=name,
        )
    _registered[name] = make


def environment_names() -> list[str]:
    """Return the names of all environments that are known."""
    return sorted({*BUILT_IN, *_registered, *(point.name for point in entry_points(group=GROUP))})


def make_environment(name: str, **settings: Any) -> Any:
    """Make an environment by its name; ``settings`` are its constructor's.

    Raises ``DataError`` for a name or a setting that is unknown, and ``MissingExtra`` where a package is missing.
    """
    make = _find(name)
    taken = inspect.signature(make).parameters
    for key in settings:
        if key not in taken:
            raise DataError(
                f"environment {name!r} has no setting {key!r}{did_you_mean(key, taken)}",
                code="unknown",
                path=f"settings.{key}",
                value=key,
            )
    return make(**settings)


def _find(name: str) -> Callable[..., Any]:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    if name in _registered:
        return _registered[name]
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()
    raise DataError(
        f"no environment {name!r}{did_you_mean(name, environment_names())}; register_environment makes one known",
        code="unknown",
        path="environment",
        value=name,
    )
