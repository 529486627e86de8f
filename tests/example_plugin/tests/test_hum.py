"""The promises that every plugin keeps, and what is special to humming."""

import pytest
import torch
from unisono import Synthesizer
from unisono.errors import RequestError
from unisono.recipe import Recipe
from unisono.testing import checks


@pytest.mark.parametrize("check", checks("hum"))
def test_conformance(check):
    check()


@pytest.fixture
def hum() -> Synthesizer:
    recipe = Recipe.read("hum/hum-tiny")
    return Synthesizer(recipe.build_model(recipe.build_data().describe()))


def test_each_letter_is_a_segment_and_pace_shortens(hum):
    audio = hum("hello")
    assert [segment.label for segment in audio.segments] == list("hello")
    assert audio.segments[-1].end == pytest.approx(audio.seconds)
    with torch.no_grad():  # about ten frames for each letter
        hum.model.heads.bias[0] = 2.4
    assert hum("hello", pace=2.0).seconds == pytest.approx(hum("hello").seconds / 2, abs=0.01)


def test_a_letter_that_it_does_not_know_is_named(hum):
    with pytest.raises(RequestError, match="'7'") as caught:
        hum("7 dwarfs")
    assert (caught.value.code, caught.value.path, caught.value.value) == ("value", "text", "7")
