"""Lightweight convolutions: against a grouped convolution and loops, and alone against in a padded batch."""

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import UnisonoError
from unisono.nn.lconv import LConvBlock, LConvSizes, LConvStack, LightweightConv

LENGTHS = torch.tensor([11, 7, 1, 2])
MASK = torch.arange(11) < LENGTHS[:, None]
TOLERANCE = dict(atol=1e-12, rtol=0)
"""Double precision; sums of at most a hundred terms of order 1."""


def make_input(dim: int = 12, garbage: float = 1e3) -> torch.Tensor:
    x = torch.randn(4, 11, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.where(MASK[..., None], x, garbage)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


@torch.no_grad()
@pytest.mark.parametrize(("num_heads", "kernel_size"), [(1, 3), (3, 5), (12, 7), (4, 1), (2, 17)])
def test_it_is_a_grouped_convolution_with_softmaxed_taps(num_heads, kernel_size):
    module = LightweightConv(12, num_heads, kernel_size).double()
    grouped = torch.nn.Conv1d(12, 12, kernel_size, padding=kernel_size // 2, groups=12, bias=False).double()
    taps = module.taps.exp() / module.taps.exp().sum(1, keepdim=True)
    for channel in range(12):
        grouped.weight[channel, 0] = taps[channel * num_heads // 12]
    x = make_input(garbage=0.0)
    torch.testing.assert_close(module(x), grouped(x.mT).mT, **TOLERANCE)
    torch.testing.assert_close(module(make_input(), MASK), grouped(x.mT).mT, **TOLERANCE)
    constant = torch.ones(1, 40, 12, dtype=torch.float64)
    reach = kernel_size // 2
    torch.testing.assert_close(module(constant)[:, reach : 40 - reach], constant[:, reach : 40 - reach], **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_block_equals_loops(norm_first):
    sizes = LConvSizes(dim=12, num_heads=3, kernel_size=5, dropout=0.5, norm_first=norm_first)
    block = LConvBlock(sizes).double().eval()
    made = block(make_input(), MASK)
    taps = block.conv.taps.softmax(-1)
    for row, x, length in zip(made, make_input(), LENGTHS.tolist(), strict=True):
        x = x[:length]
        y = block.conv_norm(x) if norm_first else x
        value, gate = block.gate(y).chunk(2, -1)
        gated = value * gate.sigmoid()
        mixed = torch.zeros_like(gated)
        for t in range(length):
            for tap in range(5):
                if 0 <= t + tap - 2 < length:
                    for c in range(12):
                        mixed[t, c] += taps[c // 4, tap] * gated[t + tap - 2, c]
        x = x + block.conv_out(mixed)
        x = x if norm_first else block.conv_norm(x)
        y = block.feed_forward_norm(x) if norm_first else x
        x = x + block.project(F.relu(block.expand(y)))
        torch.testing.assert_close(row[:length], x if norm_first else block.feed_forward_norm(x), **TOLERANCE)
        assert row[length:].abs().sum() == 0


@pytest.mark.parametrize("norm_first", [False, True])
def test_padding_is_zero_changes_nothing_and_gets_no_gradient(norm_first):
    stack = LConvStack(2, LConvSizes(dim=12, num_heads=3, kernel_size=5, dropout=0.5, norm_first=norm_first))
    stack = stack.double().eval()
    x = make_input().requires_grad_()
    made = stack(x, MASK)
    assert made[~MASK].abs().sum() == 0
    for row, item, length in zip(made, make_input(), LENGTHS.tolist(), strict=True):
        torch.testing.assert_close(row[:length], stack(item[None, :length])[0], **TOLERANCE)
    made.square().sum().backward()
    assert x.grad[~MASK].abs().sum() == 0 and (x.grad[MASK].abs().sum(-1) > 0).all()


@torch.no_grad()
def test_a_stack_sees_as_far_as_its_kernels():
    stack = LConvStack(2, LConvSizes(dim=4, num_heads=2, kernel_size=3)).double().eval()
    x = torch.randn(1, 15, 4, dtype=torch.float64)
    changed = x.clone()
    changed[0, 7] += 1
    seen = (stack(x) != stack(changed))[0].any(-1).nonzero()[:, 0].tolist()
    assert seen == [5, 6, 7, 8, 9]


def test_heads_divide_channels_and_taps_have_a_middle():
    with refused(UnisonoError, "value", "num_heads", value=5, names=["5", "12"]):
        LightweightConv(12, 5, 3)
    with refused(UnisonoError, "value", "kernel_size", value=4):
        LightweightConv(12, 3, 4)
