"""What tests of the branches plugin share: untrained models of the tiny recipes."""

import pytest
from unisono import Synthesizer
from unisono.recipe import Recipe


def synthesizer_of(name: str, *overrides: str) -> Synthesizer:
    """An untrained model of a tiny recipe."""
    recipe = Recipe.read(f"branches/{name}-tiny", list(overrides))
    data = recipe.build_data()
    data.prepare(progress=False)
    return Synthesizer(recipe.build_model(data.describe()))


@pytest.fixture(scope="session")
def make():
    return synthesizer_of
