"""Codecs and damage: in place, of the same length, and as lossy as they say."""

import math

import pytest
import torch
from unisono_sound.degrade import clipped, companded, louder, mp3, opus, with_losses

RATE = 16000


def glide(num_samples: int = 16000, rate: int = RATE) -> torch.Tensor:
    time = torch.arange(num_samples) / rate
    phase = 2 * math.pi * (200 * time + 300 * time.square())
    return (0.3 * torch.sin(phase) + 0.1 * torch.sin(3 * phase)) * (0.6 + 0.4 * torch.sin(2 * math.pi * 3 * time))


def lag(copy: torch.Tensor, wave: torch.Tensor) -> int:
    size = 2 * len(wave)
    product = torch.fft.irfft(torch.fft.rfft(copy, size) * torch.fft.rfft(wave, size).conj(), size)
    place = int(product.argmax())
    return place if place < len(wave) else place - size


@pytest.mark.parametrize(("law", "compress"), [("mulaw", 255.0), ("alaw", 87.6)])
def test_companding_errs_by_half_a_step_of_its_segment(law, compress):
    wave = torch.linspace(-1, 1, 4001)
    heard = companded(wave, RATE, law)
    # G.711 has 16 steps in a segment of an octave: at most 1/32 of a value off, and its least step about zero
    assert bool(((heard - wave).abs() <= wave.abs() / 32 + 1e-3).all())
    assert len(heard.unique()) > 200 and len(heard.unique()) <= 256
    torch.testing.assert_close(companded(heard, RATE, law), heard)


def test_companding_clips_beyond_full_scale():
    assert float(companded(torch.tensor([2.0, -3.0]), RATE, "mulaw").abs().max()) <= 1


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000])
@pytest.mark.parametrize(("codec", "kbps"), [(opus, 6), (opus, 24), (mp3, 16), (mp3, 64)])
def test_coded_speech_is_in_place_and_as_long(codec, kbps, rate):
    for length in (rate, rate // 3 + 7):
        wave = glide(length, rate)
        heard = codec(wave, rate, kbps)
        assert heard.shape == wave.shape and heard.dtype == torch.float32
        assert abs(lag(heard, wave)) <= 2
    error = float((heard - wave).square().mean() / wave.square().mean())
    assert 1e-7 < error < 0.5


@pytest.mark.parametrize("codec", [opus, mp3])
def test_more_bits_are_nearer(codec):
    wave = glide() + 0.05 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    errors = [float((codec(wave, RATE, kbps) - wave).square().mean()) for kbps in (8, 24, 96)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("codec", [opus, mp3])
def test_a_moment_and_silence_pass(codec):
    assert codec(torch.full((5,), 0.1), RATE, 16).shape == (5,)
    assert float(codec(torch.zeros(2000), RATE, 16).abs().max()) < 1e-3


def test_clipping_cuts_at_its_level_and_leaves_what_is_below():
    wave = glide()
    heard = clipped(wave, 6.0206)
    peak = float(wave.abs().max())
    assert float(heard.abs().max()) == pytest.approx(peak / 2, rel=1e-4)
    below = wave.abs() < peak / 2.001
    assert torch.equal(heard[below], wave[below])
    assert torch.equal(clipped(wave, 0.0), wave)


def test_losses_are_whole_packets_of_the_share_in_runs():
    wave = torch.ones(20 * RATE)
    for share, burst in ((0.1, 1.0), (0.2, 3.0)):
        generator = torch.Generator().manual_seed(0)
        lost = [(with_losses(wave, RATE, share, burst, generator).reshape(-1, 320) == 0) for _ in range(20)]
        assert all(torch.equal(one.all(1), one.any(1)) for one in lost)
        packets = torch.stack([one[:, 0] for one in lost])
        assert float(packets.float().mean()) == pytest.approx(share, abs=0.02)
        runs = (packets[:, 1:] & ~packets[:, :-1]).sum() + packets[:, 0].sum()
        assert float(packets.sum() / runs) == pytest.approx(burst, rel=0.15)
    assert with_losses(torch.ones(5), RATE, 0.9, 1.0, torch.Generator()).shape == (5,)


def test_a_level_is_exact():
    assert float(louder(torch.ones(1), -20.0)) == pytest.approx(0.1)
