"""Weights of 16 bits: whole models in them make and place motions; what would read one is refused by name."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Synthesizer
from unisono.errors import RequestError

KINDS = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["motion/mmm-tiny", "motion/momask-tiny"])
def test_motions_are_made(make_motion, clip, recipe, kind):
    synth = Synthesizer(make_motion(recipe).to(kind))
    motion = synth(text="a figure walks", seconds=1.0)
    assert np.isfinite(motion.positions).all() and len(motion.positions) > 10
    with refused(RequestError, "unsupported", "motion", value=str(kind), names=str(kind)):
        synth(text="a figure walks", motion=str(clip), keep=[[0, 0.8]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["motion/tokenizer-tiny", "motion/tokenizer-fsq-tiny"])
def test_motions_are_not_read(make_motion, clip, recipe, kind):
    synth = Synthesizer(make_motion(recipe).to(kind))
    with refused(RequestError, "unsupported", "motion", value=str(kind)):
        synth(motion=str(clip))


@pytest.mark.parametrize("kind", KINDS)
def test_motions_and_texts_are_placed(make_motion, clip, kind):
    half, whole = (Synthesizer(make_motion("motion/matcher-tiny").to(kind)) for kind in (kind, torch.float32))
    for fields in ({"text": "a figure walks"}, {"motion": str(clip)}):
        near, own = (synth(**fields).vector for synth in (half, whole))
        np.testing.assert_allclose(near, own, atol=0.1)
