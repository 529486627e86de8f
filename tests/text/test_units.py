"""Lexical units: what is emitted is what a loop of its own emits, by the model's confidence; refusals; the curve."""

import math

import flat
import pytest
import torch
from refused import refused
from unisono.errors import RequestError, UnisonoError
from unisono.recipe import Recipe
from unisono.verify import Draw, KVCache, Method, NGram, Prefix, Proposal, decode
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.units import Confident, MaskedSpan, lexical_units
from unisono_text.measure.units import confidence_curve
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)


@pytest.fixture(scope="module")
def model():
    data = ToyData(num_items=24, context=40, batch_size=8)
    data.prepare(progress=False)
    raw = {"model": {"name": "text/space", "network": SIZES, "masks": {"count": 3}}, "data": {"name": "text/toy"}}
    made = Recipe.from_dict({**raw, "seed": 1}).build_model(data.describe()).eval()
    with torch.no_grad():  # as drawn, all tokens are about equally likely
        made.net.head.weight.mul_(20)
        made.masks.weight.mul_(20)
    return made


PROMPTS = [[0, 5, 6, 7], [0], [0, 9, 8]]
LIMIT = 20


@torch.no_grad()
def own_loop(model, prompt, draw, seed, alpha, end=None):
    """One row, everything read anew in each round, as the paper has it; returns the tokens and the rounds."""
    tokens, rounds, seeds = list(prompt), 0, torch.tensor([seed])
    while len(tokens) < LIMIT and (end is None or end not in tokens[len(prompt) :]):
        size = len(tokens) + 3
        reading = torch.tensor([[*tokens, *model.look_ahead]])
        visible = torch.ones(1, size, size, dtype=torch.bool).tril()
        logits = model.causal(reading, torch.arange(size)[None], visible, None)[:, len(tokens) - 1 :].double()
        said = draw(logits, seeds, len(tokens) + torch.arange(4)[None])[0].tolist()
        sure = [float(p[token]) > alpha for p, token in zip(logits[0].softmax(-1), said, strict=True)]
        rounds += 1
        tokens.append(said[0])
        for j in (1, 2, 3):  # behind the masks: while all before it are sure, and it is
            # The paper emits them at once; here they are committed with the next round's own token.
            if not all(sure[: j + 1]) or len(tokens) >= LIMIT - 1 or (end is not None and tokens[-1] == end):
                break
            tokens.append(said[j])
    return tokens, rounds


@pytest.mark.parametrize("cache", [None, KVCache])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.9999999])
def test_what_is_emitted_is_what_a_loop_of_its_own_emits(model, cache, temperature, alpha):
    tokens = torch.zeros(3, 4, dtype=torch.int64)
    for row, prompt in enumerate(PROMPTS):
        tokens[row, : len(prompt)] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in PROMPTS])
    method = lexical_units(model.look_ahead, alpha)
    given = dict(seeds=[3, 4, 5], lengths=lengths, temperature=temperature, cache=cache)
    out = decode(model.causal, tokens, method, LIMIT, **given)
    assert not out.lossless and not method.lossless
    assert out.nfe == int(out.rounds.max()) and not out.draft_nfe
    draw, most = Draw(temperature), 0
    for row, prompt in enumerate(PROMPTS):
        wanted, rounds = own_loop(model, prompt, draw, 3 + row, alpha)
        assert out.tokens[row].tolist() == wanted
        assert int(out.rounds[row]) == rounds
        most = max(most, rounds)
        alone = decode(
            model.causal, torch.tensor([prompt]), method, LIMIT, seeds=[3 + row], temperature=temperature, cache=cache
        )
        assert alone.tokens[0].tolist() == wanted
    if alpha < 0.1:
        assert most < LIMIT - 6 and bool(out.accepted.any())
    if alpha > 0.99 and temperature:
        assert most >= LIMIT - 4 and not bool(out.accepted.any())


def test_an_end_within_a_unit_ends_the_text(model):
    tokens = torch.tensor([[0, 5, 6, 7]])
    whole = decode(model.causal, tokens, lexical_units(model.look_ahead, 0.02), LIMIT).tokens[0].tolist()
    for end in set(whole[4:]):
        out = decode(model.causal, tokens, lexical_units(model.look_ahead, 0.02), LIMIT, end=end, cache=KVCache)
        length = 4 + whole[4:].index(end) + 1
        assert out.tokens[0, : int(out.length)].tolist() == whole[:length]


def test_requests_are_served_and_labelled(model):
    asked = [
        ContinueRequest(text=text, length=18 + i, decoding="lud", alpha=0.05, temperature=t, seed=i)
        for i, (text, t) in enumerate([("Ada has 3 ", 0.0), ("", 0.0), ("Ben", 1.0), ("Ben", 0.0)])
    ]
    together = model.synthesize(asked)
    assert [model.synthesize([request])[0].text for request in asked] == [text.text for text in together]
    assert all(text.facts["exactness"] == "lossy" for text in together)
    assert sum(text.facts["steps"] for text in together) < sum(18 + i for i in range(4))
    plain = model.synthesize([ContinueRequest(text="Ben", length=8)])[0]
    assert plain.facts["exactness"] == "token by token"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0.0, "range"),
        (1.0, "range"),
        (-0.5, "range"),
        (1.5, "range"),
        (math.nan, "range"),
        ("x", "type"),
        (True, "type"),
    ],
)
def test_an_alpha_that_is_none_is_refused(value, code):
    for make in (Confident, lambda alpha: MaskedSpan((30,), alpha), lambda alpha: lexical_units((30,), alpha)):
        with refused(UnisonoError, code, "alpha"):
            make(value)


def test_wrong_requests_are_refused_by_code(model):
    plain = flat.make(Autoregressive, **SIZES)
    plain.build(model.facts)
    with refused(RequestError, "unsupported", "decoding", value="lud"):
        plain.synthesize([ContinueRequest(decoding="lud")])
    for alpha in (-0.1, 0.0, 1.0, 1.5):
        with refused(RequestError, "range", "alpha", value=alpha):
            model.synthesize([ContinueRequest.parse(decoding="lud", alpha=alpha)])
    with refused(RequestError, "conflict", "alpha", names="0.5"):
        ContinueRequest.parse(decoding="jacobi", alpha=0.5)


def test_the_rule_asks_for_a_chain_with_a_law():
    with refused(UnisonoError, "empty", "tokens"):
        MaskedSpan(())
    prefix = Prefix.of(torch.tensor([[1, 2, 1, 2]]), 10, [0])
    logits = torch.zeros(1, 3, 5)
    chain = Proposal.chain(torch.tensor([[1, 2]]), torch.tensor([2]))
    with refused(UnisonoError, "unsupported", "proposal"):
        Confident(0.5)(prefix, chain, logits, Draw())
    law = torch.tensor([[[0.0, 0.6, 0.4, 0, 0], [0.0, 0.3, 0.5, 0.2, 0]]], dtype=torch.float64)
    tree = Proposal(chain.tokens, chain.real, torch.tensor([-1, -1]), law=law)
    with refused(UnisonoError, "unsupported", "proposal"):
        Confident(0.5)(prefix, tree, logits, Draw())
    for alpha, accepted in ((0.45, 2), (0.5, 1), (0.6, 0)):  # above, not at
        told = Confident(alpha)(prefix, Proposal(chain.tokens, chain.real, law=law), logits, Draw())
        assert int(told.accepted) == accepted
    # Another proposer's chain without a law: refused as soon as it proposes.
    with refused(UnisonoError, "unsupported", "proposal"):
        decode(
            lambda tokens, *_: torch.nn.functional.one_hot(tokens, 5).double(),
            torch.tensor([[1, 2, 1, 2, 1]]),
            Method("confident n-gram", NGram(), Confident(0.5)),
            10,
        )


def test_the_curve_begins_at_plain_decoding(model):
    prompts = ["Ada has 3 ", "Ben"]
    points = confidence_curve(model, prompts, (0.05, 0.5, 0.9999999), length=20, temperature=1.0)
    assert [point.alpha for point in points] == [None, 0.05, 0.5, 0.9999999]
    assert points[0].changed == 0 and points[0].tokens_per_evaluation == 1
    assert points[-1] == type(points[-1])(0.9999999, 1.0, points[0].bits_per_character, 0.0)
    assert points[1].tokens_per_evaluation > points[2].tokens_per_evaluation >= 1 and points[1].changed > 0
    # The bits by the likelihood of the model's own score.
    made = model.synthesize([ContinueRequest(text=text, length=20, seed=i) for i, text in enumerate(prompts)])
    nats = model.score([text.text.removeprefix(p) for text, p in zip(made, prompts, strict=True)], prompts).sum()
    characters = sum(len(text.text) - len(p) for text, p in zip(made, prompts, strict=True))
    assert points[0].bits_per_character == pytest.approx(float(nats) / math.log(2) / characters)
    with refused(UnisonoError, "range", "alpha", value=1.0):
        confidence_curve(model, prompts, (0.5, 1.0))
