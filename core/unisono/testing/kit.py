"""Kit: which checks a plugin has, as pytest parameters and as outcomes."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unisono import plugin as plugins
from unisono.errors import PluginError, did_you_mean
from unisono.testing.check import Check, CheckFailed, Outcome, Skipped, where


def all_checks(plugin_name: str) -> list[Check]:
    """Return every check of a plugin: some of the plugin, the rest of each registered model."""
    from unisono.testing import promises
    from unisono.testing.model_under_test import subject

    plugin = plugins.get(plugin_name)
    if not plugin.models:
        raise PluginError(
            f"plugin {plugin_name!r} registers no model: there is nothing to check", code="empty", path=plugin_name
        )
    package = _package(plugin)

    def make(function: Callable[[Any], None], of: str, what: Callable[[], Any], about: Callable[[], Any]) -> Check:
        promise = (function.__doc__ or "").partition("\n")[0]
        return Check(function.__name__, of, promise, lambda: function(what()), package, about)

    manifest = partial(plugins.get, plugin_name)
    of_plugin = [make(function, plugin_name, manifest, lambda: None) for function in promises.OF_PLUGIN]
    of_models = [
        make(function, model, partial(subject, plugin_name, model), partial(plugins.resolve, name, "models"))
        for model, name in ((model, f"{plugin_name}/{model}") for model in plugin.models)
        for function in promises.OF_MODEL
    ]
    return of_plugin + of_models


def checks(plugin_name: str, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Return a plugin's checks as pytest parameters.

    ``expected_failures`` maps ``"check[model]"`` to why it fails; such a check must fail (a strict xfail). Under
    pytest-xdist with ``--dist loadgroup`` the checks of a model run in one process, which makes its runs once.
    Raises ``PluginError`` for a name that is no check of this plugin.
    """
    import pytest

    expected = dict(expected_failures or {})
    found = all_checks(plugin_name)
    for name in expected:
        if name not in {check.id for check in found}:
            known = [check.id for check in found]
            hint = did_you_mean(name, known)
            raise PluginError(
                f"expected_failures names {name!r}, which is no check of {plugin_name!r}{hint}",
                code="unknown",
                path="expected_failures",
                value=name,
            )
    grouped = find_spec("xdist") is not None
    return [
        pytest.param(
            check,
            id=check.id,
            marks=[
                *([pytest.mark.xdist_group(f"{plugin_name}/{check.of}")] if grouped else []),
                *([pytest.mark.xfail(reason=expected[check.id], strict=True)] if check.id in expected else []),
            ],
        )
        for check in found
    ]


def run(plugin_name: str) -> Iterator[Outcome]:
    """Run every check of a plugin, one after the other, and yield how each ended."""
    for check in all_checks(plugin_name):
        yield outcome(check)


def outcome(check: Check) -> Outcome:
    """Run a check and return how it ended; whatever a plugin raises is the outcome of its check."""
    started = time.perf_counter()
    try:
        check()
    except Skipped as error:
        return Outcome(check, "skipped", str(error), time.perf_counter() - started)
    except Exception as error:
        seconds = time.perf_counter() - started
        if isinstance(error, CheckFailed):
            reason, code, fields = str(error), error.code, error.fields
        else:
            reason, code, fields = f"{type(error).__name__}: {error}", type(error).__name__, {}
        return Outcome(check, "failed", reason, seconds, where(error, check.package, _about(check)), code, fields)
    return Outcome(check, "passed", "", time.perf_counter() - started)


def _about(check: Check) -> Any:
    try:
        return check.about()
    except Exception:  # a model that cannot be imported has no place to look at
        return None


def _package(plugin: plugins.Plugin) -> str:
    """The folder of a plugin's code: of the top package that its first model is in."""
    top = next(iter(plugin.models.values())).partition(":")[0].partition(".")[0]
    spec = find_spec(top)
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else ""
