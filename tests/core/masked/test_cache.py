"""Caches against recomputing, with a small transformer that can keep keys and values.

The network is float64 and random; what is tested holds for any weights: an exact cache gives the tokens of
no cache, its marginals to rounding, and fewer positions; an approximate one says so and reports its drift.
"""

from dataclasses import replace

import pytest
import torch
import unisono.masked as um
from refused import refused
from torch import nn
from unisono.errors import UnisonoError
from unisono.masked import Cached, Canvas, Layout, decode
from unisono.masked.run.cache import Recompute

L, V, D, LAYERS = 12, 5, 16, 2
BLOCKS = Layout.blocks(L, 4, V)


class Transformer(nn.Module):
    """Two layers of attention over [computed ∪ kept]; who sees whom is `sight`.

    full   everyone sees everyone
    block  a position sees its own block and those before it
    age    a token sees tokens no younger than itself (of one step: each other); a mask sees tokens and itself
    """

    def __init__(self, sight, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weight(*shape):
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.double) / shape[-2] ** 0.5)

        self.sight = sight
        self.token, self.place = weight(V + 1, D), weight(64, D)
        self.qkv = nn.ParameterList([weight(D, 3 * D) for _ in range(LAYERS)])
        self.mix = nn.ParameterList([weight(D, D) for _ in range(LAYERS)])
        self.out = weight(D, V)

    def empty(self, batch, length, device):
        return torch.zeros(batch, length, LAYERS, 2, D, dtype=torch.double, device=device)

    def sees(self, part, memory):
        """[b, k, l + k]: which kept and which computed positions each computed one attends to."""
        group = part.layout.group
        there = torch.arange(memory.valid.shape[1])[None]
        if self.sight == "block":
            own = group[part.sites][..., None]
            kept, fresh = group[there][:, None] <= own, group[part.sites][:, None] <= own
        elif self.sight == "age":
            young = torch.where(part.known, part.age, 1 << 40)[..., None]
            kept = memory.age[:, None] <= young
            same = torch.eye(part.sites.shape[1], dtype=torch.bool)
            fresh = (part.age[:, None] <= young) & part.known[:, None] | same
        else:
            kept = torch.ones(1, 1, 1, dtype=torch.bool)
            fresh = kept
        k = part.sites.shape[1]
        kept = kept.expand(len(part.sites), k, -1) & memory.valid[:, None]
        fresh = fresh.expand(len(part.sites), k, k) & part.live[:, None]
        return torch.cat([kept, fresh], 2)

    def forward(self, part, memory):
        x = self.token[torch.where(part.known, part.tokens, V)] + self.place[part.sites]
        sees, made = self.sees(part, memory), []
        for layer in range(LAYERS):
            q, k, v = (x @ self.qkv[layer]).chunk(3, -1)
            made.append(torch.stack([k, v], 2))
            k = torch.cat([memory.kv[:, :, layer, 0], k], 1)
            v = torch.cat([memory.kv[:, :, layer, 1], v], 1)
            score = (q @ k.mT / D**0.5).masked_fill(~sees, -torch.inf)
            x = x + torch.tanh(score.softmax(-1).nan_to_num(0) @ v @ self.mix[layer])
        return 3 * x @ self.out, torch.stack(made, 2)

    def rows(self, index):
        return self


def prompted(rows=3, layout=BLOCKS):
    canvas = Canvas.blank(layout, list(range(rows)), [L, L, L - 3][:rows])
    where = torch.zeros(L, dtype=torch.bool)
    where[[0, 1]] = True
    return canvas.freeze(torch.full((L,), 2), where)


def both(sight, policy, strategy, canvas=None):
    canvas = prompted() if canvas is None else canvas
    network = Transformer(sight)
    plain, cached = Cached(network, Recompute()), Cached(network, policy)
    return decode(plain, canvas, strategy), decode(cached, canvas, strategy), cached


EXACT = {
    "prefix, LLaDA": ("block", um.PrefixExact(), um.llada(2, 1.0)),
    "prefix, block diffusion": ("block", um.PrefixExact(), um.block_diffusion(3)),
    "prefix, threshold": ("block", um.PrefixExact(), um.fast_dllm(0.5)),
    "queries, ARPG": ("age", um.QueryOnly(), um.arpg(4)),
    "queries, random order": ("age", um.QueryOnly(), um.random_order(3)),
}


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_cache_is_no_cache(name):
    sight, policy, strategy = EXACT[name]
    plain, cached, model = both(sight, policy, strategy)
    assert model.exact
    assert torch.equal(plain.tokens, cached.tokens) and torch.equal(plain.age, cached.age)
    assert cached.nfe == plain.nfe and cached.positions < plain.positions
    audit = um.Audit(Cached(Transformer(sight), policy))
    assert torch.equal(decode(audit, prompted(), strategy).tokens, plain.tokens)
    assert len(audit.drift) == plain.nfe and max(audit.drift) < 1e-12


@pytest.mark.parametrize(("policy", "sight"), [(um.PrefixExact(), "full"), (um.QueryOnly(), "full")])
def test_the_wrong_attention_is_found_out(policy, sight):
    """Power: an exact policy under attention that does not fit drifts."""
    audit = um.Audit(Cached(Transformer(sight), policy))
    decode(audit, prompted(), um.llada(2, 1.0))
    assert max(audit.drift) > 1e-3


@pytest.mark.parametrize(
    "policy", [um.FrozenPerBlock(), um.FrozenPerBlock(dual=True), um.Delayed(refresh=4), um.FreeCache()], ids=repr
)
def test_an_approximate_cache_says_so_and_reports_its_drift(policy):
    plain, cached, model = both("full", policy, um.llada(4, 1.0))
    assert not model.exact and cached.positions < plain.positions
    assert cached.canvas.known.all() and cached.nfe == plain.nfe
    audit = um.Audit(Cached(Transformer("full"), policy))
    decode(audit, prompted(), um.llada(4, 1.0))
    assert audit.drift[0] < 1e-12  # nothing is stale in the first call
    assert max(audit.drift) > 1e-6


def test_a_delayed_cache_that_refreshes_in_every_step_is_exact():
    plain, cached, _ = both("full", um.Delayed(refresh=1), um.llada(4, 1.0))
    assert torch.equal(plain.tokens, cached.tokens) and cached.positions == plain.positions


def test_frozen_per_block_is_exact_where_a_block_takes_one_step():
    plain, cached, _ = both("full", um.FrozenPerBlock(), um.llada(1, 1.0))
    assert torch.equal(plain.tokens, cached.tokens)


@pytest.mark.parametrize("name", EXACT)
def test_caches_in_a_shrinking_batch(name):
    sight, policy, strategy = EXACT[name]
    plain, _, _ = both(sight, policy, strategy)
    packed = decode(Cached(Transformer(sight), policy), prompted(), strategy, executor=um.Compact())
    assert torch.equal(packed.tokens, plain.tokens)


def test_a_cache_forgets_the_canvas_before():
    model = Cached(Transformer("block"), um.PrefixExact())
    first = decode(model, prompted(), um.llada(2, 1.0))
    other = Canvas.blank(BLOCKS, [7, 8, 9])
    decode(model, other, um.llada(2, 1.0))
    assert torch.equal(decode(model, prompted(), um.llada(2, 1.0)).tokens, first.tokens)


def test_tokens_that_change_are_computed_anew():
    """An edit makes what was kept of a token stale; the cache notices by the token's age."""
    strategy = um.block_diffusion(4, edit=0.4)
    plain, cached, _ = both("block", um.FrozenPerBlock(), strategy)
    assert cached.canvas.known.all()
    reference = Cached(Transformer("block"), Recompute())
    assert torch.equal(decode(reference, prompted(), strategy).tokens, plain.tokens)


def test_what_was_not_computed_is_no_answer():
    """A strategy that opens every block at once must not read logits that a prefix cache did not compute."""
    strategy = um.Strategy(um.Plan(um.Fixed(2), grouped=False), um.MaxProb())
    with refused(UnisonoError, "value", "logits", value=0):
        decode(Cached(Transformer("block"), um.PrefixExact()), prompted(), strategy)


def test_nothing_changed_costs_nothing():
    calls = []

    def model(tokens, known, query):
        calls.append(1)
        return torch.sin(torch.arange(L * V).view(L, V) + 2.0 * known.sum(1)[:, None, None])

    canvas = Canvas.blank(Layout.sequence(L, V), [3])
    plain = decode(model, canvas, um.mdlm(200))
    before = len(calls)
    again = decode(um.ReuseUnchanged(model), canvas, um.mdlm(200))
    assert torch.equal(again.tokens, plain.tokens)
    assert again.nfe == len(calls) - before <= L < plain.nfe


def test_a_token_that_is_exchanged_later_is_computed_anew():
    """Kept with the age at which it was read: another token of a later age is not what the memory holds."""
    cached, first = Cached(Transformer("full"), um.Delayed(refresh=100)), torch.arange(L)[None] == 0
    canvas = Canvas.blank(Layout.sequence(L, V), [1])
    canvas = canvas.commit(first, torch.ones_like(canvas.tokens))
    for computed in (L, L - 1):  # read once, then kept
        cached.attend(canvas, None)
        assert cached.computed == computed
    later = replace(canvas, step=canvas.step + 3).commit(first, torch.full_like(canvas.tokens, 2))
    logits = cached.attend(later, None)
    assert cached.computed == L
    torch.testing.assert_close(logits, Cached(Transformer("full"), Recompute()).attend(later, None))
