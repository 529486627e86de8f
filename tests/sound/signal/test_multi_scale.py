"""DAC's distance over seven windows, against the formula written out."""

import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_sound.signal import MelSpec
from unisono_sound.signal.losses import MultiScaleMelLoss
from unisono_sound.signal.mel import mel_filters


def waves(samples=6000):
    return (0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


def test_by_hand():
    made, true = waves()
    total = torch.zeros(2)
    for window, mels in ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)):
        filters = mel_filters(MelSpec(24000, window, window, window // 4, mels, 0.0, 12000.0))
        hann = torch.hann_window(window)
        spectra = [torch.stft(x, window, window // 4, window=hann, return_complex=True) for x in (made, true)]
        logs = [(filters.T @ spectrum.abs()).clamp(min=1e-5).log10() for spectrum in spectra]
        total = total + (logs[0] - logs[1]).abs().mean((1, 2))
    # The loss has a floor of 1e-7 under its root, and sums in another order.
    torch.testing.assert_close(MultiScaleMelLoss(24000)(made, true), total, rtol=1e-3, atol=1e-4)


def test_silence_has_a_gradient_that_is_finite():
    made = torch.zeros(2, 6000, requires_grad=True)
    MultiScaleMelLoss(24000)(made, torch.zeros(2, 6000)).sum().backward()
    assert made.grad.isfinite().all()
    assert (MultiScaleMelLoss(24000)(torch.zeros(2, 6000), torch.zeros(2, 6000)) == 0).all()


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100])
def test_every_filter_of_every_window_holds_a_bin(rate):
    loss = MultiScaleMelLoss(rate)
    assert len(loss.windows) == 7
    for window in loss.windows:
        assert loss.get_buffer(f"filters_{window}").any(0).all()


def test_a_rate_too_high_for_the_shortest_window_is_named():
    with refused(DataError, "range", "n_mels", value=5, names="32"):
        MultiScaleMelLoss(48000)


def test_a_crop_that_is_too_short_is_named():
    with refused(DataError, "shape", "data.crop_frames", value=1024):
        MultiScaleMelLoss(24000)(torch.zeros(1, 1024), torch.zeros(1, 1024))
