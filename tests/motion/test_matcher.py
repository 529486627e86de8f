"""The motion–text encoder: places, positives, requests."""

import json
import math

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Synthesizer
from unisono.errors import DataError, RequestError
from unisono_motion.corpus.figures import make_figure
from unisono_motion.models.matcher import Place


@pytest.fixture(scope="module")
def matcher(make_motion):
    return make_motion("motion/matcher-tiny")


def test_places_have_length_one_and_do_not_depend_on_padding(matcher):
    motions = [make_figure(number) for number in range(5)]
    assert len({len(motion.positions) % 4 for motion in motions}) > 2
    alone = matcher.place_motions(motions)
    features = [matcher.features(motion) for motion in motions]
    lengths = torch.tensor([len(item) for item in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=7.0)
    with torch.no_grad():
        together = matcher.place_features(padded, lengths)
        longer = matcher.place_features(torch.nn.functional.pad(padded, (0, 0, 0, 13)), lengths)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(longer, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(alone[0] - alone[1]) > 1e-3


def test_clips_of_which_the_same_is_said_are_positives(matcher):
    labels = torch.tensor([1, 1, 2, 2])
    places = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), dim=-1)
    scale = math.exp(matcher.log_scale.item())
    batch = {"row": torch.arange(4), "label": labels, "caption": ["a"] * 4, "features": None, "length": None}
    kept = matcher.place_texts, matcher.place_features
    try:
        matcher.place_texts = lambda *rest: places
        matcher.place_features = lambda *rest: places
        right = matcher.losses(batch)
        matcher.place_features = lambda *rest: places.flip(0)
        wrong = matcher.losses(batch)
    finally:
        matcher.place_texts, matcher.place_features = kept
    # Two equal positives with logit s and two negatives with 0: log 2 + log(1 + e^-s).
    assert right["loss"].item() == pytest.approx(math.log(2) + math.log1p(math.exp(-scale)), rel=1e-4)
    assert right["found"].item() == 1
    assert wrong["loss"].item() == pytest.approx(right["loss"].item() + scale, rel=1e-4)
    assert wrong["found"].item() == 0


def test_labels_say_of_which_clips_the_same_is_said(figures):
    data = figures
    generator = torch.Generator().manual_seed(0)
    items = [data.train_set.item(i, generator) for i in range(len(data.train_set))]
    for one in items:
        for other in items:
            assert (one["label"] == other["label"]) == (one["caption"] == other["caption"])
    assert len({item["label"] for item in items}) > 3


def test_a_clip_without_a_caption_cannot_be_learnt(matcher):
    batch = {"row": torch.arange(2), "caption": ["walks", " "]}
    with refused(DataError, "missing", "caption", value=1):
        matcher.losses(batch)


def test_a_file_and_a_text_have_places(matcher, clip, tmp_path):
    synthesizer = Synthesizer(matcher)
    motion, text = synthesizer(motion=str(clip)), synthesizer("a figure walks")
    assert 0 <= motion.distance(text) <= 2
    assert motion.distance(motion) == 0
    for suffix in (".json", ".npz"):
        path = text.save(tmp_path / f"place{suffix}")
        kept = json.loads(path.read_text())["vector"] if suffix == ".json" else np.load(path)["vector"]
        np.testing.assert_allclose(kept, text.vector, rtol=1e-6)
    assert len(text.plot().axes[0].patches) == 8


@pytest.mark.parametrize(
    ("fields", "code", "path", "value"),
    [
        ({}, "missing", "text", {}),
        ({"text": "walks", "motion": "a.bvh"}, "conflict", "text", {"text": "walks", "motion": "a.bvh"}),
        ({"text": ""}, "empty", "text", ""),
        ({"motion": "nowhere.bvh"}, "missing", "motion", "nowhere.bvh"),
    ],
)
def test_a_wrong_request_is_one_sentence(matcher, fields, code, path, value):
    with refused(RequestError, code, path, value=value):
        Synthesizer(matcher)(fields)


def test_distance_is_between_0_and_2():
    one, other = Place(np.array([1.0, 0.0]), "one"), Place(np.array([-1.0, 0.0]), "other")
    assert one.distance(other) == 2
