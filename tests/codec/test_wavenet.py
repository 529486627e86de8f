"""WaveNet from noise: sizes, what it may see, upsampling against its definition, batches and streams."""

import math

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono_codec.vocoders.noise import gaussian_noise
from unisono_codec.vocoders.sizes import WaveNetSizes
from unisono_codec.vocoders.vocoder import SILENCE
from unisono_codec.vocoders.wavenet import MelUpsample, WaveNet
from unisono_sound.signal import MelSpec

SPEC = MelSpec(n_fft=64, win_length=64, hop_length=16, n_mels=10)
HOP = SPEC.hop_length
# Float32 sums in another order; waveforms here are about 0.1 loud.
TOLERANCE = 1e-6


def make_net(**sizes) -> WaveNet:
    torch.manual_seed(0)
    small = {"num_layers": 6, "num_stacks": 2, "channels": 6, "gate_channels": 8, "skip_channels": 5}
    return WaveNet(SPEC, WaveNetSizes(upsample_factors=(4, 4), **{**small, **sizes})).eval()


def make_mel(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, SPEC.n_mels, generator=torch.Generator().manual_seed(seed)) - 5


@pytest.fixture(scope="module")
def net() -> WaveNet:
    return make_net()


def count(module: torch.nn.Module, gains: bool) -> int:
    """Parameters; the gains of weight norm ("original0") are counted or not."""
    return sum(p.numel() for n, p in module.named_parameters() if gains or not n.endswith("original0"))


def test_the_published_size():
    """30 layers of 64 residual and skip and 128 gate channels, kernel 3, 80 mels: by hand, and near the paper's 1.44 M.

    The paper gives no breakdown of 1.44 M; the sizes it states come to 1.33 M (1.35 M with gains of weight norm), and
    with the discriminator's 0.10 M to 1.43 M.
    """
    net = WaveNet(MelSpec())
    layer = (64 * 128 * 3 + 128) + 80 * 128 + (64 * 64 + 64) + (64 * 64 + 64)
    unread = 64 * 64 + 64  # the last layer's residual
    mel = 80 * 80 * 5 + 4 * 9
    ends = (64 + 64) + (64 * 64 + 64) + (64 + 1)
    assert count(net, gains=False) == 30 * layer - unread + mel + ends == 1_330_149
    assert [layer.conv.dilation[0] for layer in net.layers] == [2**i for i in range(10)] * 3
    assert net.receptive_field == 1 + 3 * 2 * 1023


def test_a_sample_hears_the_noise_within_the_receptive_field_and_no_further(monkeypatch):
    # By the gradient, here and below: what comes from the very edge, through every layer, is too faint for a
    # difference in float32, which one processor's rounding shows and another's hides.
    net, mel = make_net(), make_mel(1, 12)
    noise = torch.randn(1, 12 * HOP, generator=torch.Generator().manual_seed(3)).requires_grad_()
    monkeypatch.setattr("unisono_codec.vocoders.wavenet.gaussian_noise", lambda *args: noise)
    net(mel)[0, 100].backward()
    heard = noise.grad[0].nonzero()[:, 0]
    assert net.receptive_field == 1 + 2 * 2 * (1 + 2 + 4)
    assert (int(heard.min()), int(heard.max())) == (100 - 14, 100 + 14)


def test_a_frame_is_heard_within_the_context_and_no_further(net):
    mel = make_mel(1, 41).requires_grad_()
    net(mel)[:, 20 * HOP : 21 * HOP].square().sum().backward()
    heard = mel.grad[0].abs().amax(1).nonzero()[:, 0]
    assert (int(heard.min()), int(heard.max())) == (20 - net.context, 20 + net.context)


@torch.no_grad()
@pytest.mark.parametrize("factors", [(4, 4, 4, 4), (2, 3, 5), (7,), (1, 2)])
def test_upsampling_equals_repeating_and_convolving(factors):
    """The published order, factor by factor, on what lies far enough from the ends."""
    torch.manual_seed(0)
    upsample = MelUpsample(factors)
    for conv in upsample.smooth:
        conv.parametrizations.weight.original1.copy_(torch.randn_like(conv.weight))
    x = torch.randn(2, 3, 9)
    slow = F.pad(x, (4, 4)).flatten(0, 1)[:, None]
    for factor, conv in zip(factors, upsample.smooth, strict=True):
        slow = F.conv1d(slow.repeat_interleave(factor, dim=-1), conv.weight, padding=factor)
    hop = math.prod(factors)
    expected = slow[:, 0, 4 * hop : -4 * hop].unflatten(0, (2, 3))
    torch.testing.assert_close(upsample(x, upsample.filters()), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_upsampling_with_identity_kernels_repeats():
    upsample = MelUpsample((4, 2))
    for conv in upsample.smooth:
        conv.weight = F.one_hot(torch.tensor(conv.kernel_size[0] // 2), conv.kernel_size[0]).float()[None, None]
    x = torch.randn(2, 3, 5)
    assert torch.equal(upsample(x, upsample.filters()), x.repeat_interleave(8, dim=-1))


@torch.no_grad()
def test_an_untrained_upsampling_is_a_smooth_average():
    upsample = MelUpsample((4, 4))
    # Every sample is a weighted mean of frames, so a constant stays what it is, away from the silence beyond the ends.
    wave = upsample(torch.ones(1, 1, 7), upsample.filters())[0, 0]
    torch.testing.assert_close(wave[2 * 16 : -2 * 16], torch.ones(3 * 16))


@torch.no_grad()
def test_layers_equal_the_paper_in_plain_words():
    """The whole network, spelt out in the published order: upsample first, then each layer's matrix."""
    net, mel = make_net(), make_mel(2, 15)
    seeds = [4, 9]
    silent = F.pad((mel.mT - SILENCE) / -SILENCE, (8, 8))  # silence beyond the ends
    heard = F.pad(F.conv1d(silent, net.listen.weight, padding=2)[..., 8:-8], (8, 8))
    slow = heard.flatten(0, 1)[:, None]
    for factor, conv in zip((4, 4), net.upsample.smooth, strict=True):
        slow = F.conv1d(slow.repeat_interleave(factor, dim=-1), conv.weight, padding=factor)
    condition = slow[:, 0, 8 * HOP : -8 * HOP].unflatten(0, (2, SPEC.n_mels))
    x = F.conv1d(gaussian_noise(0, seeds, torch.empty(2, 15 * HOP))[:, None], net.first.weight, net.first.bias)
    skips = 0
    for i, layer in enumerate(net.layers):
        dilation = 2 ** (i % 3)
        z = F.conv1d(x, layer.conv.weight, layer.conv.bias, dilation=dilation, padding=dilation)
        z = z + F.conv1d(condition, layer.condition.weight)
        z = z[:, :4].tanh() * z[:, 4:].sigmoid()
        if i < 5:
            skips = skips + F.conv1d(z, layer.out.weight[6:], layer.out.bias[6:])
            x = (x + F.conv1d(z, layer.out.weight[:6], layer.out.bias[:6])) * 0.5**0.5
        else:
            skips = skips + F.conv1d(z, layer.out.weight, layer.out.bias)
    x = F.conv1d((skips / 6**0.5).relu(), net.before_last.weight, net.before_last.bias)
    expected = F.conv1d(x.relu(), net.last.weight, net.last.bias)[:, 0]
    torch.testing.assert_close(net(mel, seeds=seeds), expected, atol=TOLERANCE, rtol=1e-5)


@torch.no_grad()
def test_an_item_alone_equals_the_item_in_a_batch(net):
    lengths = torch.tensor([30, 17, 2, 1])
    seeds = [5, 0, 6, 5]
    mel = make_mel(4, 30)
    mel[1, 17:] = torch.nan  # nothing that stands in the padding may count
    mel[2:, 2:] = 1e4
    together = net(mel, lengths, seeds)
    for wave, item, length, seed in zip(together, mel, lengths.tolist(), seeds, strict=True):
        alone = net(item[None, :length], seeds=[seed])[0]
        torch.testing.assert_close(wave[: length * HOP], alone, atol=TOLERANCE, rtol=0)
        assert wave[length * HOP :].abs().sum() == 0


@torch.no_grad()
def test_another_seed_is_another_waveform(net):
    one, other, again = net(make_mel(1, 10).expand(3, -1, -1), seeds=[1, 2, 1])
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7] * 8 + [4], [40, 20], [1, 58, 1]])
def test_a_stream_equals_the_whole(net, sizes):
    mel = make_mel(2, 60)
    pieces = list(net.stream(mel.split(sizes, dim=1)))
    torch.testing.assert_close(torch.cat(pieces, 1), net(mel), atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_a_stream_speaks_before_its_end(net):
    fed = []

    def chunks():
        for chunk in make_mel(1, 60).split(10, dim=1):
            fed.append(chunk)
            yield chunk

    first = next(net.stream(chunks()))
    assert len(fed) == math.ceil((net.context + 1) / 10)
    assert first.shape[1] == (10 * len(fed) - net.context) * HOP
    assert list(net.stream([])) == []


@pytest.mark.parametrize(
    ("sizes", "code", "named"),
    [
        ({"num_layers": 7}, "range", "num_stacks=2"),
        ({"gate_channels": 7}, "value", "even"),
        ({"kernel_size": 4}, "value", "odd"),
        ({"upsample_factors": (4, 3)}, "conflict", ["12", "hop of 16"]),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, code, named):
    ((name, value),) = sizes.items()
    with refused(RecipeError, code, f"model.network.{name}", value=value, names=named):
        WaveNet(SPEC, WaveNetSizes(**{"upsample_factors": (4, 4), "num_layers": 6, "num_stacks": 2, **sizes}))
