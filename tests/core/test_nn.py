"""Building blocks: against loops, and alone against in a padded batch."""

import math

import pytest
import torch
from torch.nn import functional as F
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.fft import FFTBlock, FFTSizes, FFTStack, sinusoids
from unisono.nn.temporal import TemporalPredictor

LENGTHS = torch.tensor([11, 7, 1, 2])
MASK = torch.arange(11) < LENGTHS[:, None]
TOLERANCE = dict(atol=1e-12, rtol=0)
"""Double precision; sums of at most a hundred terms of order 1."""


def make_input(dim: int = 10, garbage: float = 1e3) -> torch.Tensor:
    x = torch.randn(4, 11, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.where(MASK[..., None], x, garbage)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def looped_conv(x: torch.Tensor, conv: torch.nn.Conv1d) -> torch.Tensor:
    """x [t, d]; zeros beyond both ends."""
    reach = conv.kernel_size[0] // 2
    rows = []
    for t in range(len(x)):
        row = conv.bias.clone()
        for tap in range(-reach, reach + 1):
            if 0 <= t + tap < len(x):
                row = row + conv.weight[:, :, tap + reach] @ x[t + tap]
        rows.append(row)
    return torch.stack(rows)


def looped_block(block: FFTBlock, x: torch.Tensor) -> torch.Tensor:
    """One item [t, d] without padding, as the paper's equations read."""
    size = block.qkv.out_features // 3 // block.num_heads
    q, k, v = (x @ block.qkv.weight.T + block.qkv.bias).chunk(3, dim=-1)
    heads = []
    for h in range(block.num_heads):
        own = slice(h * size, (h + 1) * size)
        rows = []
        for t in range(len(x)):
            scores = torch.stack([q[t, own] @ k[u, own] / math.sqrt(size) for u in range(len(x))])
            weights = scores.exp() / scores.exp().sum()
            rows.append(sum(weights[u] * v[u, own] for u in range(len(x))))
        heads.append(torch.stack(rows))
    x = block.attention_norm(x + torch.cat(heads, dim=-1) @ block.out.weight.T)
    hidden = looped_conv(F.relu(looped_conv(x, block.conv_in)), block.conv_out)
    return block.feed_forward_norm(x + hidden)


@torch.no_grad()
@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_a_block_equals_loops(num_heads):
    block = FFTBlock(FFTSizes(dim=10, num_heads=num_heads, head_dim=4, filter_dim=12, dropout=0.5)).double().eval()
    made = block(make_input(), MASK)
    for row, item, length in zip(made, make_input(), LENGTHS.tolist(), strict=True):
        torch.testing.assert_close(row[:length], looped_block(block, item[:length]), **TOLERANCE)
        assert row[length:].abs().sum() == 0


MODULES = {
    "FFTStack": lambda: FFTStack(2, FFTSizes(dim=10, num_heads=2, head_dim=4, filter_dim=12, dropout=0.5)),
    "TemporalPredictor": lambda: TemporalPredictor(10, filter_dim=12, dropout=0.5),
    "ConvNeXtBlock": lambda: ConvNeXtBlock(10, 12, dropout=0.5),
}


@torch.no_grad()
@pytest.mark.parametrize("name", MODULES)
def test_an_item_alone_equals_the_item_in_a_batch(name):
    module = MODULES[name]().double().eval()
    together = module(make_input(), MASK)
    for row, item, length in zip(together, make_input(), LENGTHS.tolist(), strict=True):
        alone = module(item[None, :length], torch.ones(1, length, dtype=torch.bool))[0]
        torch.testing.assert_close(row[:length], alone, **TOLERANCE)


@pytest.mark.parametrize("name", ["FFTStack", "TemporalPredictor"])
def test_padding_is_zero_and_gets_no_gradient(name):
    module = MODULES[name]().double().eval()
    x = make_input().requires_grad_()
    made = module(x, MASK)
    assert made[~MASK].abs().sum() == 0
    made.square().sum().backward()
    assert x.grad[~MASK].abs().sum() == 0
    assert (x.grad[MASK].abs().sum(-1) > 0).all()


@torch.no_grad()
def test_a_predictor_sees_as_far_as_its_kernels():
    predictor = TemporalPredictor(4, 8, kernel_size=3, num_layers=2).double().eval()
    x = torch.randn(1, 15, 4, dtype=torch.float64)
    mask = torch.ones(1, 15, dtype=torch.bool)
    changed = x.clone()
    changed[0, 7] += 1
    seen = (predictor(x, mask) != predictor(changed, mask))[0].nonzero()[:, 0].tolist()
    assert seen == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("dim", [6, 7])
def test_positions_follow_the_formula(dim):
    code = sinusoids(5, dim)
    assert code.shape == (5, dim)
    half = dim // 2
    for t in range(5):
        for i in range(half):
            angle = t * 10000 ** (-i / half)
            assert code[t, i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert code[t, half + i] == pytest.approx(math.cos(angle), abs=1e-6)


@torch.no_grad()
def test_a_stack_knows_the_order():
    stack = FFTStack(1, FFTSizes(dim=8, num_heads=1, head_dim=8, filter_dim=8, kernel_size=1)).eval()
    x = torch.randn(1, 1, 8).expand(1, 6, 8)
    made = stack(x, torch.ones(1, 6, dtype=torch.bool))[0]
    assert (made[1:] - made[:1]).abs().sum(-1).min() > 1e-3
