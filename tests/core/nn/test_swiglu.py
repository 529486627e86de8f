"""SwiGLU layer: against the equations, weights at first, and sizes that cannot be built."""

import pytest
import torch
from refused import refused
from unisono.errors import RecipeError
from unisono.nn.modules import Modules
from unisono.nn.swiglu import LayerSizes, SwiGLULayer, filter_dim_for, init_layers

DIM, HEADS = 8, 2


def layer(filter_dim: int = 0) -> SwiGLULayer:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        made = SwiGLULayer(DIM, HEADS, filter_dim, dropout=0.25).double()
        for weight in made.parameters():  # norms too
            torch.nn.init.normal_(weight, std=0.5)
        return made


def test_its_halves_are_the_equations():
    """RMSNorm: x / √(mean x² + ε) · w (arXiv:1910.07467); SwiGLU: (SiLU(xW) ⊙ xV) W₂ (arXiv:2002.05202, eq. 6)."""
    made, x = layer(5), torch.randn(2, 3, DIM, generator=torch.Generator().manual_seed(1)).double()
    eps = torch.finfo(torch.float64).eps
    unit = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    w, v = made.feed_in.weight[:5], made.feed_in.weight[5:]
    y = unit * made.feed_norm.weight
    a = y @ w.T
    torch.testing.assert_close(made.feed_forward(x), (a / (1 + (-a).exp()) * (y @ v.T)) @ made.feed_out.weight.T)
    parts = made.parts(x)
    rows = (unit * made.attention_norm.weight) @ made.qkv.weight.T
    for number, part in enumerate(parts):
        for head in range(HEADS):
            first = number * DIM + head * DIM // HEADS
            torch.testing.assert_close(part[:, head], rows[..., first : first + DIM // HEADS])
    assert [made.train().attention_dropout, made.eval().attention_dropout] == [0.25, 0.0]


def test_a_feed_forward_is_as_wide_as_given_or_eight_thirds():
    assert filter_dim_for(96, 7) == 7 and filter_dim_for(96) == 256 and filter_dim_for(97) == 288
    assert layer().feed_out.weight.shape == (DIM, 32)


def test_weights_begin_small_and_what_is_added_smaller():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        network = torch.nn.Module()
        network.table = torch.nn.Embedding(50, 128)
        network.layers = Modules(SwiGLULayer(128, 2) for _ in range(8))
        init_layers(network, network.layers)
    for weight, std in (
        (network.table.weight, 0.02),
        (network.layers[3].qkv.weight, 0.02),
        (network.layers[3].attention_out.weight, 0.005),
        (network.layers[7].feed_out.weight, 0.005),
    ):
        # The spread of n numbers varies by 1 / √(2n): five times that.
        assert weight.std().item() == pytest.approx(std, rel=5 / (2 * weight.numel()) ** 0.5)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [("dropout", 1.0, "range"), ("num_layers", 0, "range"), ("filter_dim", -1, "range"), ("dim", 6, "shape")],
)
def test_sizes_that_cannot_be_built_are_refused(field, value, code):
    with refused(RecipeError, code, f"model.network.{field}", value=value):
        LayerSizes(**{field: value})


def test_heads_that_turn_pairs_have_an_even_number_of_channels():
    class TurnedSizes(LayerSizes):
        head_multiple = 2

    assert LayerSizes(dim=12, num_heads=4).head_dim == 3 and TurnedSizes(dim=16, num_heads=4).head_dim == 4
    with refused(RecipeError, "shape", "model.network.dim", value=12):
        TurnedSizes(dim=12, num_heads=4)
