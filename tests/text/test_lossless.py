"""Lossless decoding: models of ``transformers`` and networks of this plugin give what plain decoding gives."""

from typing import get_args

import pytest
import torch
import transformers
from refused import ANYTHING, refused
from unisono.errors import UnisonoError
from unisono.masked.random import row_seeds
from unisono.verify import Causal, KVCache, Prefix, Proposal, Target, Verdict, autoregressive, decode
from unisono.verify import draw as drawing
from unisono_text import lossless
from unisono_text.lossless import arithmetic, generate, parallel_speculative
from unisono_text.lossless.catalogue import CATALOGUE, Decoding, method_of
from unisono_text.lossless.entry import Means
from unisono_text.lossless.networks import TransformersNetwork
from unisono_text.lossless.ngram import AdaptiveNGram, RowIndex, adaptive_ngram
from unisono_text.lossless.request import ContinueRequest

VOCAB, MADE = 23, 20
PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5, 8]]


def model_of(kind, seed=0, vocab=VOCAB, **more):
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=vocab, n_positions=64, n_embd=32, n_layer=2, n_head=2, **more)
    else:
        sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
        config = transformers.LlamaConfig(vocab_size=vocab, num_key_value_heads=2, **sizes, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # as drawn, the likeliest token hangs by a thread
            parameter.data.mul_(3) if parameter.dim() > 1 else None
    return model.double().eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(request):
    """A target and a draft that agrees with it now and then: the target with noise on its weights."""
    target, draft = model_of(request.param), model_of(request.param)
    generator = torch.Generator().manual_seed(1)
    for parameter in draft.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return target, draft


def own_loop(model, prompt):
    """Greedy, the whole sequence read anew for each token: shares no code with the library."""
    tokens = list(prompt)
    for _ in range(MADE):
        tokens.append(int(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens


METHODS = ("plain", "jacobi", "gauss-seidel", "ngram", "speculative", "coupled", "arithmetic")


@torch.no_grad()
def test_greedy_output_is_that_of_the_models_own_loop(pair):
    target, draft = pair
    truth = [own_loop(target, prompt) for prompt in PROMPTS]
    for decoding in METHODS:
        for cache in (True, False):
            out = generate(target, PROMPTS, decoding, max_new_tokens=MADE, draft=draft, cache=cache)
            for row, wanted in enumerate(truth):
                assert out.tokens[row, : len(wanted)].tolist() == wanted, (decoding, cache)
            assert out.lossless


def test_sampled_output_is_that_of_plain_sampling_token_by_token(pair):
    target, draft = pair
    given = dict(max_new_tokens=MADE, temperature=1.0, top_p=0.9, top_k=15, seed=4)
    plain = generate(target, PROMPTS, "plain", **given)
    assert len(set(plain.tokens[0].tolist())) > 5
    for decoding in ("jacobi", "gauss-seidel", "ngram", "coupled"):
        out = generate(target, PROMPTS, decoding, draft=draft, **given)
        assert torch.equal(out.tokens, plain.tokens), decoding
    speculated = generate(target, PROMPTS, "speculative", draft=draft, **given)
    assert 0 < speculated.accepted.sum() < speculated.proposed.sum()


def test_a_model_in_bfloat16_is_read(pair):
    target = pair[0]
    half = type(target)(target.config).to(torch.bfloat16).eval()
    plain, out = (generate(half, PROMPTS, name, max_new_tokens=8) for name in ("plain", "ngram"))
    assert out.tokens.shape == plain.tokens.shape


def test_a_transformers_model_that_ignores_its_mask_is_refused():
    sliding = transformers.MistralConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(sliding).eval()
    forward = model.forward

    def deaf(input_ids, attention_mask=None, **given):
        return forward(input_ids=input_ids, use_cache=False)

    model.forward = deaf
    with refused(UnisonoError, "unsupported", "model", value="MistralForCausalLM"):
        TransformersNetwork(model)


def test_a_draft_of_another_vocabulary_is_refused(pair):
    other = model_of("gpt2", vocab=VOCAB + 1)
    with refused(UnisonoError, "conflict", "draft", value=VOCAB + 1, names=str(VOCAB)):
        generate(pair[0], PROMPTS, "speculative", max_new_tokens=4, draft=other)

    class Words:
        def __init__(self, vocab):
            self.get_vocab = lambda: vocab

    with refused(UnisonoError, "conflict", "draft_tokenizer"):
        generate(
            pair[0], PROMPTS, "speculative", max_new_tokens=4, draft=pair[1],
            tokenizer=Words({"a": 0}), draft_tokenizer=Words({"b": 0}),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "path", "names", "given"),
    [
        ("missing", "draft", "'speculative'", dict(decoding="speculative")),
        ("missing", "drafter", "'parallel'", dict(decoding="parallel")),
        ("shape", "tree", "text/medusa", dict(decoding="medusa")),
        ("unsupported", "decoding", "text/pass", dict(decoding="pass")),
        ("unknown", "decoding", "did you mean 'jacobi'?", dict(decoding="jacoby")),
        ("range", "max_new_tokens", "max_new_tokens=0", dict(max_new_tokens=0)),
        ("range", ANYTHING, "k=0", dict(top_k=0, temperature=1.0)),
        ("range", ANYTHING, "0.0", dict(top_p=0.0, temperature=1.0)),
        ("shape", "beams", ["2", "3 rows"], dict(decoding="arithmetic", beams=2)),
        ("empty", "prompts", (), dict(prompts=[[1], []])),
        ("empty", "prompts", (), dict(prompts=[])),
        ("range", "temperature", "-1.0", dict(temperature=-1.0)),
        ("type", "model", "int", dict(model=3)),
    ],
)
def test_wrong_input_is_one_sentence(pair, code, path, names, given):
    call = {"model": pair[0], "prompts": PROMPTS, "max_new_tokens": 4, **given}
    with refused(UnisonoError, code, path, names=names):
        generate(call.pop("model"), call.pop("prompts"), call.pop("decoding", "plain"), **call)


# n-grams


def counted(sequence, vocab=VOCAB):
    """A network that recites: after token i of the sequence comes token i + 1, whatever was read."""
    table = torch.tensor(sequence)
    calls = []

    def network(tokens, positions, visible, cache):
        calls.append(tokens.shape[1])
        return torch.nn.functional.one_hot(table[(positions + 1) % len(table)], vocab).double() * 9

    return network, calls


def test_ngrams_speed_up_what_repeats():
    sequence = [3, 1, 4, 1, 5, 9, 2, 6] * 16
    network, calls = counted(sequence)
    out = decode(network, torch.tensor([sequence[:1]]), adaptive_ngram(), len(sequence))
    assert out.tokens[0].tolist() == sequence
    assert len(calls) < len(sequence) / 4


def test_ngrams_fall_silent_where_nothing_repeats_and_wake_where_it_does():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, VOCAB, (400,), generator=generator).tolist()
    network, calls = counted(noise)
    out = decode(network, torch.tensor([noise[:1]]), adaptive_ngram(), len(noise))
    assert out.tokens[0].tolist() == noise
    assert out.proposed.sum() <= 0.03 * len(calls)
    both = noise[:200] + [3, 1, 4, 1, 5, 9, 2, 6] * 12
    network, calls = counted(both)
    decode(network, torch.tensor([both[:1]]), adaptive_ngram(), len(both))
    assert len(calls) < 200 + 96 / 2


def test_the_share_of_hits_is_learnt_without_a_draft():
    index = RowIndex(3, 2)
    index.read([1, 2, 3] * 20)
    assert index.hits[3] > 0.95
    index.read([4, 1, 5, 2, 4, 3, 5, 1, 3, 2, 1, 4, 4, 2, 2, 5, 5, 3, 3, 1, 1] * 3)
    assert index.hits[2] < 0.5
    assert index.predict([7]) is None and index.predict([]) is None


def test_the_draft_is_as_long_as_it_pays():
    def drafted(hits, first, each, margin):
        index = RowIndex(3, 2)
        index.read([1, 2, 3] * 9)
        index.hits = dict.fromkeys(index.hits, hits)
        return len(AdaptiveNGram(6, 3, 2, first, each, margin)._worth(index, 6))

    for hits, first, each in ((0.9, 0.3, 0.1), (0.5, 0.3, 0.05), (0.2, 0.3, 0.05), (0.6, 0, 0.5), (1.0, 5, 0.0)):
        for margin in (1.0, 1.1):
            rate = [margin]
            for d in range(1, 7):
                rate.append(sum(hits**i for i in range(d + 1)) / (1 + first + d * each))
            assert drafted(hits, first, each, margin) == rate.index(max(rate))


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("num_draft", dict(num_draft=0)),
        ("shortest", dict(shortest=1)),
        ("shortest", dict(longest=2, shortest=3)),
        ("each", dict(each=-1.0)),
        ("first", dict(first=-0.5)),
        ("margin", dict(margin=0.9)),
    ],
)
def test_wrong_ngrams_are_refused(path, wrong):
    with refused(UnisonoError, "range", path, value=wrong[path], names=str(wrong[path])):
        AdaptiveNGram(**wrong)


# Laws: everything of three tokens out of three, listed.

L, V, ROWS = 3, 3, 40_000
NOISE = 0.02  # 40,000 exact draws over 27 outcomes are 0.01 off on average; the broken ones below by more than 0.06


class Joint:
    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        p = torch.rand(V, V, V, generator=generator, dtype=torch.float64).pow(3)
        self.p = p / p.sum()

    def network(self, tokens, positions, visible, cache):
        """After a start token: p(x_1), p(x_2 | x_1), p(x_3 | x_1, x_2), which need no more than two tokens back."""
        p1, p2, p3 = self.p.sum((1, 2)), self.p.sum(2), self.p
        here, before = tokens.clamp_max(V - 1), tokens.roll(1, 1).clamp_max(V - 1)
        logits = torch.where((positions == 1)[:, :, None], p2[here], p3[before, here])
        return torch.where((positions == 0)[:, :, None], p1.expand_as(logits), logits).log()

    def denoise(self, tokens, known, query):
        """Marginals of its own joint without the dependence: a drafter that is wrong everywhere."""
        each = torch.stack([self.p.sum((1, 2)), self.p.sum((0, 2)), self.p.sum((0, 1))]).log()
        return each[query]


def law(method, joint, seeds):
    prompt = torch.zeros(len(seeds), 1, dtype=torch.int64)
    out = decode(Joint.network.__get__(joint), prompt, method, L + 1, seeds=seeds, temperature=1.0)
    index = (out.tokens[:, 1:] * torch.tensor([9, 3, 1])).sum(1)
    return torch.bincount(index, minlength=27).reshape(V, V, V).double() / len(seeds)


def tv(p, q):
    return 0.5 * float((p - q).abs().sum())


def test_a_diffusion_draft_leaves_the_targets_law():
    target, drafter = Joint(0), Joint(1)
    made = law(parallel_speculative(drafter.denoise, V, 2, skip=1), target, row_seeds(3, ROWS))
    assert tv(made, target.p) < NOISE


def test_the_law_that_a_diffusion_draft_tells_is_the_one_it_draws_from():
    """Rejection is exact if this holds (the core lists all its outcomes), and wrong by this if not."""
    drafter = Joint(1)
    propose = parallel_speculative(drafter.denoise, V, 3, skip=1).propose
    prefix = Prefix.of(torch.zeros(ROWS, 1, dtype=torch.int64), 5, row_seeds(9, ROWS))
    proposal = propose(prefix, None, Target(Causal(lambda t: t)), drawing.Draw(1.0))
    shares = torch.stack([torch.bincount(proposal.tokens[:, i], minlength=V) / ROWS for i in range(3)])
    torch.testing.assert_close(shares.double(), proposal.law[0], rtol=0, atol=0.015)


def test_a_drafter_that_tells_another_law_is_seen():
    class Boasts(lossless.ParallelDraft):
        def __call__(self, *given):
            from dataclasses import replace

            proposal = super().__call__(*given)
            return replace(proposal, law=torch.full_like(proposal.law, 1 / V))

    from dataclasses import replace

    target = Joint(0)
    method = replace(parallel_speculative(None, V, 2), propose=Boasts(Joint(1).denoise, V, 2, skip=1))
    assert tv(law(method, target, row_seeds(3, ROWS)), target.p) > 3 * NOISE


def test_diffusion_drafts_are_the_same_alone_and_in_a_batch():
    joint = Joint(2)
    method = parallel_speculative(joint.denoise, V, 2, skip=1)
    prompt = torch.tensor([[0, 1, 0], [0, 0, 0], [0, 2, 2]])
    lengths, seeds = torch.tensor([2, 1, 3]), [5, 6, 7]
    target = Joint(3)
    together = decode(target.network, prompt, method, L + 1, seeds=seeds, lengths=lengths, temperature=1.0)
    for row in range(3):
        one = prompt[row : row + 1, : lengths[row]]
        alone = decode(target.network, one, method, L + 1, seeds=[seeds[row]], temperature=1.0)
        assert torch.equal(alone.tokens[0], together.tokens[row])


def test_arithmetic_samples_cover_the_law_evenly():
    """N codes on a lattice hit an interval of length p between ⌊pN⌋ and ⌈pN⌉ times, wherever the shift puts them."""
    target, n = Joint(0), 4096
    shares = law(arithmetic(n), target, 11 * n + torch.arange(n))
    assert float((shares - target.p).abs().max()) <= 1 / n
    independent = law(autoregressive(), target, 11 * n + torch.arange(n))
    assert float((independent - target.p).abs().max()) > 1 / n


def test_one_arithmetic_sample_follows_the_law():
    """One of a lattice of four, over many shifts."""
    target = Joint(0)
    assert tv(law(arithmetic(4), target, 4 * torch.arange(ROWS) + 2), target.p) < NOISE


def test_arithmetic_beams_differ_and_begin_apart():
    joint = Joint(0)
    given = dict(max_new_tokens=L, temperature=1.0, beams=8, seed=1, cache=False)
    out = generate(joint.network, [[0]] * 8, "arithmetic", **given)
    first = sorted(out.tokens[:, 1].tolist())
    p1 = joint.p.sum((1, 2))
    for token in range(V):
        assert abs(first.count(token) - 8 * float(p1[token])) <= 1


def test_every_name_of_the_request_has_an_entry():
    assert get_args(Decoding) == tuple(CATALOGUE)
    fields = set(ContinueRequest.model_fields)
    assert (
        {name for entry in CATALOGUE.values() for name in entry.options} == set(ContinueRequest.option_names) <= fields
    )


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_an_option_of_another_method_is_refused(name):
    values = {"num_draft": 3, "block": 4, "tree": (2,), "beams": 2}
    for option, value in values.items():
        if option not in CATALOGUE[name].options:
            with refused(UnisonoError, "conflict", option, value=value):
                method_of(name, Means(), **{option: value})


def test_methods_are_made_of_what_is_there():
    means = Means(heads=2, look_ahead=(30, 31))
    assert method_of("medusa", means, tree=(3, 2)).name == "Medusa"
    assert method_of("pass", means).propose.tokens == (30, 31)
    with refused(UnisonoError, "shape", "tree", value=(2, 2, 2), names=["3", "2"]):
        method_of("medusa", means, tree=(2, 2, 2))


def test_the_cache_is_rolled_back(pair):
    """Logits of random chains and trees, parts of which are kept, equal those of no cache."""
    network = TransformersNetwork(pair[0])
    generator = torch.Generator().manual_seed(0)
    cached, plain = Target(network, KVCache, 2), Target(network)
    prefix = Prefix.of(torch.tensor([[1, 2, 3], [4, 5, 0]]), 40, [0, 0], torch.tensor([3, 2]))
    for turn in range(5):
        parent = torch.tensor([-1, -1, 0, 1]) if turn % 2 else None
        tokens = torch.randint(0, VOCAB, (2, 4), generator=generator)
        proposal = Proposal(tokens, torch.ones(2, 4, dtype=torch.bool), parent)
        with torch.no_grad():
            a, b = cached(prefix, proposal), plain(prefix, proposal)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
        path = torch.tensor([[1, 3], [0, 2]]) if turn % 2 else torch.tensor([[0, 1], [0, 1]])
        accepted, own = torch.tensor([2, turn % 3]), torch.randint(0, VOCAB, (2,), generator=generator)
        verdict = Verdict(path, accepted, own)
        cached.keep(prefix, proposal, verdict)
        kept = torch.nn.functional.pad(proposal.tokens.gather(1, path), (0, 1))
        prefix = prefix.commit(kept.scatter(1, accepted[:, None], own[:, None]), accepted + 1)
