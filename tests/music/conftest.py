"""What tests of music share: a tiny grid model with random weights."""

import pytest


@pytest.fixture(scope="session")
def grid():
    """A tiny model of four voices that know repeats, in 4/4, and of 4 bars at once."""
    from unisono import Synthesizer
    from unisono.recipe import Recipe

    recipe = Recipe.read("music/grid-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    return Synthesizer(recipe.build_model(data.describe()).eval())
