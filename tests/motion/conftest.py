"""Tiny motion models with random weights, and a clip; what is tested holds for any weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A figure of 2.5 to 2.9 seconds as a BVH file. Read-only."""
    from unisono_motion.corpus.figures import make_figure

    motion = next(m for m in map(make_figure, range(100)) if 2.5 <= m.seconds <= 2.9)
    return motion.save(tmp_path_factory.mktemp("clips") / "figure.bvh")


@pytest.fixture(scope="session")
def figures():
    """A data module of twelve figures to train on and six others, prepared. Read-only."""
    from unisono_motion.corpus.figures import FigureData

    data = FigureData(num_items=12, val_size=6, batch_size=4)
    data.prepare(progress=False)
    return data


@pytest.fixture(scope="session")
def make_motion(figures) -> Callable[..., Any]:
    """Return a function that builds the model of a tiny recipe for the figures, its tokenizer attached.

    Its tokens differ more than at birth, when logits are nearly flat.
    """
    import torch
    from unisono.export import load_component
    from unisono.recipe import Recipe

    def make(recipe: str, **arguments: Any):
        read = Recipe.read(recipe, [f"--model.{name}={value}" for name, value in arguments.items()])
        model = read.build_model(figures.describe())
        for role, where in read.components.items():
            model.attach(role, load_component(type(model), role, where, model.facts))
        if hasattr(model, "net"):
            with torch.no_grad():
                model.net.to_logits.weight.mul_(20)
        return model.eval()

    return make
