"""Drafts in one call: tokens of plain decoding or its law, one call a round, masks that leave nothing behind."""

import itertools
from dataclasses import replace

import flat
import pytest
import torch
from refused import refused
from unisono.errors import RecipeError, RequestError, UnisonoError
from unisono.masked import random
from unisono.verify import Draw, KVCache, Matching, Prefix, Rejection, autoregressive, decode, rounds
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.decoding import generate
from unisono_text.lossless.mask_chains import ChainSpec
from unisono_text.lossless.mask_draft import MaskDraft, parallel_draft
from unisono_text.lossless.parallel_spec import ParallelSpec, WithStates
from unisono_text.lossless.pard import PARD
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)
PROMPTS = torch.tensor([[1, 7, 9, 4, 5, 11], [1, 3, 8, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
LENGTHS, LIMIT = torch.tensor([6, 3, 1]), 26


def fresh(kind, facts, seed, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = flat.make(kind, **arguments)
        model.build(facts)
    return model.eval()


@pytest.fixture(scope="module")
def facts():
    data = ToyData(num_items=24, context=40, batch_size=8)
    data.prepare(progress=False)
    return data.describe()


@pytest.fixture(scope="module")
def models(facts):
    """A target with an opinion; a draft that reads masks and agrees with it now and then; one on its states."""
    target = fresh(Autoregressive, facts, 0, **SIZES)
    with torch.no_grad():
        target.net.head.weight.mul_(20)
    draft = fresh(PARD, facts, 1, **SIZES, chain=ChainSpec(num_draft=4))
    draft.load_state_dict(draft.read_source(target.state_dict()))
    generator = torch.Generator().manual_seed(1)
    on_states = fresh(ParallelSpec, facts, 2, dim=32, network=target.sizes, chain=ChainSpec(num_draft=4))
    on_states.load_state_dict(on_states.read_source(target.state_dict()), strict=False)
    with torch.no_grad():
        for model in (draft, on_states):
            for parameter in model.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    on_states.attach("base", target)
    target.attach("draft", draft)
    return target, draft, on_states


def methods(models, cache, num_draft=4):
    target, draft, on_states = models
    states = WithStates(on_states)
    return {
        "pard": (target.causal, parallel_draft(draft.causal, draft.mask_ids, num_draft, cache)),
        "parallelspec": (states, parallel_draft(states.draft, on_states.mask_ids, num_draft, cache, waits=True)),
    }


def run(network, method, temperature, cache, rows=slice(None)):
    return decode(
        network, PROMPTS[rows], method, LIMIT, seeds=[5, 6, 7][rows], lengths=LENGTHS[rows], temperature=temperature,
        cache=cache,
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("cache", [None, KVCache])
@pytest.mark.parametrize("name", ["pard", "parallelspec"])
def test_tokens_are_those_of_plain_decoding_at_one_draft_call_a_round(models, name, cache, temperature):
    plain = run(models[0].causal, autoregressive(), temperature, KVCache)
    network, method = methods(models, cache)[name]
    out = run(network, method, temperature, cache)
    assert torch.equal(out.tokens, plain.tokens) and method.lossless
    # The target is evaluated once a round, and so is the draft where there is room for a proposal.
    assert out.nfe == int(out.rounds.max())
    assert out.nfe - 1 - (name == "parallelspec") <= out.draft_nfe <= out.nfe
    assert 0 < out.accepted.sum() < out.proposed.sum()
    alone = [run(*methods(models, cache)[name], temperature, cache, slice(i, i + 1)) for i in range(3)]
    for row, one in enumerate(alone):
        assert torch.equal(one.tokens[0], out.tokens[row])
        assert (int(one.rounds), int(one.accepted)) == (int(out.rounds[row]), int(out.accepted[row]))


class Watched:
    """A proposer whose draft's cache is compared, in each round, with one that reads the prefix afresh."""

    brings_law = False

    def __init__(self, propose, fresh_entries):
        self.propose, self.fresh_entries, self.seen = propose, fresh_entries, 0

    def __call__(self, prefix, last, target, draw):
        proposal = self.propose(prefix, last, target, draw)
        cache = proposal.carry.cache
        for row, size in enumerate(torch.minimum(cache.length, prefix.length).tolist()):
            if not size:
                continue
            wanted = self.fresh_entries(prefix.tokens[row : row + 1, :size])
            for number, pair in cache.layers.items():
                for kept, own in zip(pair, wanted[number], strict=True):
                    torch.testing.assert_close(kept[row, :, :size], own[0, :, :size], atol=1e-5, rtol=0)
            self.seen += size
        return proposal


def entries_of(models, name):
    target, draft, on_states = models

    def entries(tokens):
        cache, n = KVCache(1), tokens.shape[1]
        positions, seen = torch.arange(n)[None], torch.ones(1, n, n, dtype=torch.bool).tril()
        if name == "pard":
            draft.causal(tokens, positions, seen, cache)
        else:
            hidden = target.net(tokens, hidden=True)
            states = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], 1)
            on_states.net.with_states(tokens, states, cache.mask(seen), positions, cache)
        return cache.layers

    return entries


@pytest.mark.parametrize("name", ["pard", "parallelspec"])
def test_the_drafts_cache_in_a_round_is_that_of_reading_the_prefix_afresh(models, name):
    network, method = methods(models, KVCache)[name]
    watched = Watched(method.propose, entries_of(models, name))
    run(network, replace(method, propose=watched), 1.0, KVCache)
    assert watched.seen > 100


def test_a_draft_that_kept_its_masks_is_noticed(models):
    """The oracle above, on the bug that it is for: masks counted as if they were tokens that were read."""
    network, method = methods(models, KVCache)["pard"]

    def keeps_masks(prefix, last, target, draw):
        proposal = method.propose(prefix, last, target, draw)
        proposal.carry.cache.length = prefix.length + (proposal.real.sum(1) - 1).clamp_min(0)
        return proposal

    with pytest.raises(AssertionError):
        run(network, replace(method, propose=Watched(keeps_masks, entries_of(models, "pard"))), 1.0, KVCache)


def test_each_token_is_drawn_from_the_masks_own_place(models):
    """The first round by hand: token j is what the draft says at the mask j places behind, position and all."""
    draft = models[1]
    prefix = Prefix.of(PROMPTS[:1], LIMIT, [5], LENGTHS[:1])
    for coupled in (True, False):
        proposal = MaskDraft(draft.causal, draft.mask_ids, 4, KVCache, coupled)(prefix, None, None, Draw(1.0))
        reading = torch.cat([PROMPTS[:1], torch.tensor([draft.mask_ids])], 1)
        law = draft.net(reading)[:, -4:].double().softmax(-1)
        places = 6 + torch.arange(4)
        sites = (places[:, None] * draft.vocabulary + torch.arange(draft.vocabulary)).flatten()[None]
        stream = random.DRAW if coupled else random.PROPOSE
        noise = random.gumbel(torch.tensor([5]), torch.tensor([0]), sites, stream).reshape(1, 4, -1)
        assert torch.equal(proposal.tokens, (law.log() + noise).argmax(-1))
        assert (proposal.law is None) == coupled and proposal.nfe == 1 and proposal.positions == 9
        if not coupled:
            torch.testing.assert_close(proposal.law, law, atol=1e-6, rtol=0)


def test_room_ends_a_draft(models):
    draft = models[1]
    for room, wanted in ((6, 4), (3, 2), (2, 1), (1, 0)):
        prefix = Prefix.of(PROMPTS[:1], 6 + room, [5], LENGTHS[:1])
        proposal = MaskDraft(draft.causal, draft.mask_ids, 4, KVCache)(prefix, None, None, Draw())
        assert int(proposal.real.sum()) == wanted and proposal.nfe == int(wanted > 0)


# The law, on tables small enough to list

V, T = 3, 4
ROWS, NOISE = 40_000, 0.03  # TV of 40,000 exact draws over 81 outcomes is 0.017 on average


class Joint:
    """A random law of T tokens; ids from V on are masks: what is there is summed over."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.p = torch._sample_dirichlet(torch.full((V**T,), 0.3).double(), generator).reshape((V,) * T)
        self.table = torch.zeros(T, *[V + 1] * T, V, dtype=torch.float64)
        for known in itertools.product(range(V + 1), repeat=T):
            q = self.p[tuple(slice(None) if x == V else slice(x, x + 1) for x in known)]
            for at in (at for at in range(T) if known[at] == V):
                marginal = q.sum([i for i in range(T) if i != at]).clamp_min(1e-300)
                self.table[(at, *known)] = (marginal / marginal.sum()).log()

    def __call__(self, tokens, positions, visible, cache):
        digits = torch.full((*tokens.shape, T + 1), V)
        for j in range(tokens.shape[1]):
            here = visible[:, :, j, None] & (torch.arange(T + 1) == positions[:, None, j, None])
            digits = torch.where(here, tokens[:, None, j, None].clamp_max(V), digits)
        at = positions.clamp_max(T - 1)
        return self.table[(at, *digits[..., 1:].unbind(-1))]


def drawn(method):
    prompt = torch.full((ROWS, 1), 0)
    out = decode(JOINT, prompt, method, T + 1, seeds=random.row_seeds(7, ROWS), temperature=1.0)
    index = (out.tokens[:, 1:] * torch.tensor([27, 9, 3, 1])).sum(1)
    return torch.bincount(index, minlength=V**T).reshape((V,) * T) / ROWS, out


JOINT, DRAFT = Joint(0), Joint(1)


@pytest.mark.parametrize("network", [JOINT, DRAFT], ids=["its own marginals", "another law"])
def test_rejection_of_independent_marginals_keeps_the_targets_law(network):
    law, out = drawn(parallel_draft(network, (V,) * 3, 4, coupled=False))
    assert 0.5 * float((law - JOINT.p).abs().sum()) < NOISE
    assert 0 < out.accepted.sum() < out.proposed.sum()


def test_it_would_not_where_each_token_stood_beside_its_neighbours_law():
    """Shifted by one place, as happened elsewhere: the tokens of one mask, the law of the next."""
    method = parallel_draft(DRAFT, (V,) * 3, 4, coupled=False)

    class Shifted(MaskDraft):
        def __call__(self, prefix, last, target, draw):
            proposal = super().__call__(prefix, last, target, draw)
            return proposal if proposal.law is None else replace(proposal, law=proposal.law.roll(-1, 1))

    law, _ = drawn(replace(method, propose=Shifted(DRAFT, (V,) * 3, 4, None, False)))
    assert 0.5 * float((law - JOINT.p).abs().sum()) > 2 * NOISE


# By request


def ask(model, decoding, temperature=0.0, **given):
    texts = ["Ada has 3 ", "", "Ben"]
    return model.synthesize(
        [
            ContinueRequest(text=text, length=16 + 4 * i, decoding=decoding, temperature=temperature, seed=i, **given)
            for i, text in enumerate(texts)
        ]
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_by_request_are_those_of_plain_decoding(models, temperature):
    target, _, on_states = models
    plain = [text.text for text in ask(target, "plain", temperature)]
    for model, decoding in ((target, "pard"), (on_states, "parallelspec"), (on_states, "plain"), (on_states, "ngram")):
        made = ask(model, decoding, temperature)
        assert [text.text for text in made] == plain, decoding
        if decoding in ("pard", "parallelspec"):
            assert 0 < sum(t.facts["accepted"] for t in made) < sum(t.facts["proposed"] for t in made)
    if temperature == 0:
        assert [text.text for text in ask(target, "pard-speculative")] == plain
    # A draft is a text/ar of its own as well, and drafts token by token where it is asked to.
    assert [text.text for text in ask(target, "coupled", temperature)] == plain


def test_evaluations_are_counted(models):
    target, _, on_states = models
    for model, decoding in ((target, "pard"), (on_states, "parallelspec")):
        before = model.evaluations
        text = model.synthesize([ContinueRequest(text="Ben", length=12, decoding=decoding, temperature=0.0)])[0]
        spent = model.evaluations - before
        assert 2 * text.facts["steps"] - 2 <= spent <= 2 * text.facts["steps"]


def test_a_shared_mask_drafts_further_than_it_was_trained_and_own_masks_do_not(models, facts):
    target = models[0]
    made = ask(target, "pard", num_draft=7)
    assert max(text.facts["proposed"] / text.facts["steps"] for text in made) > 4
    other = fresh(Autoregressive, facts, 0, **SIZES)
    other.attach("draft", fresh(PARD, facts, 1, **SIZES, chain=ChainSpec(num_draft=4, own_masks=True)))
    ask(other, "pard", num_draft=4)
    with refused(RequestError, "limit", "num_draft", value=5, names="4"):
        ask(other, "pard", num_draft=5)


def test_what_cannot_draft_in_one_call_is_refused_and_never_drafts_token_by_token(models, facts):
    target, draft, _ = models
    plain = fresh(Autoregressive, facts, 0, **SIZES)
    for decoding in ("pard", "pard-speculative"):
        with refused(RequestError, "missing", "components.draft"):
            ask(plain, decoding)
    plain.attach("draft", fresh(Autoregressive, facts, 1, **SIZES))
    with refused(RequestError, "unsupported", "components.draft", value="Autoregressive"):
        ask(plain, "pard")
    bytes_data = ToyData(num_items=8, context=40, tokenizer="bytes")
    bytes_data.prepare(progress=False)
    plain.attach("draft", fresh(PARD, bytes_data.describe(), 1, **SIZES))
    with refused(RequestError, "conflict", "components.draft"):
        ask(plain, "pard")
    with refused(RequestError, "unsupported", "decoding", value="parallelspec"):
        ask(target, "parallelspec")
    with refused(RequestError, "conflict", "tree"):
        ContinueRequest.parse(decoding="pard", tree=(2,))
    with refused(UnisonoError, "range", "num_draft", value=0):
        MaskDraft(draft.causal, draft.mask_ids, 0)
    with refused(RecipeError, "conflict", "model.dim", value=16, names="32"):
        fresh(ParallelSpec, facts, 0, dim=16, network=target.sizes).attach("base", target)
    with refused(RecipeError, "conflict", "components.base"):
        fresh(ParallelSpec, bytes_data.describe(), 0, dim=32, network=target.sizes).attach("base", target)
    with refused(UnisonoError, "missing", "draft"):
        generate(target.causal, [[1, 2]], "pard", max_new_tokens=4)
    with refused(UnisonoError, "unsupported", "draft"):
        generate(target.causal, [[1, 2]], "pard", max_new_tokens=4, draft=draft.causal)


def test_the_rules_are_those_that_fit(models):
    draft = models[1]
    assert isinstance(parallel_draft(draft.causal, draft.mask_ids, 4).accept, Matching)
    assert isinstance(parallel_draft(draft.causal, draft.mask_ids, 4, coupled=False).accept, Rejection)
    with refused(UnisonoError, "conflict", "accept"):
        replace(parallel_draft(draft.causal, draft.mask_ids, 4), accept=Rejection())


def test_a_published_draft_of_transformers_is_read_by_its_config():
    """As the published drafts are: an ordinary causal model, and in its config the id that it reads as a mask."""
    import transformers

    def model_of(seed):
        config = transformers.LlamaConfig(
            vocab_size=23, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():
                parameter.data.mul_(3) if parameter.dim() > 1 else None
                parameter.data += 0.02 * seed * torch.randn(parameter.shape)
        return model.double().eval()

    target, draft = model_of(0), model_of(1)
    prompts = [[3, 1, 4, 1, 5], [9, 2, 6]]
    given = dict(max_new_tokens=14, seed=4)
    with refused(UnisonoError, "unsupported", "draft", value="TransformersNetwork"):
        generate(target, prompts, "pard", draft=draft, **given)
    draft.config.pard_token = 22
    for temperature in (0.0, 1.0):
        plain = generate(target, prompts, "plain", temperature=temperature, **given)
        out = generate(target, prompts, "pard", draft=draft, temperature=temperature, **given)
        assert torch.equal(out.tokens, plain.tokens) and out.draft_nfe <= out.nfe
    few = generate(target, prompts, "pard-speculative", draft=draft, num_draft=3, temperature=1.0, **given)
    assert int((few.proposed / few.rounds).max()) <= 3


def test_rounds_tell_of_each_call(models):
    network, method = methods(models, KVCache)["pard"]
    going = rounds(network, PROMPTS[:1], method, LIMIT, seeds=[5], temperature=0.0, cache=KVCache)
    lengths = [int(prefix.length) for prefix in going]
    assert lengths[-1] == LIMIT and len(lengths) < LIMIT - 6
