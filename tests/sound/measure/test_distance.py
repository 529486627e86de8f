"""Distances of copies, against values by hand."""

import math

import numpy as np
import pytest
from refused import refused
from unisono.errors import DataError
from unisono_sound.measure import log_spectral_distance, mel_distance, scale_invariant_sdr

RNG = np.random.default_rng(0)
WAVE = RNG.normal(size=20_000).astype(np.float32) * 0.1


def test_sdr_of_noise_at_right_angles_is_the_ratio_of_powers():
    clean = WAVE.astype(np.float64) - WAVE.mean(dtype=np.float64)
    noise = RNG.normal(size=len(clean))
    noise -= noise.mean()
    noise -= clean * (noise @ clean) / (clean @ clean)  # nothing of the clean signal in it
    noise *= math.sqrt((clean @ clean) / (noise @ noise)) * 10 ** (-12 / 20)
    # 1e-3 dB: waveforms are read as float32.
    assert scale_invariant_sdr(clean, clean + noise) == pytest.approx(12, abs=1e-3)
    assert scale_invariant_sdr(clean, 5 * (clean + noise)) == pytest.approx(12, abs=1e-3)
    assert scale_invariant_sdr(clean, -0.1 * (clean + noise)) == pytest.approx(12, abs=1e-3)


def test_sdr_does_not_mind_an_offset_of_either():
    """A constant is no sound: with it, SI-SDR is what it is without."""
    clean, noise = WAVE, 0.02 * RNG.normal(size=len(WAVE)).astype(np.float32)
    expected = scale_invariant_sdr(clean, clean + noise)
    assert 10 < expected < 18
    assert scale_invariant_sdr(clean + 0.5, clean + noise) == pytest.approx(expected, abs=1e-2)
    assert scale_invariant_sdr(clean, clean + noise - 0.7) == pytest.approx(expected, abs=1e-2)
    with refused(DataError, "empty", "waveform"):
        scale_invariant_sdr(clean, np.full(len(clean), 0.0))


def test_sdr_of_a_copy_is_beyond_rounding_and_of_silence_refused():
    assert scale_invariant_sdr(WAVE, 2 * WAVE) > 100
    with refused(DataError, "empty", "waveform"):
        scale_invariant_sdr(WAVE, np.zeros(100))
    with refused(DataError, "empty", "reference"):
        scale_invariant_sdr(np.zeros(100), WAVE)


@pytest.mark.parametrize("gain_db", [-6.0, 3.0])
def test_log_spectral_distance_of_another_level_is_the_level(gain_db):
    assert log_spectral_distance(WAVE, WAVE * 10 ** (gain_db / 20)) == pytest.approx(abs(gain_db), abs=1e-3)


def test_log_spectral_distance_counts_one_frequency_as_one():
    """A sine at a bin's centre, louder by 20 dB: its three bins of 513 differ by 20 dB, all others are silent."""
    seconds = np.arange(8192) / 8192
    one = 1e-3 * np.sin(2 * np.pi * 800 * seconds)
    expected = 20 * math.sqrt(3 / 513)
    # float32 rounding lies at −150 dB, far below the floor.
    assert log_spectral_distance(one, 10 * one) == pytest.approx(expected, rel=1e-3)


def test_log_spectral_distance_is_the_mean_of_its_frames():
    """Three frames alike and one 20 dB below: a root over all of them would say 10 dB."""
    quieter = np.concatenate([WAVE[: 3 * 512], WAVE[3 * 512 : 4 * 512] / 10])
    assert log_spectral_distance(WAVE[: 4 * 512], quieter, 512, 512) == pytest.approx(5.0, abs=1e-3)


def test_a_sine_of_full_scale_lies_at_0_decibels():
    """Against silence, which is at the floor: a bin of 0 dB and two of −6.02 dB (Hann), 100 dB above the others."""
    sine = np.sin(2 * np.pi * 8 * np.arange(64 * 8) / 64)
    expected = math.sqrt((100**2 + 2 * (100 + 20 * math.log10(0.5)) ** 2) / 33)
    assert log_spectral_distance(sine, np.zeros(64 * 8), 64, 64) == pytest.approx(expected, rel=1e-3)


def test_too_short_or_other_shapes_are_refused():
    with refused(DataError, "shape", "waveform", value=1000, names="1024"):
        log_spectral_distance(WAVE[:1000], WAVE)
    with refused(DataError, "shape", "other", value=(3, 5)):
        mel_distance(np.zeros((3, 4)), np.zeros((3, 5)))
    with refused(DataError, "empty", "other", value=(3, 4)):
        mel_distance(np.zeros((0, 4)), np.zeros((3, 4)))


def test_mel_distance_is_the_mean_over_shared_frames():
    one, other = RNG.normal(size=(7, 4)), RNG.normal(size=(5, 4))
    assert mel_distance(one, other) == pytest.approx(sum(abs(one[:5] - other).flat) / 20)
