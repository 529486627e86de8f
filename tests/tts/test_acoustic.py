"""Acoustic models: the noise of an item is its own, and durations are at the pace that is asked for."""

import pytest
import torch


@pytest.fixture(scope="module")
def model(voice):
    return voice.model


def readings(model, *texts: str, **fields):
    return [next(iter(model.voice.read(model.Request(text=text, **fields), 220))) for text in texts]


def test_an_items_noise_depends_on_its_seed_and_symbols_alone(model):
    one, two = readings(model, "One piece.", "Another piece.")
    both = model.noise([one, two], [5, 9], 4)
    assert both.shape == (2, 9, 4) and not both[0, 5:].any()
    assert torch.equal(model.noise([two], [9], 4)[0], both[1])
    assert torch.equal(model.noise([two, one], [9, 5], 4)[1], both[0])
    assert not torch.equal(model.noise([one, two], [9, 9], 4)[0], both[1])
    (other,) = readings(model, "One piece.", seed=1)
    assert not torch.equal(model.noise([other], [5], 4)[0], both[0, :5])


def test_a_longer_item_begins_like_a_shorter_one(model):
    (one,) = readings(model, "One piece.")
    for long, short, width in ((300, 120, 4), (41, 7, 3), (5, 1, 3)):
        assert torch.equal(model.noise([one], [long], width)[0, :short], model.noise([one], [short], width)[0])


def test_noise_is_standard_normal(model):
    made = model.noise(readings(model, "One piece."), [4000], 8)
    assert abs(float(made.mean())) < 0.03 and abs(float(made.std()) - 1) < 0.03


def test_durations_keep_the_whole_at_each_symbols_pace(model):
    (one,) = readings(model, "One piece.")
    lengths = torch.tensor([len(one.ids)])
    predicted = torch.full((1, len(one.ids)), 3.3)
    for pace in (1.0, 2.0):
        asked = {"pace": torch.full_like(predicted, pace, dtype=torch.float64)}
        alignment = model.lay(predicted, lengths, asked, [one])
        assert abs(int(alignment.tgt_lengths[0]) - len(one.ids) * 3.3 / pace) <= 0.5
