"""What tests of the control plugin share: untrained policies and their demonstrations of the table top."""

from collections.abc import Callable
from typing import Any

import pytest
from unisono import Synthesizer
from unisono.recipe import Recipe


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Any]:
    """Return a function that makes an untrained policy of a tiny recipe, with its data."""

    def make(name: str = "policy", *overrides: str):
        recipe = Recipe.read(f"control/{name}-tiny", overrides)
        data = recipe.build_data()
        data.prepare(progress=False)
        return recipe.build_model(data.describe()).eval(), data

    return make


@pytest.fixture(scope="session")
def tiny(make_policy):
    """An untrained policy by tokens, and its data. Read-only."""
    return make_policy()


@pytest.fixture(scope="session")
def policy(tiny) -> Synthesizer:
    return Synthesizer(tiny[0])


@pytest.fixture(scope="session")
def oft(make_policy):
    """An untrained policy by regression, and its data. Read-only."""
    return make_policy("oft")
