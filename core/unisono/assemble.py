"""Assemble: a checked recipe becomes its data module and its model, with their components."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unisono import plugin as plugins
from unisono.arguments import build
from unisono.data import Audit, DataModule
from unisono.errors import RecipeError, UnisonoError
from unisono.export import load_component
from unisono.model import Model
from unisono.nn.adapters import add_adapters
from unisono.optim import OptimSpec
from unisono.recipe import Recipe


def build_data(recipe: Recipe) -> DataModule:
    """Make the data module, with the components that it uses (no data is read yet).

    A built-in component is made for it without the facts, which it is there to help finding.
    """
    data = build(plugins.resolve(recipe.data["name"], "data"), recipe.data, "data", recipe.name)
    data.seed = recipe.seed
    data.mixing = recipe.run_spec.mixing
    owner = plugins.resolve(recipe.model["name"], "models")
    used = {role: where for role, where in recipe.components.items() if role in data.uses}
    for role, where in used.items():
        data.attach(role, load_component(owner, role, where, {}))
    return data


def build_model(recipe: Recipe, facts: Mapping[str, Any]) -> Any:
    """Make the model, with weights drawn from the recipe's seed; the global generator is left as it was."""
    model = build(plugins.resolve(recipe.model["name"], "models"), recipe.model, "model", recipe.name)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(recipe.seed)
        try:
            model.build(facts)
        except UnisonoError:
            raise
        except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError) as error:
            raise RecipeError(
                f"{recipe.name}: {recipe.model['name']} cannot be built from the model section ({error}): "
                "check its sizes",
                code="value",
                path="model",
                value=recipe.model["name"],
            ) from error
        if recipe.adapters:
            add_adapters(model, recipe.adapters, recipe.name)
    model.optim = build(OptimSpec, recipe.optim, "optim", recipe.name)
    model.recipe = recipe.to_dict()
    return model


def assemble(recipe: Recipe) -> tuple[Any, Audit]:
    """Make a model that learns nothing, with its components; return it and the audit of its data.

    Raises ``RecipeError`` for a model that is trained.
    """
    kind = plugins.resolve(recipe.model["name"], "models")
    if kind.learns:
        raise RecipeError(
            f"{recipe.name}: {recipe.model['name']} has weights that are learnt: make it by unisono train and unisono "
            "export",
            code="unsupported",
            path="model.name",
            value=recipe.model["name"],
        )
    data = build_data(recipe)
    audit = data.prepare(progress=False)
    model = build_model(recipe, data.describe())
    attach_components(model, recipe.components)
    return model.eval(), audit


def attach_components(model: Model, components: Mapping[str, str | Path]) -> None:
    """Load each component by role, from a built-in name or an export, and give it to the model."""
    for role, where in components.items():
        model.attach(role, load_component(type(model), role, where, model.facts))
