"""Which checks a plugin has, as pytest parameters and as a table."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from unisono import plugin as plugins
from unisono.errors import PluginError, did_you_mean


@dataclass(frozen=True)
class Check:
    """One promise of one model (or of the plugin as a whole); calling it raises where it is not kept."""

    name: str
    of: str
    promise: str
    call: Callable[[], None]

    @property
    def id(self) -> str:
        return f"{self.name}[{self.of}]"

    def __call__(self) -> None:
        self.call()


@dataclass(frozen=True)
class Outcome:
    """How a check ended: ``passed``, ``failed`` or ``skipped``, why, and after how many seconds."""

    check: Check
    state: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float


class Skipped(Exception):
    """A check that cannot run on this machine; counted, never silent."""


def all_checks(plugin_name: str) -> list[Check]:
    """Return every check of a plugin: some of the plugin, the rest of each registered model."""
    from unisono.testing import model_under_test, promises

    plugin = plugins.get(plugin_name)
    if not plugin.models:
        raise PluginError(f"plugin {plugin_name!r} registers no model: there is nothing to check")

    def make(function: Callable[[Any], None], of: str, what: Callable[[], Any]) -> Check:
        promise = (function.__doc__ or "").partition("\n")[0]
        return Check(function.__name__, of, promise, lambda: function(what()))

    of_plugin = [make(function, plugin_name, partial(plugins.get, plugin_name)) for function in promises.OF_PLUGIN]
    of_models = [
        make(function, model, partial(model_under_test.subject, plugin_name, model))
        for model in plugin.models
        for function in promises.OF_MODEL
    ]
    return of_plugin + of_models


def checks(plugin_name: str, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Return a plugin's checks as pytest parameters.

    ``expected_failures`` maps ``"check[model]"`` to why it fails; such a check must fail (a strict xfail).
    Raises ``PluginError`` for a name that is no check of this plugin.
    """
    import pytest

    expected = dict(expected_failures or {})
    found = all_checks(plugin_name)
    for name in expected:
        if name not in {check.id for check in found}:
            known = [check.id for check in found]
            hint = did_you_mean(name, known)
            raise PluginError(f"expected_failures names {name!r}, which is no check of {plugin_name!r}{hint}")
    return [
        pytest.param(
            check,
            id=check.id,
            marks=[pytest.mark.xfail(reason=expected[check.id], strict=True)] if check.id in expected else [],
        )
        for check in found
    ]


def run(plugin_name: str) -> Iterator[Outcome]:
    """Run every check of a plugin, one after the other, and yield how each ended."""
    for check in all_checks(plugin_name):
        started = time.perf_counter()
        state, reason = "passed", ""
        try:
            check()
        except Skipped as error:
            state, reason = "skipped", str(error)
        except AssertionError as error:
            state, reason = "failed", str(error)
        except Exception as error:  # whatever a plugin raises is the outcome of its check
            state, reason = "failed", f"{type(error).__name__}: {error}"
        yield Outcome(check, state, reason, time.perf_counter() - started)
