"""The transformer of text: who sees whom, positions, kept keys and values; for any weights."""

import math

import pytest
import torch
from unisono.errors import RecipeError
from unisono.masked import block_causal
from unisono.masked.canvas import Layout
from unisono.verify import KVCache
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import TextTransformer, block_size_of

TOLERANCE = 2e-5


def make(attention: str = "bidirectional", **changes) -> TextTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = TransformerSizes(**{"dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0, **changes})
        net = TextTransformer(8, 7, sizes, attention)
        for parameter in net.parameters():  # larger than they begin, so that attention is not flat
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.4)
    return net.eval()


def tokens_of(b: int, t: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 8, (b, t), generator=torch.Generator().manual_seed(seed))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("attention", "reach"),
    [
        ("bidirectional", [5, 5, 5, 5, 5, 5]),
        ("causal", [0, 1, 2, 3, 4, 5]),
        ("block:2", [1, 1, 3, 3, 5, 5]),
        ("block:4", [3, 3, 3, 3, 5, 5]),
    ],
)
def test_a_token_is_seen_by_those_whom_attention_says(attention, reach):
    net, tokens = make(attention), tokens_of(1, 6)
    before = net(tokens)[0]
    for changed in range(6):
        other = tokens.clone()
        other[0, changed] = (other[0, changed] + 1) % 8
        moved = (net(other)[0] - before).abs().amax(-1) > TOLERANCE
        assert moved.tolist() == [changed <= last for last in reach]


@torch.no_grad()
@pytest.mark.parametrize("attention", ["bidirectional", "causal", "block:2"])
def test_a_mask_that_says_the_same_gives_the_same(attention):
    net, tokens = make(attention), tokens_of(2, 6)
    visible = net.visible(torch.arange(6))
    visible = torch.ones(1, 6, 6, dtype=torch.bool) if visible is None else visible
    assert close(net(tokens), net(tokens, visible.expand(2, 6, 6)))
    assert close(net(tokens), net(tokens, torch.ones(2, 6, dtype=torch.bool)))


def test_blocks_are_those_of_the_core():
    visible = make("block:2").visible(torch.arange(5))
    assert visible is not None and torch.equal(visible[0], block_causal(Layout.blocks(5, 2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("attention", ["bidirectional", "causal", "block:2"])
def test_padding_is_seen_by_nobody(attention):
    net, tokens = make(attention), tokens_of(2, 7)
    kept = torch.arange(7) < torch.tensor([[7], [4]])
    padded = net(tokens, kept)
    assert close(padded[0], net(tokens[:1])[0]) and close(padded[1, :4], net(tokens[1:, :4])[0])
    other = tokens.clone()
    other[1, 4:] = 0
    assert torch.equal(net(other, kept)[1, :4], padded[1, :4]) and padded.isfinite().all()


@torch.no_grad()
def test_only_the_distance_between_positions_counts():
    net, tokens = make(), tokens_of(2, 6)
    assert close(net(tokens), net(tokens, positions=torch.arange(6) + 40))
    assert not close(net(tokens), net(tokens, positions=2 * torch.arange(6)))


@torch.no_grad()
def test_what_was_kept_need_not_be_read_again():
    """A causal network's tokens one by one, in any portions, and with a part forgotten, are those of one pass."""
    net, tokens = make("causal"), tokens_of(2, 7)
    whole = net(tokens)
    for portions in ([1] * 7, [3, 1, 3], [7]):
        cache, made, at = KVCache(2), [], 0
        for size in portions:
            visible = torch.ones(size, size, dtype=torch.bool).tril().expand(2, size, size)
            positions = torch.arange(at, at + size).expand(2, size)
            made.append(net(tokens[:, at : at + size], cache.mask(visible), positions, cache))
            cache.advance(size)
            at += size
        assert close(torch.cat(made, 1), whole)
    cache.truncate(torch.tensor([2, 2]))
    one = torch.ones(2, 1, 1, dtype=torch.bool)
    assert close(net(tokens[:, 2:3], cache.mask(one), torch.full((2, 1), 2), cache)[:, 0], whole[:, 2])


@torch.no_grad()
def test_it_begins_with_an_even_guess_and_as_large_as_one_layer():
    torch.manual_seed(0)
    net = TextTransformer(101, 100, TransformerSizes(dim=64, num_layers=8, num_heads=4)).eval()
    tokens = torch.arange(50)[None]
    surprise = torch.nn.functional.cross_entropy(net(tokens)[0], tokens[0])
    assert abs(float(surprise) - math.log(100)) < 0.1
    assert float(net.layers[0].feed_out.weight.std()) == pytest.approx(0.02 / 4, rel=0.1)
    assert net.layers[0].feed_in.weight.shape == (2 * 192, 64)  # 8/3 of 64, to the next multiple of 32


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_runs_in_other_precisions(dtype):
    net, tokens = make("block:2"), tokens_of(2, 6)
    exact = net(tokens)
    made = net.to(dtype)(tokens)
    assert made.dtype == dtype
    assert float((made.float() - exact).abs().max()) < (1e-4 if dtype == torch.float64 else 0.3)


@torch.no_grad()
def test_states_and_vectors_in_place_of_logits_and_tokens():
    net, tokens = make(), tokens_of(1, 5)
    states = net(tokens, hidden=True)
    assert states.shape == (1, 5, 16) and torch.equal(net.head(states), net(tokens))
    assert torch.equal(net.trunk(net.embedding(tokens)), net(tokens))
    sizes = TransformerSizes(dim=16, num_layers=1, num_heads=2)
    assert TextTransformer(0, 7, sizes).embedding is None and TextTransformer(8, 0, sizes).head is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make(dim=18), RecipeError, "model.network.dim=18 must be a multiple of twice num_heads=2"),
        (lambda: make("block:0"), RecipeError, "attention='block:0' must be"),
        (lambda: make("sideways"), RecipeError, "attention='sideways' must be"),
        (lambda: make("causal")(tokens_of(1, 2), cache=KVCache(1)), ValueError, "what each token sees of all keys"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_names_of_attention():
    assert [block_size_of(name) for name in ("bidirectional", "causal", "block:12")] == [0, 1, 12]
