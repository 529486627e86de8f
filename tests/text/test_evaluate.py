"""Evaluation of text models: what a model that knows nothing must score, and the command line."""

import io
import json
import math

import flat
import pytest
import torch
from refused import refused
from rich.console import Console
from unisono import Synthesizer, plugin
from unisono.cli import main
from unisono.errors import DataError
from unisono.evaluation import sweep
from unisono.export import load_component, save_export
from unisono.recipe import Recipe
from unisono_text.corpus.chat import ChatData
from unisono_text.corpus.data import ToyData
from unisono_text.corpus.files import FilesData
from unisono_text.measure.evaluate import HELD, MODEL, corpus_of, evaluate, nats_of, probe, words
from unisono_text.models.ar import Autoregressive
from unisono_text.models.mdlm import MDLM

SIZES = {"dim": 16, "num_layers": 1, "num_heads": 2, "filter_dim": 32, "dropout": 0.0}
PERPLEXITY = "judge's perplexity"


def toy(**kwargs) -> ToyData:
    data = ToyData(**{"num_items": 16, "val_size": 24, **kwargs})
    data.prepare()
    return data


def made(kind, facts, seed: int = 0, uniform: bool = False, **kwargs):
    """A model that knows nothing: random, or with equal chances for all tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        model = flat.make(kind, **SIZES, **kwargs)
        model.build(facts)
    if uniform:
        model.net.head.weight.data.zero_()
    return model.eval()


def tiny(name: str, facts):
    """The model of a tiny recipe, with its components."""
    read = Recipe.read(f"text/{name}-tiny")
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        model = read.build_model(facts)
    for role, where in read.components.items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    return model.eval()


@pytest.fixture(scope="module")
def data() -> ToyData:
    return toy()


def test_equal_chances_cost_what_the_vocabulary_says(data):
    facts = data.describe()
    model = made(Autoregressive, facts, uniform=True)
    model.attach("judge", made(Autoregressive, facts, uniform=True))
    report = evaluate(Synthesizer(model), data, limit=10, progress=False, length=8)
    assert report.value("perplexity per token", MODEL) == pytest.approx(facts["vocabulary"], rel=1e-5)
    tokens = sum(len(data.val_set.item(i * len(data.val_set) // 10, torch.Generator())["tokens"]) for i in range(10))
    characters = report.value("characters measured", HELD)
    bits = tokens * math.log2(facts["vocabulary"]) / characters
    assert report.value("bits per character", MODEL) == pytest.approx(bits, rel=1e-5)
    assert math.isnan(report.value("  standard error of the drawing", MODEL))  # there is no drawing
    for system in (HELD, MODEL):
        assert report.value(PERPLEXITY, system) == pytest.approx(facts["vocabulary"], rel=1e-5)
        assert 0 < report.value("entropy, nats", system) < math.log(facts["vocabulary"])
        assert 0 <= report.value("self-BLEU", system) <= 1
    assert report.value("evaluations of the network", MODEL) > 0
    assert report.value("positions computed", MODEL) > 0
    assert len(report.items) == 10 and report.facts["length"] == 8
    with io.StringIO() as shown:
        Console(file=shown, width=100).print(report.table())
        assert "bits per character" in shown.getvalue()


def test_a_bound_that_is_drawn_tells_its_error(data):
    facts = data.describe()
    model = made(MDLM, facts, uniform=True)
    report = evaluate(Synthesizer(model), data, limit=10, num_samples=64, progress=False, length=6, num_steps=2)
    found, error = report.value("perplexity per token", MODEL), report.sections[0].rows[3].values[MODEL]
    assert "64 samples" in report.sections[0].name
    assert abs(found - facts["vocabulary"]) < 6 * error + 1e-4
    assert report.facts["judge"].startswith("none: give one")
    with pytest.raises(KeyError):
        report.value(PERPLEXITY, MODEL)
    assert report.value("evaluations of the network", MODEL) == 2


def test_a_judge_reads_text_for_text(data):
    facts = data.describe()
    model, judge = made(Autoregressive, facts), made(Autoregressive, facts, seed=1)
    model.attach("judge", judge)
    report = evaluate(Synthesizer(model), data, limit=4, progress=False, length=12)
    texts = [item["text"] for item in report.items if words(item["text"])]
    nats = float(judge.score(texts).sum())
    expected = math.exp(nats / sum(len(judge.tokenizer.encode(text)) for text in texts))
    assert report.value(PERPLEXITY, MODEL) == pytest.approx(expected, rel=1e-4)


def test_a_judge_may_have_other_tokens_and_a_shorter_context(data):
    other = toy(tokenizer="bytes", context=8)
    judge = made(Autoregressive, other.describe(), uniform=True)
    model = made(Autoregressive, data.describe())
    model.attach("judge", judge)
    report = evaluate(Synthesizer(model), data, limit=4, progress=False)
    assert report.value(PERPLEXITY, MODEL) == pytest.approx(259, rel=1e-5)
    # All of these characters are one byte, and so one of the judge's tokens.
    assert report.value("judge's bits per character", HELD) == pytest.approx(math.log2(259), rel=1e-5)


def test_rows_are_measured_one_by_one(data):
    model = made(Autoregressive, data.describe())
    rows = [(data.val_set.item(i, torch.Generator())["tokens"].tolist(), i % 3) for i in range(6)]
    together = nats_of(model, rows, 1, 1)[:, 0]
    alone = [float(nats_of(model, [row], 1, 1)[0, 0]) for row in rows]
    assert together == pytest.approx(alone, rel=1e-5)
    # What is given costs nothing, and the rest the more.
    assert nats_of(model, [(rows[0][0], 0)], 1, 1) > nats_of(model, [(rows[0][0], 5)], 1, 1)


@pytest.mark.parametrize("between", ["", "?"])
def test_prompts_are_the_corpus_own_and_are_not_judged(tmp_path, between):
    rows = [{"prompt": f"{n}+{n}=", "answer": str(2 * n)} for n in range(30)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = flat.make(
        ChatData,
        root=str(tmp_path),
        before="",
        between=between,
        tokenizer="characters",
        context=16,
        val=0.5,
        batch_size=2,
    )
    data.prepare(progress=False)
    model = made(MDLM, data.describe(), uniform=True)
    model.attach("judge", made(Autoregressive, data.describe(), uniform=True))
    report = evaluate(Synthesizer(model), data, limit=8, progress=False, length=3, num_steps=1)
    prompts = [item["request"]["text"] for item in report.items]
    assert all(prompt.endswith("=") for prompt in prompts) and report.items[0]["request"]["chat"] is True
    assert all(item["text"].startswith(prompt + between) for item, prompt in zip(report.items, prompts, strict=True))
    held = [str(2 * int(prompt.partition("+")[0])) for prompt in prompts]
    assert report.value("characters measured", HELD) == sum(map(len, held))
    assert report.value(PERPLEXITY, HELD) == pytest.approx(data.tokenizer.vocabulary, rel=1e-5)
    # At another place the corpus is read in the same form.
    model.recipe = {"data": {"name": "text/chat", "root": "elsewhere", "tokenizer": "nowhere", "val": 0.5}}
    again = corpus_of(model, str(tmp_path))
    again.prepare(progress=False)
    assert again.form == data.form and again.texts() == data.texts()
    # The ends that fill a canvas are one end here, so that an answer costs what it says.
    assert report.value("tokens", HELD) == pytest.approx(sum(map(len, held)) / len(held))


def test_a_sweep_shows_variety_beside_perplexity(data):
    model = made(MDLM, data.describe())
    model.attach("judge", made(Autoregressive, data.describe(), seed=1))
    asked = probe(Synthesizer(model), data, limit=3)
    assert list(asked.better) == [
        PERPLEXITY, "entropy, nats", "self-BLEU", "distinct pairs"
    ]  # fmt: skip
    found = sweep(Synthesizer(model), asked, {"num_steps": [1, 2]}, {"length": 12}, repeats=2, batch_size=3)
    assert [point.evaluations for point in found.points] == [1, 2]
    assert all(len(point.measures[PERPLEXITY]) == 2 for point in found.points)
    assert found.facts.keys() >= {f"{name} of held-out text" for name in asked.better}


def test_a_corpus_at_another_place_is_read_in_the_models_tokens(tmp_path, data):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(f"Ada has {number} red apples.")
    model = made(Autoregressive, data.describe())
    whole = corpus_of(model, str(tmp_path))
    whole.prepare(progress=False)
    assert isinstance(whole, FilesData) and whole.val_set is None and whole.tokenizer.digest == data.tokenizer.digest
    report = evaluate(Synthesizer(model), tmp_path, limit=3, progress=False, length=4)
    assert "all of it: no part is known to be held out" in report.facts["corpus"]
    model.recipe = {"data": {"name": "text/files", "root": "elsewhere", "documents": "file", "val": 0.3,
                             "vocabulary": 500, "batch_size": 64}}  # fmt: skip
    part = corpus_of(model, str(tmp_path))
    part.prepare(progress=False)
    assert len(part.val_set.documents) == 4
    model.recipe["data"]["val"] = ["own.txt"]
    assert corpus_of(model, str(tmp_path)).val == 0.0


def test_what_cannot_be_measured(data, tmp_path):
    model = made(Autoregressive, data.describe())
    with refused(DataError, "range", "num_samples", value=1, names="2"):
        evaluate(Synthesizer(model), data, num_samples=1)
    with refused(DataError, "limit", "limit", value=1, names="2"):
        evaluate(Synthesizer(model), data, limit=1)
    with refused(DataError, "conflict", "data", names=["Tokenizer(bytes, 259 ids)", "Tokenizer(characters"]):
        evaluate(Synthesizer(model), toy(tokenizer="bytes"))
    (tmp_path / "x.txt").write_text("日本語")
    with refused(DataError, "empty", "data.root", value={"unknown characters": 1}, names="1"):
        evaluate(Synthesizer(model), tmp_path)


NAMES = sorted(plugin.get("text").evaluators)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_measured_and_swept(data, name):
    model = tiny(name, data.describe())
    assert "judge" in model.roles
    model.attach("judge", made(Autoregressive, data.describe(), seed=1))
    report = evaluate(Synthesizer(model), data, limit=2, num_samples=2, progress=False, length=4)
    assert report.value("bits per character", MODEL) > 0
    assert report.value("evaluations of the network", MODEL) > 0
    assert report.value("positions computed", MODEL) > 0 or report.value("tokens", MODEL) == 0
    asked = probe(Synthesizer(model), data, limit=2)
    assert set(asked.measure(Synthesizer(model)([{**asked.requests[0], "length": 4}] * 2))) == set(asked.better)


def test_the_models_were_all_there():
    assert len(NAMES) >= 10 and set(NAMES) == set(plugin.get("text").models) == set(plugin.get("text").sweeps)


def test_the_command_line_writes_and_measures(tmp_path, data, capsys):
    facts = data.describe()
    model, judge = (
        save_export(tiny(kind, facts), tmp_path / name) for kind, name in (("mdlm", "model"), ("ar", "judge"))
    )
    out = tmp_path / "out.txt"
    asked = ["generate", str(model), "Ada has", "-o", str(out), "--length=8", "--num-steps=2"]
    assert main(asked) == 0
    assert out.read_text(encoding="utf-8").startswith("Ada has")
    assert main([*asked[:4], str(tmp_path / "out.json"), *asked[5:], "--plot", str(tmp_path / "order.png")]) == 0
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["text"] == out.read_text(encoding="utf-8") and len(written["order"]) == len(written["tokens"])
    assert (tmp_path / "order.png").stat().st_size > 1000
    (tmp_path / "corpus").mkdir()
    for number in range(6):
        (tmp_path / "corpus" / f"{number}.txt").write_text(f"Ben has {number} blue eggs.")
    numbers = tmp_path / "numbers.json"
    code = main(
        ["evaluate", str(model), str(tmp_path / "corpus"), "--limit=2", "--json", str(numbers),
         "--component", f"judge={judge}"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    report = json.loads(numbers.read_text(encoding="utf-8"))
    assert [section["name"].partition(" (")[0] for section in report["sections"]] == [
        "Held-out text", "What it writes", "What that costs",
    ]  # fmt: skip
    assert report["sections"][1]["rows"][0]["measure"] == PERPLEXITY
