"""What tests of outlines share: tiny models with random weights."""

import pytest


def _tiny(recipe_name):
    from unisono import Synthesizer
    from unisono.recipe import Recipe

    recipe = Recipe.read(recipe_name)
    data = recipe.build_data()
    data.prepare(progress=False)
    return Synthesizer(recipe.build_model(data.describe()).eval())


@pytest.fixture(scope="session")
def pvd():
    """A tiny parallel vertex diffusion over 8 vertices."""
    return _tiny("outline/pvd-tiny")


@pytest.fixture(scope="session")
def vertex_ar():
    """A tiny decoder of one vertex after the other, over 8 vertices."""
    return _tiny("outline/vertex-ar-tiny")
