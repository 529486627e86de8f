"""Discriminators: published sizes, the published folding, gradients."""

import itertools

import pytest
import torch
from torch.nn import functional as F
from unisono_sound.discriminators import (
    MultiBandDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionAmplitudeDiscriminator,
    MultiResolutionDiscriminator,
    MultiResolutionPhaseDiscriminator,
    MultiScaleSTFTDiscriminator,
    PeriodDiscriminator,
    SpectrogramDiscriminator,
)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_sizes():
    widths = [1, 32, 128, 512, 1024, 1024]
    pairs = list(itertools.pairwise(widths))
    # kernel, bias and weight norm's gain of each layer, then of the score
    period = sum(5 * a * b + 2 * b for a, b in pairs) + 3 * 1024 + 2
    assert count(MultiPeriodDiscriminator()) == 5 * period
    kernels = [35 * 1, 15 * 64, 15 * 64, 9 * 64, 9 * 64]
    resolution = sum(64 * k + 2 * 64 for k in kernels) + 9 * 64 + 2
    assert count(MultiResolutionDiscriminator()) == 3 * resolution
    assert (
        count(MultiResolutionAmplitudeDiscriminator()) == count(MultiResolutionPhaseDiscriminator()) == 3 * resolution
    )


@torch.no_grad()
@pytest.mark.parametrize(("period", "samples"), [(2, 300), (7, 300), (11, 305)])
def test_columns_as_items_equal_the_published_two_dimensional_convolution(period, samples):
    torch.manual_seed(0)
    judge = PeriodDiscriminator(period, (4, 8, 6))
    wave = torch.randn(3, samples)
    x = F.pad(wave[:, None], (0, -samples % period), mode="reflect")
    x = x.reshape(3, 1, -1, period)
    for i, conv in enumerate(judge.convs):
        weight, stride = conv.weight[..., None], (3 if i < 2 else 1, 1)
        x = F.leaky_relu(F.conv2d(x, weight, conv.bias, stride, (2, 0)), 0.1)
    x = F.conv2d(x, judge.score.weight[..., None], judge.score.bias, 1, (1, 0))[:, 0]
    scores = judge(wave).scores.reshape(3, period, -1).mT
    torch.testing.assert_close(scores, x)


@torch.no_grad()
def test_a_spectrogram_is_a_picture_of_frequency_by_time():
    judge = SpectrogramDiscriminator(64, 16, 2)
    seen = []
    judge.convs[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tone = torch.sin(2 * torch.pi * 8 / 64 * torch.arange(320))[None]
    verdict = judge(tone)
    assert seen[0].shape == (1, 1, 33, 20)
    assert (seen[0][0, 0, :, 5:-5].argmax(0) == 8).all()
    assert [f.shape[2:] for f in verdict.features[:5]] == [
        (17, 10),
        (9, 10),
        (5, 5),
        (3, 5),
        (2, 3),
    ]


@torch.no_grad()
def test_amplitudes_and_phases_are_of_a_rectangular_window():
    wave = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0))
    frame = torch.fft.rfft(wave[0, 8 * 16 - 24 : 8 * 16 + 40])  # the ninth of frames 16 apart, without a window
    for kind, expected in (
        (MultiResolutionAmplitudeDiscriminator, frame.abs()),
        (MultiResolutionPhaseDiscriminator, frame.angle()),
    ):
        seen = []
        judges = kind([(64, 16)], 2)
        judges.judges[0].convs[0].register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        judges(wave)
        torch.testing.assert_close(seen[0][0, 0, :, 8], expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_an_item_is_judged_the_same_in_any_batch():
    wave = torch.randn(3, 2048)
    for judges in (
        MultiPeriodDiscriminator((2, 5), (2, 4)),
        MultiResolutionDiscriminator(channels=2),
        MultiResolutionAmplitudeDiscriminator(channels=2),
        MultiResolutionPhaseDiscriminator(channels=2),
        MultiBandDiscriminator((512, 256), 2),
        MultiScaleSTFTDiscriminator((512, 128), 2),
    ):
        for together, alone in zip(judges(wave), judges(wave[1:2]), strict=True):
            first, rest = together.split(1)
            assert len(first.scores) == 1
            torch.testing.assert_close(rest.scores[:1], alone.scores)
            for x, y in zip(rest.features, alone.features, strict=True):
                torch.testing.assert_close(x[:1], y)


def test_gradients_reach_the_waveform_and_every_parameter():
    for judges in (
        MultiPeriodDiscriminator((2, 5), (2, 4)),
        MultiResolutionDiscriminator(channels=2),
        MultiResolutionAmplitudeDiscriminator(channels=2),
        MultiResolutionPhaseDiscriminator(channels=2),
        MultiBandDiscriminator((512, 256), 2),
        MultiScaleSTFTDiscriminator((512, 128), 2),
    ):
        wave = torch.zeros(2, 2048)  # bins of zero magnitude must not yield NaN
        wave[1] = torch.randn(2048)
        wave.requires_grad_()
        sum(j.scores.square().sum() for j in judges(wave)).backward()
        assert wave.grad.isfinite().all()
        assert wave.grad[1].any()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in judges.parameters())
        assert all(p.grad.any() for p in judges.parameters())


def test_published_sizes_without_the_lengths_of_weight_norm():
    """HiFi-GAN's multi-period discriminators have 41.1 M weights; the others by their layers, one by one."""

    def weights(net):  # lengths of weight norm are no weights of their own
        return sum(p.numel() for n, p in net.named_parameters() if not n.endswith("original0"))

    assert weights(MultiPeriodDiscriminator()) / 1e6 == pytest.approx(41.1, abs=0.05)
    first, strided, last, score = 2 * 32 * 27 + 32, 32 * 32 * 27 + 32, 32 * 32 * 9 + 32, 32 * 9 + 1
    assert weights(MultiBandDiscriminator()) == 3 * (5 * (first + 3 * strided + last) + score)
    assert weights(MultiScaleSTFTDiscriminator()) == 5 * (first + 3 * strided + last + score)


def test_bands_share_the_spectrum_out_without_gap():
    for judge in MultiBandDiscriminator(channels=1).judges:
        edges = judge.edges
        assert edges[0][0] == 0 and edges[-1][1] == judge.n_fft // 2 + 1
        assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))


@torch.no_grad()
def test_a_band_hears_its_own_frequencies_alone():
    (judge,) = MultiBandDiscriminator((512,), 3).judges
    time = torch.arange(4096) / 24000
    base = 0.1 * torch.randn(1, 4096)
    louder = base + 0.3 * torch.sin(2 * torch.pi * 7500 * time)  # 0.625 of 12 kHz: the fourth band
    before, after = (judge(wave).features for wave in (base, louder))
    inside = slice(8, -8)  # the sine is bent where the ends are mirrored, which all bands hear
    pairs = [(x[:, :, inside], y[:, :, inside]) for x, y in zip(before, after, strict=True)]
    moved = [float((x - y).abs().max() / x.abs().max()) for x, y in pairs]
    for band in range(5):
        of_band = moved[5 * band : 5 * band + 5]
        assert of_band[0] > 0.1 if band == 3 else max(of_band) < 1e-3


@torch.no_grad()
def test_shapes_halve_the_frequencies_thrice():
    wave = torch.randn(2, 4096)
    (judgement,) = MultiScaleSTFTDiscriminator((512,), 3)(wave)
    assert [tuple(f.shape) for f in judgement.features] == [
        (2, 3, 32, 257),
        (2, 3, 32, 129),
        (2, 3, 32, 65),
        (2, 3, 32, 33),
        (2, 3, 32, 33),
        (2, 1, 32, 33),
    ]
    assert judgement.scores.shape == (2, 32 * 33)
