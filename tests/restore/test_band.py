"""Where a sound ends, and the filters that join what is made to what was there."""

import math

import numpy as np
import pytest
import soxr
import torch
from unisono_restore.ap_bwe.band import KEPT, Edge, above, high_pass, taps_for

RATE = 16000


@pytest.mark.parametrize(("cutoff", "rate"), [(4000, 16000), (2000, 16000), (8000, 48000), (5512.5, 22050)])
def test_the_filter_passes_nothing_below_and_all_above(cutoff, rate):
    taps = high_pass(cutoff, rate)
    assert len(taps) == taps_for(cutoff, rate) and len(taps) % 2 == 1
    torch.testing.assert_close(taps, taps.flip(0), atol=1e-7, rtol=0)  # no delay
    response = torch.fft.rfft(taps, 2**16).abs()
    hz = torch.arange(2**15 + 1) * rate / 2**16
    assert response[hz <= KEPT * cutoff].max() < 2e-5  # −94 dB: taps are rounded to float32
    assert (response[hz >= cutoff] - 1).abs().max() < 2e-5
    between = response[(hz > KEPT * cutoff) & (hz < cutoff)]
    assert (between.diff() > -1e-5).all()  # the fade does not ripple


def test_the_filter_keeps_length_and_channels():
    taps = high_pass(4000, RATE)
    wave = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    peer = np.stack([np.convolve(row, taps)[len(taps) // 2 :][:200] for row in wave.numpy()])
    torch.testing.assert_close(above(wave, taps), torch.from_numpy(peer).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 40, 255, 256, 257, 3000])
@pytest.mark.parametrize("count", [1, 31, 641])
def test_the_filter_is_torchs_convolution(length, count):
    """Taps that are not symmetric, so that a turned filter is another one."""
    drawn = torch.Generator().manual_seed(length)
    wave, taps = torch.randn(2, length, generator=drawn), torch.randn(count, generator=drawn) / count**0.5
    peer = torch.nn.functional.conv1d(wave[:, None], taps[None, None], padding=count // 2)[:, 0]
    torch.testing.assert_close(above(wave, taps), peer, atol=1e-5, rtol=0)
    if length > 100:  # to the last bit wherever a piece begins
        later = torch.cat([torch.zeros(2, 77), wave], dim=1)
        assert torch.equal(above(later, taps)[:, 77:], above(wave, taps))


def test_the_filter_hears_nothing_beyond_its_taps():
    taps, wave = high_pass(4000, RATE), torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    changed = wave.clone()
    changed[0, 2000] += 1
    differs = (above(wave, taps) != above(changed, taps))[0].nonzero()[:, 0]
    assert (int(differs.min()), int(differs.max())) == (2000 - len(taps) // 2, 2000 + len(taps) // 2)


@pytest.mark.parametrize("ends", [1000.0, 3400.0, 4000.0, 7000.0])
@pytest.mark.parametrize("size", [160, 1023, 4000, 16000])
def test_the_end_of_a_band_is_found(ends, size):
    wave = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    narrow = soxr.resample(soxr.resample(wave, RATE, 2 * ends, quality="HQ"), 2 * ends, RATE, quality="HQ")
    edge = Edge(RATE)
    for block in torch.from_numpy(narrow[None]).split(size, dim=1):
        edge.hear(block)
    assert abs(edge.cutoff() / ends - 1) < 0.04 or abs(edge.cutoff() - ends) < 50


def test_the_end_does_not_depend_on_blocks():
    wave = torch.randn(2, 9000, generator=torch.Generator().manual_seed(0)).cumsum(1)
    ends = set()
    for size in (1, 700, 9000):
        edge = Edge(RATE)
        for block in wave.split(size, dim=1):
            edge.hear(block)
        ends.add(edge.cutoff())
    assert len(ends) == 1


@pytest.mark.parametrize("length", [1, 2, 100, 1023])
def test_a_short_sound_has_an_end(length):
    edge = Edge(RATE)
    edge.hear(torch.full((1, length), 0.5) if length < 3 else torch.sin(math.pi / 4 * torch.arange(length))[None])
    assert 0 < edge.cutoff() <= RATE / 2 + 1
    if length >= 100:
        assert abs(edge.cutoff() - 2000) < 1200  # a sine of 2 kHz, through a short window


def test_silence_ends_nowhere():
    edge = Edge(RATE)
    assert edge.cutoff() == 0
    edge.hear(torch.zeros(1, 5000))
    assert edge.cutoff() == 0
