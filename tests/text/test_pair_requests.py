"""cascade, ensemble and jacobi's window by request, and the curve between two models, on tiny ones."""

import json

import flat
import pytest
import torch
from refused import ANYTHING, refused
from unisono.errors import RequestError, UnisonoError
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.curve import Point, between, cascade_curve
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)
TEXTS = ["Ada has 3 ", "", "Ben"]


def model_of(facts, seed, sharp=20):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = flat.make(Autoregressive, **SIZES)
        made.build(facts)
    with torch.no_grad():
        made.net.head.weight.mul_(sharp)
    return made.eval()


@pytest.fixture(scope="module")
def models():
    data = ToyData(num_items=24, context=40, batch_size=8)
    data.prepare(progress=False)
    facts = data.describe()
    target, draft = model_of(facts, 0), model_of(facts, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    target.attach("draft", draft)
    other = ToyData(num_items=8, context=40, tokenizer="bytes")
    other.prepare(progress=False)
    return target, draft, model_of(other.describe(), 2)


def ask(model, decoding, temperature=1.0, **given):
    return model.synthesize(
        [
            ContinueRequest(text=text, length=16 + 4 * i, decoding=decoding, temperature=temperature, seed=i, **given)
            for i, text in enumerate(TEXTS)
        ]
    )


METHODS = [
    ("cascade", {}),
    ("cascade", {"deferral": "opt", "alpha": 0.2, "num_draft": 3}),
    ("ensemble", {}),
    ("ensemble", {"weight": 0.8, "alternate": True}),
    ("ensemble", {"contrast": 0.3}),
    ("jacobi", {"window": 8}),
]


@pytest.mark.parametrize(("decoding", "given"), METHODS, ids=str)
def test_a_request_alone_and_in_a_batch_gives_the_same_text(models, decoding, given):
    together = ask(models[0], decoding, **given)
    for i, text in enumerate(TEXTS):
        request = ContinueRequest(text=text, length=16 + 4 * i, decoding=decoding, seed=i, **given)
        assert models[0].synthesize([request])[0].text == together[i].text
    assert 0 < sum(text.facts["accepted"] for text in together) < sum(text.facts["proposed"] for text in together)


def test_a_cascade_goes_from_the_targets_text_to_the_drafts(models):
    target, draft, _ = models
    own, its = (ask(model, "plain", 0.0) for model in (target, draft))
    assert [text.text for text in own] != [text.text for text in its]
    for alpha, wanted in ((0.0, own), (1.0, its)):
        made = ask(target, "cascade", 0.0, deferral="chow", alpha=alpha)
        assert [text.text for text in made] == [text.text for text in wanted]


def test_an_ensembles_weight_goes_from_the_drafts_text_to_the_targets(models):
    target, draft, _ = models
    for weight, model in ((0.0, draft), (1.0, target)):
        for alternate in (False, True):
            made = ask(target, "ensemble", 0.0, weight=weight, alternate=alternate)
            assert [text.text for text in made] == [text.text for text in ask(model, "plain", 0.0)]


def test_a_window_changes_no_text(models):
    for temperature in (0.0, 1.0):
        plain, made = ask(models[0], "plain", temperature), ask(models[0], "jacobi", temperature, window=4)
        assert [text.text for text in made] == [text.text for text in plain]


@pytest.mark.parametrize(
    ("code", "path", "value", "fields"),
    [
        ("range", "window", {"decoding": "jacobi", "window": 0}, dict(decoding="jacobi", window=0)),
        ("conflict", "window", ANYTHING, dict(decoding="ngram", window=4)),
        ("conflict", "alpha", ANYTHING, dict(decoding="speculative", alpha=0.5)),
        ("unknown", "deferral", ANYTHING, dict(decoding="cascade", deferral="chou")),
        ("conflict", "weight", ANYTHING, dict(decoding="cascade", weight=0.5)),
        ("range", "weight", ANYTHING, dict(decoding="ensemble", weight=1.5)),
        ("range", "contrast", ANYTHING, dict(decoding="ensemble", contrast=-0.1)),
    ],
)
def test_an_impossible_request_is_refused(code, path, value, fields):
    with refused(RequestError, code, path):
        ContinueRequest.parse(**fields)


@pytest.mark.parametrize(
    ("code", "path", "value", "fields"),
    [
        ("range", "alpha", 1.5, dict(decoding="cascade", alpha=1.5)),
        ("range", "alpha", -1.5, dict(decoding="cascade", deferral="diff", alpha=-1.5)),
        ("conflict", "contrast", 0.5, dict(decoding="ensemble", weight=0.5, contrast=0.5)),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused_before_anything_is_made(models, code, path, value, fields):
    before = models[0].evaluations
    with refused(RequestError, code, path, value=value):
        models[0].synthesize([ContinueRequest.parse(**fields)])
    assert models[0].evaluations == before


def test_a_draft_that_is_missing_or_of_another_tokenizer_is_refused(models):
    target, _, stranger = models
    lonely = model_of(target.facts, 0)
    for decoding in ("cascade", "ensemble"):
        with refused(RequestError, "missing", "components.draft"):
            lonely.synthesize([ContinueRequest(decoding=decoding)])
    lonely.attach("draft", stranger)
    for decoding in ("cascade", "ensemble"):
        with refused(RequestError, "conflict", "components.draft"):
            lonely.synthesize([ContinueRequest(decoding=decoding)])
    with refused(UnisonoError, "conflict", "draft"):
        cascade_curve(target, stranger, ["Ada"])


def test_the_curve_lies_between_the_target_and_the_draft(models):
    target, draft, _ = models
    prompts = ["Ada has ", "Ben has "] * 12
    points = cascade_curve(target, draft, prompts, deferrals={"chow": (0.0, 1.0)}, weights=(1.0, 0.0), length=20)
    by = {(point.law, point.at): point for point in points}
    mine, its = by["target", None], by["draft", None]
    assert its.bits > mine.bits > 0 and 1 < mine.tokens_per_evaluation <= 5 and its.tokens_per_evaluation == 1
    # At the ends of its range a law is the target's or the draft's; there every draft is kept.
    for law, at_target, at_draft in (("chow", 0.0, 1.0), ("mixture", 1.0, 0.0)):
        assert by[law, at_target].bits == pytest.approx(mine.bits, rel=0.25)
        assert by[law, at_draft].bits == pytest.approx(its.bits, rel=0.25)
        assert by[law, at_draft].tokens_per_evaluation > 3.5 > by[law, at_target].tokens_per_evaluation


@torch.no_grad()
def test_bits_are_those_of_the_target_by_hand(models):
    target, draft, _ = models
    point = cascade_curve(target, draft, ["Ada has "], deferrals={}, weights=(), length=12)[0]
    from unisono_text.lossless.curve import _Texts

    texts = _Texts(target, draft, ["Ada has "], 12, 0)
    from unisono.verify import KVCache, speculative

    out = texts._decode(torch.tensor(texts.rows), lambda memory: speculative(draft.causal, 4, KVCache))
    ids, start = out.tokens[0, : int(out.length[0])].tolist(), len(texts.rows[0])
    bits = 0.0
    for at in range(start, len(ids)):
        law = target.predict(torch.tensor([ids[:at]]))[0, -1].double().log_softmax(-1)
        bits -= float(law[ids[at]])
    said = target.tokenizer.decode(ids[start:])
    assert point.bits == pytest.approx(bits / torch.tensor(2.0).log().item() / len(said), rel=1e-5)


def test_a_curve_is_read_between_its_points():
    points = [
        Point("target", None, 2.0, 2.0, 1.0),
        Point("draft", None, 4.0, 1.0, 0.0),
        Point("chow", 0.9, 3.5, 5.0, 1.0),
        Point("chow", 0.5, 2.5, 3.0, 1.0),
        Point("mixture", 0.5, 2.8, 2.4, 1.0),
    ]
    assert between(points, 3.0) == {"chow": 4.0}
    assert between(points, 2.4) == {"chow": pytest.approx(2.8), "mixture": pytest.approx(2.2)}


@pytest.mark.parametrize(
    ("code", "path", "given"),
    [
        ("empty", "prompts", dict(prompts=[])),
        ("range", "length", dict(length=0)),
        ("limit", "length", dict(length=60)),
    ],
)
def test_a_curve_of_nothing_is_refused(models, code, path, given):
    call = {"prompts": ["Ada"], **given}
    with refused(UnisonoError, code, path):
        cascade_curve(models[0], models[1], call.pop("prompts"), **call)


def test_the_command_prints_a_table_and_writes_the_points(models, tmp_path, monkeypatch, capsys):
    import unisono
    from unisono_text.lossless import curve

    target, draft, _ = models

    class Loaded:
        def __init__(self, model):
            self.model = model

    monkeypatch.setattr(unisono, "load", lambda name, device: Loaded({"big": target, "small": draft}[name]))
    (tmp_path / "text").write_text("Ada has 3 red cats. Ben has 4. " * 9, encoding="utf-8")
    given = ["big", "--draft", "small", "--text", str(tmp_path / "text"), "--json", str(tmp_path / "points")]
    curve.main([*given, "--prompt", "8", "--prompts", "4", "--length", "10", "--deferral", "chow"])
    said = capsys.readouterr().out
    assert said.count("\n| chow |") == 5 and "Half-way" in said
    points = json.loads((tmp_path / "points").read_text(encoding="utf-8"))
    assert [point["law"] for point in points[:2]] == ["target", "draft"] and len(points) == 2 + 5 + 5
    with refused(RequestError, "limit", "prompts", value=400):
        curve.main([*given, "--prompts", "400"])
