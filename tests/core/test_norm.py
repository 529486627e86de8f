"""Masked instance normalisation against torch's, item by item."""

import pytest
import torch
from torch.nn import functional as F
from unisono.nn.norm import AdaptiveInstanceNorm, MaskedInstanceNorm

LENGTHS = (7, 3, 1)


def batch(*rest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps of three lengths whose padding is loud, and their mask."""
    torch.manual_seed(1)
    x = torch.randn(3, 4, max(LENGTHS), *rest) * 3 + 2
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    for row, length in enumerate(LENGTHS):
        x[row, :, length:] = 1e4
    return x, mask


@pytest.mark.parametrize("rest", [(), (5,), (2, 3)])
def test_equals_torch_on_each_item_alone(rest):
    x, mask = batch(*rest)
    norm = MaskedInstanceNorm(4)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    result = norm(x, mask)
    for row, length in enumerate(LENGTHS):
        alone = x[row : row + 1, :, :length]
        if alone[0, 0].numel() > 1:
            expected = F.instance_norm(alone, weight=norm.weight, bias=norm.bias)
            torch.testing.assert_close(result[row : row + 1, :, :length], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(norm(alone), result[row : row + 1, :, :length], atol=1e-5, rtol=1e-5)
        assert not result[row, :, length:].any()


def test_a_single_place_gives_the_shift():
    norm = MaskedInstanceNorm(4)
    torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.full((1, 4, 1), 9.0))[0, :, 0], norm.bias.detach())


def test_an_item_of_no_valid_place_gives_zeros():
    result = MaskedInstanceNorm(4)(torch.ones(2, 4, 3), torch.zeros(2, 3, dtype=torch.bool))
    assert result.isfinite().all() and not result.any()


@pytest.mark.parametrize("rest", [(), (5,)])
def test_adaptive_with_zero_affine_is_the_plain_one(rest):
    x, mask = batch(*rest)
    adaptive = AdaptiveInstanceNorm(4, 6, zero=True)
    plain = MaskedInstanceNorm(4, affine=False)
    torch.testing.assert_close(adaptive(x, torch.randn(3, 6), mask), plain(x, mask))


def test_adaptive_scales_and_shifts_each_channel_by_its_style():
    x, mask = batch()
    norm = AdaptiveInstanceNorm(4, 6)
    style = torch.randn(3, 6)
    scale, shift = norm.affine(style).chunk(2, dim=1)
    plain = MaskedInstanceNorm(4, affine=False)(x, mask)
    expected = (plain * (1 + scale[..., None]) + shift[..., None]) * mask[:, None]
    torch.testing.assert_close(norm(x, style, mask), expected)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_statistics_in_float32(kind):
    x = torch.randn(2, 3, 50) + 100
    half = MaskedInstanceNorm(3, affine=False)(x.to(kind))
    exact = MaskedInstanceNorm(3, affine=False)(x.to(kind).float())
    assert half.dtype == kind
    torch.testing.assert_close(half.float(), exact, atol=0.02, rtol=0.02)


def test_gradients_reach_valid_places_only():
    x, mask = batch()
    x.requires_grad_(True)
    MaskedInstanceNorm(4)(x, mask).square().sum().backward()
    gradient = x.grad
    assert gradient is not None and gradient[0].any()
    assert not gradient.transpose(1, 2)[~mask].any()
