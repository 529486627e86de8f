"""Relative attention: against loops, shifts, and alone against in a padded batch."""

import math

import pytest
import torch
from refused import refused
from unisono.errors import UnisonoError
from unisono.nn.relative import RelativeAttention, RelativeBlock, RelativeSizes

LENGTHS = torch.tensor([11, 7, 1, 2])
MASK = torch.arange(11) < LENGTHS[:, None]
TOLERANCE = dict(atol=1e-12, rtol=0)
"""Double precision; sums of at most a hundred terms of order 1."""


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def padded(dim: int, garbage: float = 1e3) -> torch.Tensor:
    x = torch.randn(4, 11, dim, dtype=torch.float64)
    return torch.where(MASK[..., None], x, garbage)


def looped(layer: RelativeAttention, x: torch.Tensor) -> torch.Tensor:
    """One item [t, d], as equations 3 and 4 of Shaw et al. read, with nothing beyond the window."""
    size, window = x.shape[1] // layer.num_heads, len(layer.key_table) // 2
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, dim=-1)
    heads = []
    for h in range(layer.num_heads):
        own, rows = slice(h * size, (h + 1) * size), []
        for t in range(len(x)):
            scores = []
            for u in range(len(x)):
                near = abs(u - t) <= window
                key = k[u, own] + (layer.key_table[window + u - t] if near else 0)
                scores.append(q[t, own] @ key / math.sqrt(size))
            weights = torch.stack(scores).softmax(0)
            row = torch.zeros(size, dtype=x.dtype)
            for u in range(len(x)):
                near = abs(u - t) <= window
                row = row + weights[u] * (v[u, own] + (layer.value_table[window + u - t] if near else 0))
            rows.append(row)
        heads.append(torch.stack(rows))
    return torch.cat(heads, -1) @ layer.out.weight.T + layer.out.bias


@pytest.mark.parametrize("window", [0, 2, 4, 20])
def test_attention_is_the_papers(window):
    layer = RelativeAttention(12, 3, window).double().eval()
    x = padded(12)
    seen = layer(x, MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(seen[row, :length], looped(layer, x[row, :length]), **TOLERANCE)


def test_without_padding_no_mask_is_needed():
    layer, x = RelativeAttention(8, 2, 3).double().eval(), torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x, None), layer(x, torch.ones(2, 6, dtype=torch.bool)), **TOLERANCE)


def test_only_distances_matter():
    layer = RelativeAttention(8, 2, 2).double().eval()
    tiled = torch.randn(1, 1, 8, dtype=torch.float64).expand(1, 15, 8)
    seen = layer(tiled, None)[0, 2:-2]
    torch.testing.assert_close(seen, seen[:1].expand_as(seen), **TOLERANCE)
    assert not torch.allclose(layer(tiled, None)[0, 0], seen[0]), "the edge has no neighbours on one side"


def test_a_block_alone_is_that_in_a_batch():
    block = RelativeBlock(RelativeSizes(dim=12, num_heads=2, filter_dim=20, window=2)).double().eval()
    x = padded(12)
    together = block(x, MASK)
    assert not together[~MASK].any()
    for row, length in enumerate(LENGTHS.tolist()):
        alone = block(x[row : row + 1, :length], None)
        torch.testing.assert_close(together[row : row + 1, :length], alone, **TOLERANCE)


def test_every_parameter_gets_a_gradient():
    block = RelativeBlock(RelativeSizes(dim=12, num_heads=2, filter_dim=20, window=2)).double()
    block(padded(12), MASK).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


def test_autocast_stays_finite_and_near():
    block = RelativeBlock(RelativeSizes(dim=12, num_heads=2, filter_dim=20, window=2)).eval()
    x = padded(12).float()
    with torch.autocast("cpu", torch.bfloat16):
        half = block(x, MASK)
    torch.testing.assert_close(half.float(), block(x, MASK), atol=0.1, rtol=0)  # 8 bits of mantissa, LayerNormed


@pytest.mark.parametrize(
    ("field", "value", "code"), [("num_heads", 5, "range"), ("window", -1, "range"), ("kernel_size", 4, "value")]
)
def test_sizes_that_do_not_fit_are_refused(field, value, code):
    with refused(UnisonoError, code, field, value=value):
        RelativeSizes(**{field: value})
