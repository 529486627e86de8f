"""Shipped policies: they do what their cards say, and Jacobi iteration has plain's tokens in fewer evaluations."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import unisono
from unisono_control.measure.evaluate import FIRST_SEED
from unisono_control.playing.play import play

SHIPPED = Path(__file__).parents[2] / "checkpoints"


@pytest.mark.skipif(
    not all(find_spec(package) for package in ("gymnasium", "Box2D")),
    reason="LunarLander needs the extra control (gymnasium, Box2D)",
)
def test_the_lander_lands():
    model = unisono.load(SHIPPED / "control-lander").model
    seeds = [FIRST_SEED + i for i in range(4)]
    assert not any(model.facts.was_trained_on(seed) for seed in seeds)
    plain, jacobi = (play(model, [model.Request(seed=s, decoding=d) for s in seeds]) for d in ("plain", "jacobi"))
    assert sum(episode.success for episode in plain) >= 3
    for one, other in zip(plain, jacobi, strict=True):
        assert np.array_equal(one.tokens, other.tokens) and np.array_equal(one.states, other.states)
    assert np.mean([count for e in jacobi for count in e.rounds]) < 0.75 * model.num_tokens
