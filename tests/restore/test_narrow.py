"""Narrow sound to learn from: filters, µ-law, Opus, and that all of it is drawn from the item's generator."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono.data import item_generator
from unisono.errors import DataError
from unisono_restore.ap_bwe.data import MadeNarrowData
from unisono_restore.ap_bwe.narrow import Narrow, NarrowOptions
from unisono_restore.data import CropOptions

RATE = 16000
FAMILIES = ["resampler", "butterworth", "chebyshev1", "chebyshev2", "elliptic", "sinc"]


def gain(family: str, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An impulse's answer, its frequencies and their gain in dB, of a filter up to 3 kHz."""
    impulse = torch.zeros(8001)
    impulse[4000] = 1
    narrow = Narrow(NarrowOptions(from_rate=6000, filters=(family,)), RATE)
    answer = narrow(impulse, torch.Generator().manual_seed(number)).numpy()
    assert answer.shape == (8001,)
    return answer, np.fft.rfftfreq(8001, 1 / RATE), 20 * np.log10(np.abs(np.fft.rfft(answer)) + 1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", range(4))
def test_a_filter_keeps_what_is_low_takes_what_is_high_and_delays_nothing(family, number):
    answer, hz, db = gain(family, number)
    ends = 500 if family == "chebyshev2" else 1400  # whose cut-off is where it has taken all
    assert np.abs(db[hz < ends]).max() < 1.1  # of ripple
    assert db[hz > 6500].max() < -30
    assert int(np.abs(answer).argmax()) == 4000
    np.testing.assert_allclose(answer[3000:5001], answer[3000:5001][::-1], atol=2e-4)


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
