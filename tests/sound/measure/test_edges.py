"""Edges of sounds: levels in closed form, constructed sounds that are cut off and that are not."""

import math

import numpy as np
import pytest
from unisono.errors import DataError
from unisono_sound.measure import edge_levels, is_clipped

RATE = 16000


def tone(seconds: float = 0.4, hz: float = 200.0) -> np.ndarray:
    """A tone of whole periods in 10 ms and in 50 ms, so that its level is the same in every such stretch."""
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def faded(wave: np.ndarray, seconds: float = 0.05) -> np.ndarray:
    """A wave that begins from nothing and dies away, with silence around."""
    size = round(seconds * RATE)
    ramp = np.sin(np.linspace(0, np.pi / 2, size)) ** 2
    wave = wave.copy()
    wave[:size] *= ramp
    wave[-size:] *= ramp[::-1]
    return np.pad(wave, size)


def test_a_tone_is_as_loud_at_its_edges_as_elsewhere():
    assert edge_levels(tone(), RATE) == pytest.approx((0.0, 0.0), abs=0.01)


@pytest.mark.parametrize(("first", "last"), [(0.1, 0.01), (0.5, 1.0), (0.001, 0.03)])
def test_levels_are_those_of_the_edges_amplitudes(first, last):
    wave = tone()
    wave[: RATE // 100] *= first
    wave[-RATE // 100 :] *= last
    expected = (20 * math.log10(first), 20 * math.log10(last))
    assert edge_levels(wave, RATE) == pytest.approx(expected, abs=0.05)


def test_level_of_the_whole_changes_nothing():
    wave = faded(tone())[200:]
    assert edge_levels(0.01 * wave, RATE) == pytest.approx(edge_levels(wave, RATE), abs=1e-3)


def test_what_dies_away_is_whole_and_what_is_cut_off_is_not():
    wave = faded(tone())
    middle = len(wave) // 2
    assert not is_clipped(wave, RATE)
    assert edge_levels(wave, RATE) == (-120.0, -120.0)
    for cut, edges in ((wave[middle:], (True, False)), (wave[:middle], (False, True))):
        assert tuple(level > -30 for level in edge_levels(cut, RATE)) == edges
        assert is_clipped(cut, RATE)


def test_faint_noise_at_the_edges_is_no_clipping():
    noise = np.random.default_rng(0).normal(scale=0.005, size=len(faded(tone()))).astype(np.float32)
    assert not is_clipped(faded(tone()) + noise, RATE)
    assert is_clipped(faded(tone()) + 20 * noise, RATE)


def test_threshold_is_the_caller_s():
    wave = tone()
    wave[: RATE // 100] *= 0.1
    wave[-RATE // 100 :] *= 0.1
    assert is_clipped(wave, RATE) and not is_clipped(wave, RATE, threshold_db=-19.0)


def test_silence_has_no_levels_and_is_not_clipped():
    assert all(math.isnan(level) for level in edge_levels(np.zeros(800, np.float32), RATE))
    assert not is_clipped(np.zeros(800, np.float32), RATE)


def test_a_sound_shorter_than_the_stretches_is_measured():
    assert edge_levels(np.ones(3, np.float32), RATE) == pytest.approx((0.0, 0.0))
    with pytest.raises(DataError) as told:
        edge_levels(np.zeros(0, np.float32), RATE)
    assert told.value.code == "shape"
