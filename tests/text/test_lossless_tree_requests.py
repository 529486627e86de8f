"""Requests that ask for a tree: text/ar and text/pass give the texts of plain decoding, alone and in a batch."""

import flat
import pytest
import torch
from refused import refused
from unisono.errors import RequestError
from unisono_text.corpus.data import ToyData
from unisono_text.lossless import generate
from unisono_text.lossless.look_ahead import PaSS
from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.serve import _rows_at_once
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)
TEXTS = ["Ada has 3 ", "", "Ben"]


def fresh(kind, facts, seed, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = flat.make(kind, **arguments)
        model.build(facts)
    return model.eval()


@pytest.fixture(scope="module")
def models():
    data = ToyData(num_items=24, context=40, batch_size=8)
    data.prepare(progress=False)
    facts = data.describe()
    target, draft = fresh(Autoregressive, facts, 0, **SIZES), fresh(Autoregressive, facts, 0, **SIZES)
    with torch.no_grad():
        target.net.head.weight.mul_(20)
        draft.load_state_dict(target.state_dict())
        generator = torch.Generator().manual_seed(1)
        for parameter in draft.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    ahead = fresh(PaSS, facts, 4, dim=32, ahead=3)
    ahead.attach("base", target)
    for model in (target, ahead):
        model.attach("draft", draft)
    return {"ar": target, "pass": ahead}


ASKED = [
    ("pass", {"decoding": "space"}),
    ("pass", {"decoding": "space", "num_draft": 2}),
    ("ar", {"decoding": "tr-jacobi"}),
    ("pass", {"decoding": "tr-jacobi", "tree": (2, 1, 1), "num_draft": 4}),
    ("ar", {"decoding": "specexec"}),
    ("ar", {"decoding": "specexec", "budget": 9, "branch": 3}),
    ("pass", {"decoding": "specexec"}),
]


def requests(temperature, **fields):
    return [
        ContinueRequest(text=text, length=16 + 4 * i, temperature=temperature, seed=i, **fields)
        for i, text in enumerate(TEXTS)
    ]


@pytest.mark.parametrize(("name", "fields"), ASKED)
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.95}])
def test_texts_are_those_of_plain_decoding(models, name, fields, settings):
    plain = models["ar"].synthesize(requests(**settings))
    before = models[name].evaluations
    made = models[name].synthesize(requests(**settings, **fields))
    assert [text.text for text in made] == [text.text for text in plain]
    if fields["decoding"] != "space" or settings["temperature"]:  # masks that learnt nothing are right by chance
        assert sum(text.facts["accepted"] for text in made) > 0
    assert models[name].evaluations > before
    for request, text in zip(requests(**settings, **fields), made, strict=True):
        alone = models[name].synthesize([request])[0]
        assert (alone.text, alone.facts, alone.order) == (text.text, text.facts, text.order)


@pytest.mark.parametrize(
    ("code", "path", "value", "fields"),
    [
        ("unsupported", "decoding", "space", dict(decoding="space")),
        ("empty", "tree", (), dict(decoding="tr-jacobi", tree=())),
        ("limit", "tree", 10_000, dict(decoding="tr-jacobi", tree=(10_000,))),
        ("conflict", "tree", (2, 2), dict(decoding="specexec", tree=(2, 2))),
        ("conflict", "budget", 8, dict(decoding="coupled", budget=8)),
        ("conflict", "branch", 8, dict(decoding="space", branch=8)),
        ("range", "budget", 10_000, dict(decoding="specexec", budget=10_000)),
        ("range", "branch", 0, dict(decoding="specexec", branch=0)),
        ("limit", "tree", 3, dict(decoding="tr-jacobi", tree=(300,))),
    ],
)
def test_a_wrong_request_is_one_sentence(models, code, path, value, fields):
    with refused(RequestError, code, path):
        models["ar"].synthesize([ContinueRequest.parse(**fields)])


def test_a_draft_is_asked_for(models):
    with refused(RequestError, "missing", "components.draft"):
        fresh(Autoregressive, models["ar"].facts, 0, **SIZES).synthesize([ContinueRequest(decoding="specexec")])
    from unisono.errors import UnisonoError

    with refused(UnisonoError, "missing", "draft"):
        generate(models["ar"].causal, [[0]], "specexec", max_new_tokens=4)


def test_large_trees_are_made_in_smaller_batches():
    """So that no request is refused because of those beside it."""
    for budget, rows in ((None, 32), (128, 32), (129, 31), (2048, 2)):
        assert _rows_at_once(ContinueRequest(decoding="specexec", budget=budget)) == rows
    assert _rows_at_once(ContinueRequest()) == 32
