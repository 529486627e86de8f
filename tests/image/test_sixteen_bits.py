"""Weights of 16 bits: a whole model in them gives the picture that it gives in 32, up to rounding."""

import numpy as np
import pytest
import torch
from unisono import Image, Synthesizer
from unisono.recipe import Recipe
from unisono_image.models.untrained import vae

FACTS = {
    "size": 8,
    "classes": ["circle", "square"],
    "words": ["a", "circle", "red"],
    "sample_captions": ["a red circle"],
    "held_out": [],
    "count": 16,
    "background": [255, 255, 255],
}
KINDS = [torch.bfloat16, torch.float16]
START = Image(np.full((3, 8, 8), 40, np.uint8))


def made(recipe, kind, override, **fields):
    model = Recipe.read(f"image/{recipe}", override).build_model(FACTS)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # a network that is not trained answers nothing
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    if getattr(model, "latent", False):
        model.attach("vae", vae(model.facts))
    return Synthesizer(model.eval().to(kind))(**fields)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["dit-tiny", "unet-tiny"])
@pytest.mark.parametrize("objective", ["flow", "eps", "edm"])
def test_a_generator_in_16_bits(recipe, objective, kind):
    override = [f"--model.objective={objective}"]
    fields = {"prompt": "red circle", "num_steps": 3, "guidance_scale": 2.0}
    half, whole = (made(recipe, kind, override, **fields).pixels for kind in (kind, torch.float32))
    assert np.abs(half - whole).max() < 0.1 and half.std() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_and_a_parallel_solver_in_16_bits(kind):
    fields = {"num_steps": 4, "image": START, "strength": 0.5, "solver": "picard"}
    half, whole = (made("dit-tiny", kind, [], **fields).pixels for kind in (kind, torch.float32))
    assert np.abs(half - whole).max() < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_an_autoencoder_and_a_classifier_in_16_bits(kind, tmp_path):
    path = str(START.save(tmp_path / "start.png"))
    half, whole = (made("vae-tiny", kind, [], image=path).pixels for kind in (kind, torch.float32))
    assert np.abs(half - whole).max() < 0.1
    half, whole = (made("classifier-tiny", kind, [], image=path).chances for kind in (kind, torch.float32))
    assert half == pytest.approx(whole, abs=0.05)
