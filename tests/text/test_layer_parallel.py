"""A draft of fuzzy layers: what it computes, that its cache is made exact again, and that no token changes."""

import pytest
import torch
from refused import refused
from unisono.errors import UnisonoError
from unisono.verify import KVCache, autoregressive, coupled_speculative, decode
from unisono_text.lossless.layer_parallel import FuzzyNetwork, LayerParallelDraft, layer_parallel
from unisono_text.lossless.networks import CausalNetwork
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import TextTransformer

V = 11


def net(seed, layers=4, dim=32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = TransformerSizes(dim=dim, num_layers=layers, num_heads=2, filter_dim=48, dropout=0.0)
        made = TextTransformer(V + 1, V, sizes, "causal").double().eval()
        for parameter in made.parameters():
            parameter.data.mul_(4) if parameter.dim() > 1 else None
    return made


@pytest.fixture(scope="module")
def nets():
    target, draft = net(0), net(0)
    generator = torch.Generator().manual_seed(1)
    for parameter in draft.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return target, draft


@torch.no_grad()
def test_the_layers_of_a_group_read_one_input(nets):
    tokens = torch.tensor([[V, 1, 2, 3]])
    positions, visible = torch.arange(4)[None], torch.ones(1, 4, 4, dtype=torch.bool).tril()
    given = tokens, positions, visible, None
    exact = CausalNetwork(nets[0])(*given)
    torch.testing.assert_close(FuzzyNetwork(nets[0], 1)(*given), exact, rtol=0, atol=1e-12)
    fuzzy = FuzzyNetwork(nets[0], 2)(*given)
    assert float((fuzzy - exact).abs().max()) > 1e-3
    # By hand: the second layer of a pair is a layer whose attention is deaf to what the first has added.
    x, first = nets[0].embedding(tokens), nets[0].layers[0]
    from unisono.nn.rotary import rotation

    places = rotation(positions, nets[0].head_dim, nets[0].rope_base, x.device)
    for start in (0, 2):
        first, second = nets[0].layers[start : start + 2]
        after = first(x, places, visible[:, None], False, None, start)
        after = after + second.attend_to(x, places, visible[:, None], False, None, start + 1)
        x = after + second.feed_forward(after)
    torch.testing.assert_close(fuzzy, nets[0].head(nets[0].norm(x)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_token_changes_whatever_the_layers_read(nets, temperature):
    target, draft = nets
    prompt, lengths = torch.tensor([[V, 1, 2], [V, 5, 0]]), torch.tensor([3, 2])
    given = dict(seeds=[3, 4], lengths=lengths, temperature=temperature, end=0, cache=KVCache)
    plain = decode(CausalNetwork(target), prompt, autoregressive(), 40, **given)
    for group in (1, 2, 3, 4):
        out = decode(CausalNetwork(target), prompt, layer_parallel(draft, 4, group), 40, **given)
        assert torch.equal(out.tokens, plain.tokens) and out.lossless


def test_exact_layers_draft_what_a_coupled_draft_does(nets):
    target, draft = nets
    prompt = torch.tensor([[V, 1, 2]] * 4)
    given = dict(seeds=range(4), temperature=1.0, cache=KVCache)
    coupled = decode(CausalNetwork(target), prompt, coupled_speculative(CausalNetwork(draft), 4, KVCache), 60, **given)
    exact = decode(CausalNetwork(target), prompt, layer_parallel(draft, 4, 1), 60, **given)
    assert torch.equal(exact.accepted, coupled.accepted) and exact.nfe == coupled.nfe
    fuzzy = decode(CausalNetwork(target), prompt, layer_parallel(draft, 4, 2), 60, **given)
    assert 0 < int(fuzzy.accepted.sum()) < int(exact.accepted.sum())


def test_what_was_committed_is_in_the_cache_as_the_exact_network_computes_it(nets):
    """After each round's first evaluation: keys of a fresh pass over the prefix."""
    target, draft = nets
    checked = []

    class Looks(CausalNetwork):
        def __call__(self, tokens, positions, visible, cache):
            out = super().__call__(tokens, positions, visible, cache)
            length = int(cache.length) + tokens.shape[1]
            fresh, prefix = KVCache(1), torch.tensor([whole[:length]])
            seen = torch.ones(1, length, length, dtype=torch.bool).tril()
            CausalNetwork(draft)(prefix, torch.arange(length)[None], seen, fresh)
            for layer, pair in fresh.layers.items():
                for kept, anew in zip(cache.layers[layer], pair, strict=True):
                    torch.testing.assert_close(kept[:, :, :length], anew[:, :, :length], rtol=0, atol=1e-9)
            checked.append(length)
            return out

    plain = decode(CausalNetwork(target), torch.tensor([[V, 1, 2]]), autoregressive(), 30, seeds=[5], temperature=1.0)
    whole = plain.tokens[0].tolist()
    method = layer_parallel(draft, 4, 2)
    draft_of = LayerParallelDraft(Looks(draft), method.propose.fuzzy, 4)
    from dataclasses import replace

    decode(
        CausalNetwork(target),
        torch.tensor([[V, 1, 2]]),
        replace(method, propose=draft_of),
        30,
        seeds=[5],
        temperature=1.0,
    )
    assert len(checked) > 5


def test_wrong_numbers_are_refused(nets):
    with refused(UnisonoError, "range", "group", value=0, names="0"):
        layer_parallel(nets[1], group=0)
    with refused(UnisonoError, "range", "num_draft", value=0, names="0"):
        layer_parallel(nets[1], 0)
