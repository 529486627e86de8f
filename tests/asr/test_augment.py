"""SpecAugment: what is hidden and bent, the same for the same seed, and nothing of the global generator."""

import pytest
import torch
from recognisers import drawn
from refused import refused
from unisono.errors import RecipeError
from unisono_asr.networks.augment import SpecAugment

NOTHING = {"time_masks": 0, "mel_masks": 0, "warp": 0}


def bands(hidden):
    """The lengths of the stretches that are hidden."""
    edges = torch.diff(torch.nn.functional.pad(hidden.int(), (1, 1)))
    return ((edges == -1).nonzero() - (edges == 1).nonzero())[:, 0].tolist()


def test_nothing_is_hidden_where_nothing_is_asked_for():
    mel = drawn(2, 30, 8)
    assert torch.equal(SpecAugment(**NOTHING)(mel, torch.tensor([30, 30]), [1, 2]), mel)


@pytest.mark.parametrize("seed", range(6))
def test_bands_are_no_wider_than_they_may_be(seed):
    mel = drawn(1, 200, 40) + 9
    of_time = SpecAugment(**NOTHING | {"time_masks": 1}, time_frames=30)(mel, torch.tensor([200]), [seed])[0] == 0
    assert torch.equal(of_time.any(1), of_time.all(1)) and all(size < 30 for size in bands(of_time.all(1)))
    of_mel = SpecAugment(**NOTHING | {"mel_masks": 1}, mel_channels=10)(mel, torch.tensor([200]), [seed])[0] == 0
    assert torch.equal(of_mel.any(0), of_mel.all(0)) and all(size < 10 for size in bands(of_mel.all(0)))


def test_something_is_hidden_of_most():
    augment = SpecAugment(**NOTHING | {"time_masks": 2, "mel_masks": 2}, mel_channels=10)
    made = augment(drawn(20, 200, 40) + 9, torch.full((20,), 200), list(range(20)))
    assert ((made == 0).flatten(1).float().mean(1) > 0.02).sum() > 14


def test_short_recordings_keep_their_share():
    augment = SpecAugment(**NOTHING | {"time_masks": 2}, time_share=0.2)
    made = augment(drawn(40, 20, 4) + 9, torch.full((40,), 20), list(range(40)))
    assert int((made == 0).all(2).sum(1).max()) <= 8


@pytest.mark.parametrize("seed", range(4))
def test_warping_moves_a_place_and_keeps_the_length(seed):
    mel = torch.linspace(0, 1, 100)[:, None].expand(100, 3)
    bent = SpecAugment(**NOTHING | {"warp": 5})(mel[None], torch.tensor([100]), [seed])[0]
    assert bent.shape == mel.shape and (bent - mel).abs().max() < 0.07
    assert torch.allclose(bent[[0, -1]], mel[[0, -1]], atol=0.01)
    short = drawn(1, 11, 3)
    assert torch.equal(SpecAugment(**NOTHING | {"warp": 5})(short, torch.tensor([11]), [seed]), short)


def test_a_recording_goes_by_its_own_seed_and_length():
    augment, mel = SpecAugment(mel_channels=10), drawn(3, 120, 40)
    together = augment(mel, torch.tensor([120, 80, 100]), [5, 6, 7])
    alone = augment(mel[1:2, :80], torch.tensor([80]), [6])
    assert torch.equal(together[1, :80], alone[0]) and not together[1, 80:].any()
    assert not torch.equal(augment(mel, torch.tensor([120, 80, 100]), [5, 9, 7])[1], together[1])


def test_the_global_generator_goes_on_as_it_was():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    SpecAugment()(drawn(1, 120, 40), torch.tensor([120]), [5])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name, value", [("time_masks", -1), ("warp", -2), ("time_share", 1.5)])
def test_what_cannot_be_is_refused(name, value):
    with refused(RecipeError, "range", f"model.augment.{name}"):
        SpecAugment(**{name: value})
