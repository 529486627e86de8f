"""Narrow sound to learn from: filters, µ-law, Opus, and that all of it is drawn from the item's generator."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono.data import item_generator
from unisono.errors import DataError
from unisono_restore.ap_bwe.data import MadeNarrowData
from unisono_restore.ap_bwe.narrow import Narrow, NarrowOptions, filtered, mu_law
from unisono_restore.data import CropOptions

RATE = 16000
FAMILIES = ["resampler", "fir", "butterworth", "chebyshev", "elliptic", "bessel"]


def gain(family: str, **how: float) -> tuple[np.ndarray, np.ndarray]:
    """The frequencies and the gain in dB of a filter at 3 kHz, by its answer to an impulse."""
    impulse = np.zeros(8001, np.float32)
    impulse[4000] = 1
    answer = filtered(impulse, RATE, 3000, family, **how)
    assert len(answer) == 8001
    return np.fft.rfftfreq(8001, 1 / RATE), 20 * np.log10(np.abs(np.fft.rfft(answer)) + 1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("at", [0.0, 0.99])
def test_a_filter_keeps_what_is_low_and_takes_what_is_high(family, at):
    hz, db = gain(family, order_at=at, ripple_at=at, stop_at=at, width_at=at)
    ripple = 2.1 if family in ("chebyshev", "elliptic") else 0.5  # twice over: there and back
    kept = hz < (600 if family == "bessel" else 1500)
    assert np.abs(db[kept]).max() < ripple
    assert db[hz > 6000].max() < -35


@pytest.mark.parametrize("family", FAMILIES)
def test_a_filter_delays_nothing(family):
    impulse = np.zeros(4001, np.float32)
    impulse[2000] = 1
    answer = filtered(impulse, RATE, 3000, family)
    assert int(np.abs(answer).argmax()) == 2000
    np.testing.assert_allclose(answer[1000:3001], answer[1000:3001][::-1], atol=2e-4)


def test_mu_law_has_256_levels_and_is_as_near_as_they_are():
    wave = np.linspace(-1.2, 1.2, 20000).astype(np.float32)  # without 0, which lies between two levels
    coded = mu_law(wave)
    assert len(np.unique(coded)) == 256
    np.testing.assert_array_equal(mu_law(coded), coded)  # once coded, it stays
    np.testing.assert_allclose(coded, -coded[::-1], atol=1e-6)
    inside = np.abs(wave) <= 1
    assert (np.abs(coded - wave)[inside] <= 0.025 * np.abs(wave[inside]) + 1e-4).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowest_cutoff": 2000.0, "filters": tuple(FAMILIES)},
        {"mu_law": 1.0},
        {"opus": 1.0},
    ],
)
def test_a_crop_is_a_function_of_seed_epoch_and_item(options):
    narrow = Narrow(NarrowOptions(**options), RATE)
    wave = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    once, again = (narrow(wave, item_generator(1, 2, 3)) for _ in range(2))
    assert torch.equal(once, again) and once.shape == wave.shape and once.dtype == torch.float32
    power = torch.fft.rfft(once).abs().square()
    assert power[power.shape[0] * 3 // 4 :].sum() < 0.05 * power.sum()
    if options.get("lowest_cutoff"):
        assert not torch.equal(once, narrow(wave, item_generator(1, 3, 3)))


def test_made_data_is_pairs_and_its_facts_say_of_what():
    data = MadeNarrowData(
        num_items=3, narrow=NarrowOptions(lowest_cutoff=3500.0), crops=CropOptions(samples=1000, gain_db=6)
    )
    assert data.prepare().kept == 3
    facts = data.describe()
    assert (facts.sample_rate, facts.from_rate, facts.lowest_cutoff, facts.highest_cutoff) == (16000, 8000, 3500, 4000)
    assert len(data.train_set) == 3 and len(data.val_set) == 4
    item = data.train_set.item(0, item_generator(0, 0, 0))
    again = data.train_set.item(0, item_generator(0, 0, 0))
    assert item["wave"].shape == item["heard"].shape == (1000,) and item["wave"].any()
    assert all(torch.equal(item[name], again[name]) for name in item)
    other = data.train_set.item(0, item_generator(0, 1, 0))
    assert not torch.equal(item["wave"], other["wave"])


@pytest.mark.parametrize(
    ("options", "code", "path"),
    [
        ({"from_rate": 500}, "range", "from_rate"),
        ({"lowest_cutoff": 4100.0}, "range", "lowest_cutoff"),
        ({"lowest_cutoff": 900.0}, "range", "lowest_cutoff"),
        ({"filters": ()}, "empty", "filters"),
        ({"mu_law": 1.5}, "range", "mu_law"),
        ({"mu_law": 0.6, "opus": 0.6}, "conflict", "opus"),
        ({"from_rate": 11025, "opus": 0.1}, "conflict", "opus"),
    ],
)
def test_options_that_cannot_be_are_refused(options, code, path):
    with refused(DataError, code, f"data.narrow.{path}"):
        NarrowOptions(**options)


def test_data_that_leave_nothing_to_extend_are_refused():
    with refused(DataError, "conflict", "data.narrow.from_rate", value=8000):
        MadeNarrowData(sample_rate=8000)
    with refused(DataError, "range", "data.sample_rate"):
        MadeNarrowData(sample_rate=999)
    with refused(DataError, "range", "data.crops.samples"):
        CropOptions(samples=0)
    with refused(DataError, "range", "data.crops.gain_db"):
        CropOptions(gain_db=-1)
