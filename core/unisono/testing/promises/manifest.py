"""Promises of a plugin: its manifest, the signatures that it names, its recipes."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from unisono import plugin as plugins
from unisono.arguments import REQUIRED
from unisono.data import DataModule
from unisono.media import Media
from unisono.model import Model
from unisono.plugin import Plugin, Role
from unisono.recipe import Recipe
from unisono.request import Request
from unisono.testing.check import ensure
from unisono.testing.processes import other_process


def manifest_is_light(plugin: Plugin) -> None:
    """The manifest loads without torch."""
    code = (
        "import sys, unisono.plugin as p; p.get(sys.argv[1]); "
        "print([m for m in ('torch', 'lightning', 'librosa', 'matplotlib') if m in sys.modules])"
    )
    heavy = other_process(code, plugin.name).strip()
    ensure(
        heavy == "[]",
        f"importing the manifest imports {heavy}: name modules as strings, import them on use",
        "manifest-heavy",
        modules=heavy,
    )


def targets_import(plugin: Plugin) -> None:
    """Every name of the manifest imports as what it says it is."""
    for short in plugin.models:
        model = plugins.resolve(f"{plugin.name}/{short}", "models")
        _is(isinstance(model, type) and issubclass(model, Model), f"model {short!r} is no unisono.Model", model)
        _is(issubclass(model.Request, Request), f"{short!r}: Request is no unisono.Request", model)
        _is(issubclass(model.Media, Media), f"{short!r}: Media is no unisono.Media", model)
        _is(
            model.text_field in model.Request.model_fields,
            f"{short!r}: text_field {model.text_field!r} is no field of its Request",
            model,
        )
        for name, target in model.builtin_components.items():
            _is(callable(plugins.import_string(target)), f"{short!r}: component {name!r} is not callable", model)
    for short in plugin.data:
        data = plugins.resolve(f"{plugin.name}/{short}", "data")
        _is(issubclass(data, DataModule), f"data {short!r} is no unisono.DataModule", data)
    for verb in plugin.verbs:
        module = plugins.verb_module(verb)
        for name, arguments in (("add_arguments", (None,)), ("run", (None, []))):
            function = getattr(module, name, None)
            _is(callable(function), f"verb {verb!r}: its module has no {name}()", module)
            _takes(function, f"verb {verb!r}: {name}", *arguments)


def evaluators_can_be_called(plugin: Plugin) -> None:
    """Evaluators and probes are of models of the plugin, and take what `evaluate` and `sweep` call them with."""
    calls: dict[Role, dict[str, Any]] = {
        "evaluators": {"limit": 1, "checkpoint": "export"},
        "sweeps": {"limit": 1},
    }
    for role, keywords in calls.items():
        for short in getattr(plugin, role):
            ensure(
                short in plugin.models,
                f"{role}: {short!r} is no model of the plugin",
                "unknown-model",
                role=role,
                model=short,
            )
            function = plugins.resolve(f"{plugin.name}/{short}", role)
            _is(callable(function), f"{role}: what {short!r} names is not callable", function)
            _takes(function, f"{role}: {short!r}", None, "data", **keywords)


def constructors_are_typed(plugin: Plugin) -> None:
    """Constructors have typed arguments, each by name; they are the recipe's keys."""
    targets: dict[Role, dict[str, str]] = {"models": plugin.models, "data": plugin.data}
    for role, shorts in targets.items():
        for short in shorts:
            target = plugins.resolve(f"{plugin.name}/{short}", role)
            for name, parameter in inspect.signature(target).parameters.items():
                called = f"{target.__name__}.__init__: {name}"
                ensure(
                    parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD),
                    f"{called} takes anything, so that no typo can be refused: name each argument",
                    "argument-open",
                    target,
                    argument=name,
                )
                ensure(
                    parameter.annotation is not parameter.empty,
                    f"{called} has no type",
                    "argument-untyped",
                    target,
                    argument=name,
                )


def recipes_parse(plugin: Plugin) -> None:
    """Every shipped recipe parses strictly, says what it is, and survives being written and read."""
    recipes = plugins.recipe_names(plugin)
    ensure(bool(recipes), "the plugin ships no recipe", "no-recipe")
    for name, resource in recipes.items():
        text = resource.read_text(encoding="utf-8")
        ensure(
            text.startswith("# "),
            f"recipe {name} does not say what it is in a comment on its first line",
            "recipe-silent",
            recipe=name,
        )
        missing = [f"--{path}=placeholder" for path in _required(yaml.safe_load(text))]
        recipe = Recipe.read(name, missing)
        again = Recipe.from_dict(yaml.safe_load(recipe.to_yaml()), name=recipe.name)
        ensure(again == recipe, f"recipe {name} changes when it is written and read", "recipe-changes", recipe=name)


def _is(condition: bool, sentence: str, at: Any) -> None:
    ensure(condition, sentence, "target-wrong", at)


def _takes(function: Callable[..., Any] | Any, what: str, *positional: Any, **keywords: Any) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(*positional, **keywords)
    except TypeError as error:
        call = ", ".join([*("…" for _ in positional), *(f"{name}=…" for name in keywords)])
        ensure(
            False,
            f"{what} is {function.__name__}{signature}, which cannot be called with ({call}): {error}",
            "signature",
            function,
            called=what,
        )


def _required(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _required(value, f"{prefix}{key}.")
        elif value == REQUIRED:
            yield f"{prefix}{key}"
