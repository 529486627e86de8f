"""Spectral, pitch, duration, quality measures against closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono.media import Segment
from unisono_sound.measure import (
    align,
    dnsmos,
    intelligibility,
    length_ratio,
    median_shift_semitones,
    mel_cepstral_distortion,
    perceptual_quality,
    pitch_error,
    segment_error,
    speech_span,
    track_pitch,
)
from unisono_sound.measure.mcd import cepstra
from unisono_sound.measure.waveform import mono
from unisono_sound.signal import LogMel, MelSpec

RATE = 22050


def random_mel(frames, seed=0, num_mels=80):
    return np.random.default_rng(seed).normal(size=(frames, num_mels))


def harmonic_tone(hz, seconds=0.6, rate=RATE):
    times = np.arange(int(seconds * rate)) / rate
    partials = [np.sin(2 * np.pi * k * hz * times) / k for k in range(1, 9)]
    return 0.2 * np.sum(partials, axis=0).astype(np.float32)


def speech_like(seconds=1.5, rate=16000, seed=0):
    """Noise and tone whose level rises and falls like syllables: enough for PESQ and STOI."""
    times = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(times))
    voice = np.sum([np.sin(2 * np.pi * 140 * k * times) / k for k in range(1, 20)], axis=0)
    return (0.05 * (voice + 0.3 * noise) * (1.05 + np.sin(2 * np.pi * 4 * times))).astype(np.float32)


# ---- mel-cepstral distortion ---------------------------------------------------------------------


def test_a_spectrum_is_no_distance_from_itself():
    mel = random_mel(20)
    assert mel_cepstral_distortion(mel, mel) == 0


@pytest.mark.parametrize("order", [1, 5, 13])
def test_a_known_cepstral_offset_gives_its_distance_in_decibels(order):
    # amplitude A in c_k: 10/ln 10 · sqrt(2) · A, which is the rms in dB of the ripple A cos(kω)
    mel, amplitude = random_mel(30), 0.3
    ripple = amplitude * np.cos(np.pi * order * (np.arange(80) + 0.5) / 80)
    index = np.arange(30)
    found = mel_cepstral_distortion(mel, mel + ripple, np.stack([index, index], 1))
    assert found == pytest.approx(10 / math.log(10) * math.sqrt(2) * amplitude, rel=1e-12)
    in_db = 20 / math.log(10) * ripple
    assert found == pytest.approx(np.sqrt(np.mean(in_db**2)), rel=1e-12)


def test_level_and_fine_structure_do_not_count():
    mel = random_mel(10)
    fine = np.cos(np.pi * 14 * (np.arange(80) + 0.5) / 80)
    assert mel_cepstral_distortion(mel, mel + 0.7 + fine) == pytest.approx(0, abs=1e-9)


def test_frames_far_below_the_loudest_are_not_averaged():
    mel = np.zeros((10, 80))
    mel[5:] = -8.0  # 69 dB down
    other = mel.copy()
    other[5:] += np.cos(np.pi * 3 * (np.arange(80) + 0.5) / 80)
    index = np.stack([np.arange(10)] * 2, axis=1)
    assert mel_cepstral_distortion(mel, other, index) == 0
    assert mel_cepstral_distortion(mel, other, index, floor_db=80) > 0


def test_cepstra_rebuild_a_smooth_spectrum():
    position = (np.arange(80) + 0.5) / 80
    mel = 2 + 0.5 * np.cos(np.pi * position) - 0.2 * np.cos(np.pi * 4 * position)
    found = cepstra(mel[None])[0]
    expected = np.zeros(13)
    expected[0], expected[3] = 0.5, -0.2
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_time_warped_copies_align_without_distance():
    mel = random_mel(12)
    counts = np.random.default_rng(1).integers(1, 4, size=12)
    assert mel_cepstral_distortion(mel, np.repeat(mel, counts, axis=0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_alignment_is_the_cheapest_of_all_paths(seed):
    rng = np.random.default_rng(seed)
    left, right = (
        random_mel(int(rng.integers(1, 6)), seed),
        random_mel(int(rng.integers(1, 6)), ~-seed + 99),
    )
    cost = np.linalg.norm(cepstra(left)[:, None] - cepstra(right)[None], axis=-1)

    def cheapest(i, j):
        if i == j == 0:
            return cost[0, 0]
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        return cost[i, j] + min(cheapest(a, b) for a, b in before if a >= 0 and b >= 0)

    path = align(left, right)
    assert tuple(path[0]) == (0, 0)
    assert tuple(path[-1]) == (len(left) - 1, len(right) - 1)
    steps = {tuple(step) for step in np.diff(path, axis=0)}
    assert steps <= {(1, 1), (1, 0), (0, 1)}
    total = sum(cost[i, j] for i, j in path)
    assert total == pytest.approx(cheapest(len(left) - 1, len(right) - 1), rel=1e-9)


# ---- pitch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("semitones", [-4.0, 4.0])
def test_a_shifted_tone_is_measured_within_a_tenth_of_a_semitone(semitones):
    plain, shifted = harmonic_tone(190.0), harmonic_tone(190.0 * 2 ** (semitones / 12), seconds=0.8)
    tracks = [track_pitch(wave, RATE, 256) for wave in (plain, shifted)]
    assert median_shift_semitones(*tracks) == pytest.approx(semitones, abs=0.1)


def test_pitch_frames_are_those_of_the_mel():
    # silence, then a tone: the first voiced frame lies where the tone starts, give or take a window
    spec = MelSpec()
    tone = harmonic_tone(200.0, seconds=0.5)
    wave = np.concatenate([np.zeros(100 * 256, np.float32), tone])
    hz = track_pitch(wave, RATE, 256)
    assert len(hz) == LogMel(spec)(torch.from_numpy(wave)[None]).shape[1]
    assert abs(np.flatnonzero(hz)[0] - 100) <= 3
    assert not len(track_pitch(np.zeros(100, np.float32), RATE, 256))


def test_a_frame_has_the_pitch_of_its_centre_in_a_glide():
    """An octave in a second: half a hop of 1024 samples beside the centre would be 0.28 semitones off."""
    times = np.arange(RATE) / RATE
    phase = 2 * np.pi * 150 * (2**times - 1) / math.log(2)
    wave = np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0).astype(np.float32) * 0.1
    hz = track_pitch(wave, RATE, 1024)
    centres = (np.arange(len(hz)) + 0.5) * 1024 / RATE
    inside = (hz > 0) & (centres > 0.15) & (centres < 0.85)
    assert inside.sum() >= 10
    off = 12 * np.log2(hz[inside] / (150 * 2 ** centres[inside]))
    assert abs(off.mean()) < 0.07  # pYIN's grid is a tenth of a semitone


def test_a_shift_is_that_of_the_medians():
    low, high = np.array([100.0, 100.0, 400.0, 0.0]), np.array([0.0, 200.0, 200.0, 900.0, 0.0])
    assert median_shift_semitones(low, high) == pytest.approx(12)


def test_pitch_error_is_the_rms_of_known_differences():
    reference = np.array([100.0, 100.0, 100.0, 0.0, 0.0])
    other = np.array([100.0 * 2 ** (3 / 12), 100.0 * 2 ** (-4 / 12), 0.0, 0.0, 90.0])
    found = pitch_error(reference, other)
    assert found.rmse_semitones == pytest.approx(math.sqrt((9 + 16) / 2))
    assert found.rmse_cents == pytest.approx(100 * math.sqrt(12.5))
    assert found.voicing_error == pytest.approx(2 / 5)
    path = np.array([[0, 0], [1, 0]])
    assert pitch_error(reference, other, path).rmse_semitones == pytest.approx(3)


def test_unvoiced_pitch_has_no_error_and_no_shift():
    silent, voiced = np.zeros(3), np.full(3, 100.0)
    assert math.isnan(pitch_error(silent, voiced).rmse_semitones)
    assert math.isnan(median_shift_semitones(silent, voiced))


# ---- duration ------------------------------------------------------------------------------------


def test_silence_at_the_ends_is_not_speech():
    tone = harmonic_tone(200.0, seconds=1.0, rate=16000)
    padded = np.concatenate([np.zeros(8000), tone, np.zeros(4000)]).astype(np.float32)
    start, end = speech_span(padded, 16000)
    assert (start, end) == (pytest.approx(0.5, abs=0.02), pytest.approx(1.5, abs=0.02))
    assert speech_span(np.zeros(100, np.float32), 16000) == (0.0, 0.0)


@pytest.mark.parametrize(("below", "start"), [(30.0, 0.0), (50.0, 0.5)])
def test_what_is_speech_is_told_by_decibels_of_power(below, start):
    """Forty decibels below the loudest is the border."""
    wave = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1
    wave[:8000] *= 10 ** (-below / 20)
    assert speech_span(wave, 16000) == pytest.approx((start, 1.0))


def test_length_ratio_compares_speech_at_any_rates():
    short = harmonic_tone(200.0, seconds=1.0, rate=16000)
    long = np.pad(harmonic_tone(200.0, seconds=1.5, rate=24000), 6000)
    assert length_ratio(short, 16000, long, 24000) == pytest.approx(1.5, abs=0.03)
    assert math.isnan(length_ratio(np.zeros(100, np.float32), 16000, long, 24000))


def test_segment_error_needs_the_same_labels():
    left = [Segment("a", 0.0, 0.1), Segment("b", 0.1, 0.4)]
    right = [Segment("a", 0.0, 0.2), Segment("b", 0.2, 0.48)]
    assert segment_error(left, right) == pytest.approx((0.1 + 0.02) / 2)
    assert segment_error(left, right[:1]) is None
    assert segment_error([], []) is None


# ---- quality -------------------------------------------------------------------------------------


def test_a_copy_is_perfect_and_noise_makes_it_worse():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    clean = speech_like()
    noisy = clean + 0.05 * np.random.default_rng(2).normal(size=len(clean)).astype(np.float32)
    assert perceptual_quality(clean, 16000, clean, 16000) == pytest.approx(4.644, abs=0.001)
    assert perceptual_quality(clean, 16000, noisy, 16000) < 4
    assert intelligibility(clean, 16000, clean, 16000) == pytest.approx(1, abs=1e-6)
    assert intelligibility(clean, 16000, noisy, 16000) < 1


def test_silence_has_no_pesq():
    pytest.importorskip("pesq")
    with refused(DataError, "empty", "reference"):
        perceptual_quality(np.zeros(16000), 16000, np.zeros(16000), 16000)


def test_dnsmos_equals_the_published_script():
    script = pytest.importorskip("speechmos.dnsmos")
    wave = speech_like(seconds=9.5)
    found, expected = dnsmos(wave, 16000), script.run(wave, 16000)
    # onnxruntime may sum in another order with another number of threads
    assert found.overall == pytest.approx(expected["ovrl_mos"], abs=1e-3)
    assert found.signal == pytest.approx(expected["sig_mos"], abs=1e-3)
    assert found.background == pytest.approx(expected["bak_mos"], abs=1e-3)
    assert found.p808 == pytest.approx(expected["p808_mos"], abs=1e-3)


# ---- what all of them accept ---------------------------------------------------------------------


def test_waveforms_are_brought_to_one_channel_and_rate():
    stereo = np.stack([np.ones(100), np.zeros(100)])
    np.testing.assert_allclose(mono(stereo, 16000), np.full(100, 0.5))
    assert mono(torch.zeros(48000), 48000, 16000).shape == (16000,)


@pytest.mark.parametrize(
    ("waveform", "code"), [(np.zeros(0), "shape"), (np.zeros((2, 3, 4)), "shape"), (np.array([np.nan]), "value")]
)
def test_waveforms_that_cannot_be_measured_are_refused(waveform, code):
    with refused(DataError, code, "waveform"):
        mono(waveform, 16000)
