"""Tiny motion models with random weights, shared by the tests of this folder; what is tested holds for any weights."""

from functools import cache
from typing import Any

import torch
from unisono import Model
from unisono.checkpoint import load_component
from unisono.recipe import Recipe


@cache
def figures():
    """Twelve figures to train on and six others, prepared."""
    data = Recipe.read("motion/mmm-tiny", ["--data.num_items=12", "--data.val_size=6"]).build_data()
    data.prepare(progress=False)
    return data


def make(recipe: str, **model: Any) -> Model:
    """Build the model of a tiny recipe for the figures, its components attached; ``model`` overrides arguments."""
    read = Recipe.read(recipe, [f"--model.{name}={value}" for name, value in model.items()])
    built = read.build_model(figures().describe())
    for role, where in read.components.items():
        built.attach(role, load_component(type(built), role, where, built.facts))
    return built.eval()


@torch.no_grad()
def liven(model: Any) -> Any:
    """Make a fresh network's tokens differ: at birth its logits are nearly flat."""
    model.net.to_logits.weight.mul_(20)
    return model
