"""Building blocks: against loops, and alone against in a padded batch."""

import math

import pytest
import torch
from torch.nn import functional as F
from unisono.nn.attention import attend, split_heads, split_parts
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.fft import FFTBlock, FFTSizes, FFTStack, sinusoids
from unisono.nn.rotary import rotate, rotation
from unisono.nn.temporal import TemporalPredictor
from unisono.nn.transformer import Block

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


# ---- attention ---------------------------------------------------------------------------------


def looped_attention(q, k, v, mask) -> torch.Tensor:
    """One item and one head: q [q, c], k and v [k, c], mask [q, k]."""
    rows = []
    for i in range(len(q)):
        weights = [math.exp(float(q[i] @ k[j]) / math.sqrt(q.shape[1])) if mask[i, j] else 0.0 for j in range(len(k))]
        rows.append(sum(w * v[j] for j, w in enumerate(weights)) / sum(weights))
    return torch.stack(rows)


@pytest.mark.parametrize("shared", [1, 2])
def test_attention_equals_loops(shared):
    """Two items, four heads of queries; keys have as many heads or half of them, heads 0 and 1 then share one."""
    q, k, v = torch.randn(2, 3, 20), torch.randn(2, 5, 20 // shared), torch.randn(2, 5, 20 // shared)
    mask = torch.rand(2, 3, 5) < 0.7
    mask[:, :, 0] = True
    heads = 4 // shared
    made = attend(split_heads(q, 4), split_heads(k, heads), split_heads(v, heads), mask[:, None])
    for item in range(2):
        for head in range(4):
            own, theirs = slice(5 * head, 5 * head + 5), slice(5 * (head // shared), 5 * (head // shared) + 5)
            expected = looped_attention(q[item, :, own], k[item, :, theirs], v[item, :, theirs], mask[item])
            torch.testing.assert_close(made[item, :, own], expected, atol=1e-5, rtol=0)


def test_causal_attention_sees_nothing_behind():
    q, k, v = (torch.randn(1, 2, 4, 3) for _ in range(3))
    later = torch.ones(4, 4).tril().bool()
    torch.testing.assert_close(attend(q, k, v, causal=True), attend(q, k, v, later))


def test_dropout_drops_weights_of_attention():
    """With all values 1, weights that are dropped show: the sum is 0, 1 / (1 − p) or between, and never 1 alone."""
    q, k, v = torch.zeros(1, 1, 50, 4), torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert torch.allclose(attend(q, k, v), torch.ones(1, 50, 4))
    sums = {round(float(x), 4) for x in attend(q, k, v, dropout=0.5)[0, :, 0]}
    assert sums <= {0.0, 0.5, 1.0, 1.5, 2.0} and len(sums) > 2


def test_parts_and_heads_lie_as_the_weights_have_them():
    x = torch.arange(2 * 3 * 2 * 5.0).reshape(1, 2, 30)
    parts = split_parts(x, num_heads=2)
    for part in range(3):
        for head in range(2):
            first = part * 10 + head * 5
            assert torch.equal(parts[part, :, head], x[..., first : first + 5])
    assert torch.equal(parts[1], split_heads(x[..., 10:20], 2))


@torch.no_grad()
def test_a_block_with_a_memory_equals_loops():
    block = Block(10, 2, dropout=0.5, cross=True).double().eval()
    memory = torch.randn(4, 5, 10, dtype=torch.float64)
    memory_mask = torch.arange(5) < torch.tensor([5, 3, 1, 2])[:, None]
    made = block(make_input(), MASK, memory, memory_mask)

    def seen(q, k, v):
        everything = torch.ones(len(q), len(k), dtype=torch.bool)
        halves = (slice(0, 5), slice(5, 10))
        return torch.cat([looped_attention(q[:, own], k[:, own], v[:, own], everything) for own in halves], -1)

    for row, x, length, kept, words in zip(made, make_input(), LENGTHS, memory, memory_mask.sum(1), strict=True):
        x = x[:length]
        x = x + block.self_out(seen(*block.qkv(block.self_norm(x)).chunk(3, -1)))
        k, v = block.cross_kv(kept[:words]).chunk(2, -1)
        x = x + block.cross_out(seen(block.cross_q(block.cross_norm(x)), k, v))
        x = x + block.feed_out(F.gelu(block.feed_in(block.feed_norm(x))))
        torch.testing.assert_close(row[:length], x, **TOLERANCE)


# ---- rotary positions --------------------------------------------------------------------------


def test_a_rotation_is_the_textbooks():
    x = torch.randn(1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    for base in (10000.0, 100.0):
        turned = rotate(x, rotation(torch.tensor([0, 3]), 4, base))
        assert torch.equal(turned[..., 0, :], x[..., 0, :])
        for channel, rate in ((0, 1.0), (1, base**-0.5)):  # base^(−2i/d)
            a, b = float(x[0, 0, 1, channel]), float(x[0, 0, 1, channel + 2])
            cos, sin = math.cos(3 * rate), math.sin(3 * rate)
            expected = [a * cos - b * sin, b * cos + a * sin]
            assert turned[0, 0, 1, [channel, channel + 2]].tolist() == pytest.approx(expected, abs=1e-6)


def test_rotated_products_depend_on_distance_alone():
    q, k = (torch.randn(1, 1, 1, 8).expand(1, 1, 30, 8) for _ in range(2))
    places = rotation(torch.arange(30), 8)
    products = (rotate(q, places) @ rotate(k, places).mT)[0, 0]
    for distance in (-4, 0, 7):
        line = products.diagonal(distance)
        assert torch.allclose(line, line[:1], atol=1e-4)
    assert torch.allclose(rotate(q, places).norm(dim=-1), q.norm(dim=-1), atol=1e-5)


def test_positions_may_differ_by_row_and_be_taken_in_parts():
    x = torch.randn(2, 3, 4, 6)
    rows = torch.tensor([[0, 1, 2, 3], [7, 5, 9, 1]])
    together = rotate(x, rotation(rows, 6))
    for row in range(2):
        places = rotation(rows[row], 6)
        assert torch.equal(together[row], rotate(x[row : row + 1], places)[0])
        assert torch.equal(together[row, :, 1:3], rotate(x[row : row + 1, :, 1:3], places.part(1, 3))[0])


def test_half_precision_is_turned_in_float32():
    x = torch.randn(1, 1, 50, 8)
    places = rotation(torch.arange(50) + 3000, 8)
    half = rotate(x.bfloat16(), places)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, rotate(x.bfloat16().float(), places).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rotate(x, places), rotate(x, places)) and rotate(x, places).dtype == torch.float32
