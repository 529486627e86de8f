"""Spectra as amplitude and phase: their inverse, padding, gradients, and what phases are compared by."""

import math

import pytest
import torch
from refused import refused
from unisono.errors import RecipeError
from unisono_sound.signal.phase import CentredTransform, TransformSizes, amplitude, compose, phase
from unisono_sound.signal.phase_losses import (
    anti_wrap,
    complex_loss,
    consistency_loss,
    kept_mean,
    phase_losses,
)

SIZES = [
    TransformSizes(n_fft=400, win_length=400, hop_length=100),
    TransformSizes(n_fft=128, win_length=40, hop_length=10),
    TransformSizes(n_fft=64, win_length=33, hop_length=8),
]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_transform_is_torchs_with_silence_beyond_the_ends(sizes):
    wave = noise(2, 1003)
    peer = torch.stft(
        wave,
        sizes.n_fft,
        sizes.hop_length,
        sizes.win_length,
        torch.hann_window(sizes.win_length),
        center=True,
        pad_mode="constant",
        return_complex=True,
    ).mT
    own = CentredTransform(sizes)(wave)
    assert own.shape == (2, sizes.frames(1003), sizes.num_bins)
    torch.testing.assert_close(own, peer, atol=1e-4, rtol=0)  # of magnitudes up to 50


@pytest.mark.parametrize("sizes", SIZES)
def test_the_inverse_gives_back_every_length(sizes):
    transform, hop = CentredTransform(sizes), sizes.hop_length
    for length in [*range(1, 12), hop - 1, hop, hop + 1, 3 * hop, 3 * hop + 1]:
        wave = noise(1, length, seed=length)
        torch.testing.assert_close(transform.inverse(transform(wave), length), wave, atol=1e-5, rtol=0)


def test_amplitude_and_phase_give_back_the_waveform():
    transform = CentredTransform(SIZES[0])
    wave = 0.1 * noise(1, 4000)
    spectrum = transform(wave)
    back = transform.inverse(compose(amplitude(spectrum), phase(spectrum)), 4000)
    assert (back - wave).norm() / wave.norm() < 1e-5


def test_an_item_in_a_batch_has_the_frames_and_samples_that_it_has_alone():
    transform = CentredTransform(SIZES[1])
    lengths = torch.tensor([97, 43, 1])
    waves = [noise(1, n, seed=n) for n in lengths.tolist()]
    padded = torch.cat([torch.nn.functional.pad(wave, (0, 97 - wave.shape[1])) for wave in waves])
    together = transform(padded)
    mask = transform.mask(lengths, together.shape[1])
    assert mask.sum(1).tolist() == [10, 5, 1]
    changed = torch.where(mask[..., None], together * 2j, torch.full_like(together, 7))
    samples = transform.inverse(changed, 97, mask)
    for row, (wave, length) in enumerate(zip(waves, lengths.tolist(), strict=True)):
        alone = transform(wave)
        torch.testing.assert_close(together[row, : len(alone[0])], alone[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(samples[row, :length], transform.inverse(alone * 2j, length)[0], atol=1e-6, rtol=0)


def test_gradients_are_finite_where_nothing_sounds():
    transform = CentredTransform(SIZES[1])
    wave = torch.zeros(1, 100, requires_grad=True)
    spectrum = transform(wave)
    (amplitude(spectrum).sum() + phase(spectrum).sum()).backward()
    assert wave.grad is not None and wave.grad.isfinite().all() and wave.grad.any()


def test_anti_wrap_is_even_periodic_and_at_most_pi():
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    nearest = (
        (x[:, None] - 2 * math.pi * torch.arange(-5, 6, dtype=torch.float64)).abs().amin(1)
    )  # by trying every turn
    torch.testing.assert_close(anti_wrap(x), nearest)
    torch.testing.assert_close(anti_wrap(x + 6 * math.pi), anti_wrap(x))
    assert torch.equal(anti_wrap(-x), anti_wrap(x)) and anti_wrap(x).max() <= math.pi + 1e-12


def test_whole_turns_cost_nothing_and_a_constant_offset_itself_alone():
    target = 3 * noise(2, 7, 5)
    turns = 2 * math.pi * torch.randint(-2, 3, target.shape, generator=torch.Generator().manual_seed(1))
    for loss in phase_losses(target + turns, target):
        assert loss.max() < 1e-5
    offset = phase_losses(target + 0.7, target)
    torch.testing.assert_close(offset.instantaneous, torch.full((2,), 0.7), atol=1e-6, rtol=0)
    assert offset.group_delay.max() < 1e-6 and offset.angular_frequency.max() < 1e-6


def test_a_ramp_costs_its_slope_along_its_own_axis():
    target = noise(1, 6, 9)
    along_frequency = phase_losses(target + 0.3 * torch.arange(9.0), target)
    along_time = phase_losses(target + 0.2 * torch.arange(6.0)[:, None], target)
    torch.testing.assert_close(along_frequency.group_delay, torch.tensor([0.3]), atol=1e-5, rtol=0)
    torch.testing.assert_close(along_time.angular_frequency, torch.tensor([0.2]), atol=1e-5, rtol=0)
    assert along_frequency.angular_frequency < 1e-5 and along_time.group_delay < 1e-5
    torch.testing.assert_close(along_time.total, sum(along_time))


def test_frames_outside_of_the_mask_do_not_count():
    predicted, target = noise(2, 8, 5), noise(2, 8, 5, seed=1)
    mask = torch.arange(8) < torch.tensor([[8], [3]])
    changed = torch.where(mask[..., None], predicted, 99.0)
    for masked, alone in zip(
        phase_losses(changed, target, mask), phase_losses(predicted[1:, :3], target[1:, :3]), strict=True
    ):
        torch.testing.assert_close(masked[1:], alone)
    spectra = torch.complex(changed, changed), torch.complex(target, target)
    alone = complex_loss(spectra[0][1:, :3], spectra[1][1:, :3])
    torch.testing.assert_close(complex_loss(*spectra, mask)[1:], alone)
    torch.testing.assert_close(alone, (predicted - target)[1:, :3].square().flatten(1).mean(1))
    assert kept_mean(predicted, torch.zeros(2, 8, dtype=torch.bool)).tolist() == [0.0, 0.0]


def test_a_true_spectrum_is_consistent_and_another_is_not():
    transform = CentredTransform(SIZES[0])
    spectrum = transform(0.1 * noise(1, 3000))
    assert consistency_loss(spectrum, transform.inverse(spectrum, 3000), transform) < 1e-6
    other = spectrum * torch.where(torch.arange(spectrum.shape[2]) % 2 == 0, 1.0, -1.0)
    assert consistency_loss(other, transform.inverse(other, 3000), transform) > 0.1


@pytest.mark.parametrize(
    ("sizes", "code", "path"),
    [
        ({"n_fft": 401}, "value", "n_fft"),
        ({"n_fft": 100, "win_length": 200}, "range", "win_length"),
        ({"win_length": 1}, "range", "win_length"),
        ({"hop_length": 0}, "range", "hop_length"),
        ({"hop_length": 200}, "range", "hop_length"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, code, path):
    with refused(RecipeError, code, path):
        TransformSizes(**sizes)
