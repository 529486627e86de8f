"""Matcha's U-Net: its parts against closed forms, and an item alone against in a padded batch."""

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono_tts.matcha.blocks import MaskedGroupNorm, SnakeBeta, TransformerBlock
from unisono_tts.matcha.decoder import Decoder
from unisono_tts.matcha.sizes import FieldSizes, FlowObjective

LENGTHS = torch.tensor([13, 6, 1])
MASK = torch.arange(13) < LENGTHS[:, None]
SIZES = FieldSizes(channels=(8, 16, 8), head_dim=4, norm_groups=4, mid_levels=1)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def test_group_norm_is_torch_s_on_what_is_there():
    norm = MaskedGroupNorm(2, 6).double()
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 6, 13, dtype=torch.float64)
    normed = norm(x, MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        wanted = F.group_norm(x[row : row + 1, :, :length], 2, norm.weight, norm.bias)
        torch.testing.assert_close(normed[row : row + 1, :, :length], wanted, atol=1e-9, rtol=0)
        assert not normed[row, :, length:].any()


def test_snake_bends_as_published():
    snake = SnakeBeta(2).double()
    with torch.no_grad():
        snake.log_alpha.copy_(torch.tensor([0.5, -1.0]))
        snake.log_beta.copy_(torch.tensor([1.0, 0.25]))
    x = torch.randn(1, 5, 2, dtype=torch.float64)
    alpha, beta = torch.tensor([0.5, -1.0]).double().exp(), torch.tensor([1.0, 0.25]).double().exp()
    torch.testing.assert_close(snake(x), x + torch.sin(alpha * x) ** 2 / beta)


def test_attention_leaves_padding_out():
    block = TransformerBlock(8, 2, 4, 0.0)
    x = torch.randn(1, 6, 8)
    spoilt = x.clone()
    spoilt[:, 4:] = 50.0
    mask = torch.arange(6)[None] < 4
    torch.testing.assert_close(block(x, mask)[:, :4], block(spoilt, mask)[:, :4], atol=0, rtol=0)


@pytest.mark.parametrize("sizes", [SIZES, FieldSizes(channels=(8,), head_dim=4, norm_groups=8, mid_levels=0)])
def test_alone_is_in_a_batch_for_every_length(sizes):
    decoder = Decoder(5, 4, sizes).double().eval()
    x, condition = torch.randn(3, 13, 4).double(), torch.randn(3, 13, 5).double()
    time = torch.tensor([1.0, 0.3, 0.7]).double()
    together = decoder(x * MASK[..., None], time, condition, MASK)
    assert together.shape == (3, 13, 4) and not together[~MASK].any()
    for row, length in enumerate(LENGTHS.tolist()):
        one = slice(row, row + 1)
        alone = decoder(x[one, :length], time[one], condition[one, :length], MASK[one, :length])
        torch.testing.assert_close(together[one, :length], alone, atol=1e-10, rtol=0)
        more = F.pad(x[one, :length], (0, 0, 0, 40)), F.pad(condition[one, :length], (0, 0, 0, 40), value=9.0)
        inside = torch.arange(length + 40)[None] < length
        torch.testing.assert_close(decoder(more[0], time[one], more[1], inside)[:, :length], alone, atol=1e-10, rtol=0)


def test_the_field_reads_state_time_and_condition():
    decoder = Decoder(5, 4, SIZES).eval()
    x, condition, time = torch.randn(1, 13, 4), torch.randn(1, 13, 5), torch.tensor([0.4])
    plain = decoder(x, time, condition, MASK[:1])
    for changed in ((x + 0.1, time, condition), (x, time + 0.1, condition), (x, time, condition + 0.1)):
        assert (decoder(*changed, MASK[:1]) - plain).abs().max() > 1e-4


def test_a_frame_is_seen_from_the_whole_item():
    decoder = Decoder(5, 4, SIZES).eval()
    x = torch.randn(1, 13, 4, requires_grad=True)
    decoder(x, torch.tensor([0.4]), torch.randn(1, 13, 5), MASK[:1])[0, 0].sum().backward()
    assert x.grad is not None and (x.grad[0].abs().sum(-1) > 0).all()


def test_the_published_field_has_the_published_size():
    """Residual blocks, attention and feed-forward of six levels, and what is between them, summed by hand."""
    decoder = Decoder(80, 80, FieldSizes())

    levels = [(160, 256), (256, 256), (256, 256), (256, 256), (512, 256), (512, 256)]
    transformer = 3 * 256 * 128 + 128 * 256 + 256 + 2 * 2 * 256 + 256 * 1024 + 1024 + 2 * 1024 + 1024 * 256 + 256
    residual = sum(3 * a * b + b + 2 * b + 3 * b * b + b + 2 * b + a * b + b + 1024 * b + b for a, b in levels)
    between = 3 * (3 * 256 * 256 + 256) + 4 * 256 * 256 + 256
    ends = (160 * 1024 + 1024) + (1024 * 1024 + 1024) + (3 * 256 * 256 + 256 + 512) + (256 * 80 + 80)
    total = residual + len(levels) * transformer + between + ends
    assert sum(p.numel() for p in decoder.parameters()) == total
    assert 10e6 < total < 11.5e6


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: FieldSizes(channels=()), "empty"),
        (lambda: FieldSizes(channels=(12,)), "shape"),
        (lambda: FlowObjective(sigma_min=1.0), "range"),
        (lambda: FlowObjective(crop_frames=0), "range"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, code):
    with refused(RecipeError, code):
        make()
