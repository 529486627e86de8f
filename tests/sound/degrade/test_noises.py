"""Noises: their spectra, their levels beside speech, and that a generator repeats them."""

import math

import pytest
import soundfile
import torch
from refused import refused
from unisono.data import Audit
from unisono.errors import DataError
from unisono_sound.degrade import MADE, Babble, HeldClips, Recorded, active_power, at_snr, mean_power, read_clips
from unisono_sound.degrade.noises import clicks, coloured, hum, modulated, speech_shaped

RATE = 16000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def buzz(seconds: float = 1.0, rate: int = RATE) -> torch.Tensor:
    time = torch.arange(round(seconds * rate)) / rate
    return sum((torch.sin(2 * math.pi * 130 * k * time) / k for k in range(1, 20)), torch.zeros(len(time))) * 0.1


def density(noise: torch.Tensor, low: float, high: float) -> float:
    """Mean power of the transform's bins between two frequencies, in dB."""
    spectrum = torch.fft.rfft(noise.double()).abs().square()
    hz = torch.fft.rfftfreq(len(noise), 1 / RATE)
    return 10 * math.log10(float(spectrum[(hz >= low) & (hz < high)].mean()))


@pytest.mark.parametrize("kind", MADE)
def test_a_kind_has_the_length_repeats_and_differs_by_seed(kind):
    for length in (1, 2, 333, 4000):
        wave = buzz()[:length]
        noise = MADE[kind](wave, RATE, generator(1))
        assert noise.shape == wave.shape and noise.dtype == torch.float32 and bool(noise.isfinite().all())
        assert torch.equal(noise, MADE[kind](wave, RATE, generator(1)))
    assert not torch.equal(MADE[kind](wave, RATE, generator(1)), MADE[kind](wave, RATE, generator(2)))


@pytest.mark.parametrize(("kind", "fall"), [("white", 0.0), ("pink", 3.01), ("brown", 6.02)])
def test_coloured_noise_falls_by_its_decibels_an_octave(kind, fall):
    noise = MADE[kind](torch.zeros(20 * RATE), RATE, generator())
    octaves = [density(noise, hz / 2**0.25, hz * 2**0.25) for hz in (200, 400, 800, 1600, 3200)]
    # 500 bins at least in a band: its mean is within 0.4 dB (two sigma)
    assert (octaves[0] - octaves[-1]) / 4 == pytest.approx(fall, abs=0.15)
    assert abs(float(noise.mean())) < 0.05 * float(noise.std())


def test_brown_noise_has_a_bound_below_20_hz():
    noise = coloured(4 * RATE, RATE, generator(), -6.02)
    assert density(noise, 0.5, 10) < density(noise, 20, 25) + 3


def test_speech_shaped_noise_has_the_spectrum_of_the_speech_without_its_pauses():
    colour = coloured(4 * RATE, RATE, generator(3), -9.0)
    speech = torch.cat([colour, torch.zeros(4 * RATE)])
    noise = speech_shaped(speech, RATE, generator(4))
    made = [density(noise, hz / 1.2, hz * 1.2) - density(noise, 800, 1200) for hz in (300, 600, 2000, 4000)]
    true = [density(colour, hz / 1.2, hz * 1.2) - density(colour, 800, 1200) for hz in (300, 600, 2000, 4000)]
    assert made == pytest.approx(true, abs=1.0)


def test_hum_sounds_at_multiples_of_the_mains_only():
    for seed in range(4):
        noise = hum(torch.zeros(4 * RATE), RATE, generator(seed))
        spectrum = torch.fft.rfft(noise * torch.hann_window(len(noise))).abs().square()
        hz = torch.fft.rfftfreq(len(noise), 1 / RATE)
        near = [((hz / mains - (hz / mains).round()).abs() * mains < 4) & (hz > 40) for mains in (50.0, 60.0)]
        assert max(float(spectrum[inside].sum() / spectrum.sum()) for inside in near) > 0.999


def test_clicks_are_short_and_within_the_wave():
    noise = clicks(torch.zeros(RATE), RATE, generator())
    frames = noise.reshape(-1, 80).square().mean(1)  # 5 ms
    assert 0 < float((frames > 1e-3 * frames.max()).float().mean()) < 0.5
    assert bool(clicks(torch.zeros(50), RATE, generator()).any())


def test_modulated_noise_swells():
    noise = modulated(torch.zeros(8 * RATE), RATE, generator(5))
    frames = noise.reshape(-1, RATE // 50).square().mean(1)
    steady = torch.randn(8 * RATE, generator=generator()).reshape(-1, RATE // 50).square().mean(1)
    assert float(frames.std() / frames.mean()) > 3 * float(steady.std() / steady.mean())


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5])
def test_the_ratio_is_exact_over_active_speech_whatever_the_pauses(snr_db):
    speech = buzz(0.5)
    noise = torch.randn(len(speech), generator=generator())
    added = at_snr(speech, noise, RATE, snr_db)
    assert 10 * math.log10(float(speech.double().square().mean()) / mean_power(added)) == pytest.approx(
        snr_db, abs=1e-3
    )
    paused = torch.cat([speech, torch.zeros(RATE)])
    noise = torch.randn(len(paused), generator=generator())
    assert mean_power(at_snr(paused, noise, RATE, snr_db)) == pytest.approx(mean_power(added), rel=1e-4)
    assert active_power(paused, RATE) == pytest.approx(active_power(speech, RATE), rel=1e-6)


def test_silence_gets_no_noise_and_silent_noise_is_none():
    silence, noise = torch.zeros(1000), torch.randn(1000, generator=generator())
    assert not bool(at_snr(silence, noise, RATE, 0.0).any())
    assert not bool(at_snr(noise, silence, RATE, 0.0).any())
    assert active_power(torch.zeros(0), RATE) == 0


def test_babble_is_of_other_clips_only_each_as_loud():
    own = torch.full((400,), float("nan"))
    for level in (0.5, 1e-3):
        clip = torch.full((400,), level)
        babble = Babble(HeldClips([clip, own, clip], RATE), (4, 4))
        for one in [babble(1000, generator(seed), own=1) for seed in range(8)]:
            # four voices of unit power, each within 3 dB; constants add up
            assert one.shape == (1000,) and 4 * 10 ** (-3 / 20) <= float(one.min()) <= float(one.max()) <= 4 * 10 ** (
                3 / 20
            )
    with refused(DataError, code="empty", value=1):
        Babble(HeldClips([own], RATE))(10, generator(), own=0)


def test_a_stretch_goes_on_in_other_clips_and_passes_silence_over():
    noise = Recorded(HeldClips([torch.zeros(50), torch.ones(30), torch.full((20,), 2.0)], RATE))(500, generator())
    assert noise.shape == (500,) and set(noise.tolist()) == {1.0, 2.0}


def test_a_folder_of_noise_is_read_at_the_rate_and_what_is_unusable_is_listed(tmp_path):
    soundfile.write(tmp_path / "a.wav", buzz(0.5, 8000).numpy(), 8000)
    soundfile.write(tmp_path / "b.wav", torch.zeros(100).numpy(), 8000)
    (tmp_path / "c.wav").write_bytes(b"RIFF nothing")
    audit = Audit("noises")
    clips = read_clips(str(tmp_path), RATE, audit)
    assert len(clips) == 1 and len(clips.wave(0)) == pytest.approx(8000, abs=2) and clips.rate == RATE
    assert audit.reasons == {"no noise": 1, "unreadable": 1}
    (tmp_path / "a.wav").unlink()
    with refused(DataError, code="empty", path="data.degrade", value=str(tmp_path)):
        read_clips(str(tmp_path), RATE, Audit("noises"))
