"""Losses against closed forms."""

import math

import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono.train.discriminator_losses import (
    Judgement,
    discriminator_hinge,
    discriminator_squares,
    feature_matching,
    generator_hinge,
    generator_squares,
)
from unisono_sound.signal import MelSpec
from unisono_sound.signal.losses import LogMelLoss, MultiResolutionSTFTLoss


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_stft_loss_of_a_scaled_copy():
    wave = noise(3, 4096)
    loss = MultiResolutionSTFTLoss(floor=1e-6)
    gains = torch.tensor([0.5, 1.0, 3.0])
    expected = (1 - gains).abs() + gains.log().abs()
    # 1e-4: the floor, and single precision of a mean over some 10,000 bins.
    torch.testing.assert_close(loss(gains[:, None] * wave, wave), expected, atol=1e-4, rtol=0)


def test_stft_loss_equals_the_published_formula_by_torch_stft():
    target, estimate = noise(1, 4096, seed=1), noise(1, 4096, seed=2)
    total = 0.0
    for n_fft, hop in ((256, 64), (1024, 256)):
        window = torch.hann_window(n_fft)
        s, e = (torch.stft(w[0], n_fft, hop, window=window, return_complex=True).abs() for w in (target, estimate))
        total += (s - e).norm() / s.norm() + (s.log() - e.log()).abs().mean()
    loss = MultiResolutionSTFTLoss(((256, 64), (1024, 256)), floor=1e-6)
    # 1e-4: logarithms of a few near-zero bins amplify rounding.
    torch.testing.assert_close(loss(estimate, target)[0], total / 2, atol=1e-4, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1e-7, 1e-3])
def test_silence_and_agreement_have_finite_gradients(level):
    target = torch.zeros(2, 4096)
    target[1] = noise(4096)
    estimate = target.clone()
    estimate[0] = level * noise(4096, seed=3)
    estimate.requires_grad_()
    loss = MultiResolutionSTFTLoss()(estimate, target)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert estimate.grad.isfinite().all()
    # Below the floor a bin still pulls towards its target.
    assert level == 0 or estimate.grad[0].abs().max() > 0


def test_crops_too_short_to_transform_are_refused_with_the_fix():
    with refused(DataError, "shape", "data.crop_frames", value=1024):
        MultiResolutionSTFTLoss()(noise(1, 1024), noise(1, 1024))


def test_mel_loss_of_a_scaled_copy_is_the_logarithm_of_the_scale():
    wave = noise(2, 8192)
    loss = LogMelLoss(MelSpec())
    torch.testing.assert_close(loss(wave, wave), torch.zeros(2))
    torch.testing.assert_close(loss(2 * wave, wave), torch.full((2,), math.log(2)))


@pytest.mark.parametrize("loss", [LogMelLoss(MelSpec()), MultiResolutionSTFTLoss()])
def test_an_item_counts_the_same_alone_and_in_a_batch(loss):
    estimate, target = noise(3, 4096, seed=4), 0.1 * noise(3, 4096, seed=5)
    together = loss(estimate, target)
    alone = torch.cat([loss(e[None], t[None]) for e, t in zip(estimate, target, strict=True)])
    torch.testing.assert_close(together, alone)


def judgement(scores: list[list[float]], *features: torch.Tensor) -> Judgement:
    return Judgement(torch.tensor(scores), list(features))


def test_hinge_losses_by_hand():
    real = [judgement([[2.0, 0.5]]), judgement([[-1.0]])]
    fake = [judgement([[-3.0, 0.0]]), judgement([[0.5]])]
    # first: mean(0, 0.5) + mean(0, 1) = 0.75; second: 2 + 1.5
    torch.testing.assert_close(discriminator_hinge(real, fake), torch.tensor([(0.75 + 3.5) / 2]))
    # first: mean(4, 1); second: 0.5
    torch.testing.assert_close(generator_hinge(fake), torch.tensor([(2.5 + 0.5) / 2]))


def test_feature_matching_sums_layers_and_averages_discriminators():
    ones = torch.ones(2, 3, 4, 5)
    real = [judgement([[0.0]] * 2, 0 * ones, 0 * ones), judgement([[0.0]] * 2, 0 * ones)]
    scale = torch.tensor([1.0, 2.0])[:, None, None, None]
    fake = [judgement([[0.0]] * 2, scale * ones, -scale * ones), judgement([[0.0]] * 2, ones)]
    expected = torch.tensor([(1 + 1 + 1) / 2, (2 + 2 + 1) / 2])
    torch.testing.assert_close(feature_matching(real, fake), expected)


def test_stft_loss_with_parallel_wavegans_windows_equals_torch_stft():
    """Yamamoto et al., equations 4 to 6, at the resolutions of their table 1."""
    resolutions = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
    target, estimate = noise(1, 6000, seed=1), noise(1, 6000, seed=2)
    total = 0.0
    for n_fft, hop, width in resolutions:
        s, e = (
            torch.stft(w[0], n_fft, hop, width, torch.hann_window(width), return_complex=True).abs()
            for w in (target, estimate)
        )
        total += (s - e).norm() / s.norm() + (s.log() - e.log()).abs().mean()
    loss = MultiResolutionSTFTLoss(resolutions, floor=1e-6)
    # 1e-4: logarithms of a few near-zero bins amplify rounding.
    torch.testing.assert_close(loss(estimate, target)[0], total / 3, atol=1e-4, rtol=0)
    with refused(DataError, "range", "resolutions", value=513):
        MultiResolutionSTFTLoss(((512, 128, 513),))


def test_least_squares_by_hand():
    real = [Judgement(torch.tensor([[1.0, 0.0], [2.0, 1.0]]), [])]
    fake = [Judgement(torch.tensor([[0.0, 0.5], [-1.0, 1.0]]), [])]
    # (0 + 1)/2 + (0 + 1/4)/2 and (1 + 0)/2 + (1 + 1)/2
    torch.testing.assert_close(discriminator_squares(real, fake), torch.tensor([0.625, 1.5]))
    # (1 + 1/4)/2 and (4 + 0)/2
    torch.testing.assert_close(generator_squares(fake), torch.tensor([0.625, 2.0]))
    torch.testing.assert_close(generator_squares(fake * 2), torch.tensor([0.625, 2.0]))
