"""Conformer: its parts against loops over positions, channels and heads; padding; a block from its parts."""

import math

import pytest
import torch
from unisono.nn.conformer import ConformerBlock, ConformerParts, GatedConvolution
from unisono.nn.rotary import rotation

DIM, HEADS, LENGTHS = 8, 2, torch.tensor([7, 4])
MASK = torch.arange(7) < LENGTHS[:, None]


@pytest.fixture
def block():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        made = ConformerBlock(dim=DIM, num_heads=HEADS, filter_dim=12, kernel_size=3, dropout=0.3).double().eval()
        for weight in made.parameters():  # norms too
            torch.nn.init.normal_(weight, std=0.4)
        return made


def drawn(seed: int = 1) -> torch.Tensor:
    return torch.randn(2, 7, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_gated_convolution_is_its_loop_and_reads_no_padding(block):
    part, x = block.convolution, drawn()
    found = part(x, MASK)
    value, gate = part.inside(part.norm(x)).chunk(2, -1)
    near = value * torch.sigmoid(gate)
    for row, length in enumerate(LENGTHS.tolist()):
        for t in range(length):
            heard = part.depthwise.bias.clone()
            for channel in range(DIM):
                for k in range(3):
                    if 0 <= (at := t + k - 1) < length:
                        heard[channel] += part.depthwise.weight[channel, 0, k] * near[row, at, channel]
            y = part.depthwise_norm(heard)
            torch.testing.assert_close(found[row, t], part.out(y * torch.sigmoid(y)))


def test_attention_is_its_loop_over_what_is_kept_and_turns_by_distance(block):
    """A head's pairs of channels (i, i + c/2) turn by 10000^(−2i/c) a position (arXiv:2104.09864, eq. 34)."""
    x, c = drawn(), DIM // HEADS
    found = block.attend(x, MASK) - x
    q, k, v = block.qkv(block.attention_norm(x)).chunk(3, -1)
    for row, length in enumerate(LENGTHS.tolist()):
        for t in range(length):
            seen = []
            for head in range(HEADS):
                own = slice(head * c, (head + 1) * c)
                score = []
                for s in range(length):
                    total = 0.0
                    for i in range(c // 2):
                        angle = (t - s) * 10000 ** (-2 * i / c)
                        (a, b), (d, e) = ((part[i], part[i + c // 2]) for part in (q[row, t, own], k[row, s, own]))
                        total += (a * d + b * e) * math.cos(angle) + (a * e - b * d) * math.sin(angle)
                    score.append(total / math.sqrt(c))
                weight = torch.stack(score).softmax(0)
                seen.append(sum(weight[s] * v[row, s, own] for s in range(length)))
            # angles are kept in float32
            torch.testing.assert_close(found[row, t], block.attention_out(torch.cat(seen)), atol=1e-5, rtol=1e-5)


def test_a_block_is_its_parts_and_no_padding_is_seen(block):
    x = drawn()
    y = x + 0.5 * block.before(x)
    y = block.attend(y, MASK)
    y = y + block.convolution(y, MASK)
    whole = block.norm(y + 0.5 * block.after(y))
    torch.testing.assert_close(block(x, MASK), whole, atol=0, rtol=0)
    torch.testing.assert_close(block(x, MASK, rotation(torch.arange(7), DIM // HEADS)), whole, atol=0, rtol=0)
    other = torch.where(MASK[..., None], x, drawn(2))
    torch.testing.assert_close(block(other, MASK)[MASK], whole[MASK], atol=1e-12, rtol=1e-12)
    later = rotation(torch.arange(5, 12), DIM // HEADS)  # only distances count; angles are kept in float32
    torch.testing.assert_close(block(x, MASK, later)[MASK], whole[MASK], atol=1e-5, rtol=1e-5)


def test_a_subclass_may_have_a_convolution_of_its_own():
    class Without(ConformerParts):
        def make_convolution(self, dim, kernel_size, dropout):
            self.near = GatedConvolution(dim, kernel_size, dropout)

        def convolve(self, x, mask):
            return x + 2 * self.near(x, mask)

    made = Without(dim=DIM, num_heads=HEADS, filter_dim=12, kernel_size=3, dropout=0.0).eval()
    names = {name.split(".")[0] for name in made.state_dict()}
    assert "near" in names and "convolution" not in names
    x = drawn().float()
    before = made.attend(x + 0.5 * made.before(x), MASK)
    torch.testing.assert_close(made.mixed(x, MASK), before + 2 * made.near(before, MASK))
