"""The report of a motion model: what is in it, and what it refuses."""

import json

import pytest
from refused import refused
from unisono import Synthesizer
from unisono.errors import DataError, RequestError
from unisono_motion.measure.evaluate import MODEL, REAL, TOKENIZER, evaluate, held_out


@pytest.fixture(scope="module")
def model(make_motion):
    built = make_motion("motion/mmm-tiny")
    built.attach("matcher", make_motion("motion/matcher-tiny"))
    return built


@pytest.fixture(scope="module")
def report(model, figures):
    return evaluate(
        Synthesizer(model), figures, limit=5, samples=2, pool=4, progress=False, num_steps=2, guidance_scale=1.0
    )


def test_every_measure_has_a_value(report, figures, tmp_path):
    for top in (1, 2, 3):
        for system in (REAL, TOKENIZER, MODEL):
            assert 0 <= report.value(f"R-precision top {top}", system) <= 1
    assert report.value("R-precision top 1", MODEL) <= report.value("R-precision top 3", MODEL)
    for measure in ("FID", "diversity", "distance to the text", "multimodality", "foot sliding", "change of velocity"):
        assert report.value(measure, MODEL) >= 0, measure
    assert report.value("FID", TOKENIZER) > 0
    assert report.value("joints off the clip's", TOKENIZER) > 10  # millimetres: the tokenizer is untrained
    assert report.value("frozen tokens changed", MODEL).startswith("0 of ")
    assert report.value("velocity jump at edits' seams, mean", MODEL) > 0
    assert report.value("velocity jump between captions, mean", MODEL) > 0
    assert report.value("evaluations for it", MODEL) > 0
    assert report.value("2 s of motion by itself, median", MODEL) > 0
    assert report.facts["clips"] == 5 and report.facts["held out"] == "yes"
    kept = json.loads(report.to_json(tmp_path / "report.json").read_text())
    assert {item["id"] for item in kept["items"]} <= set(figures.describe()["held_out"])


def test_the_same_evaluation_gives_the_same_numbers(model, report, figures):
    again = evaluate(
        Synthesizer(model), figures, limit=5, samples=2, pool=4, progress=False, num_steps=2, guidance_scale=1.0
    )
    for section in report.sections[:4]:  # the last one is time
        for row in section.rows:
            for system, value in row.values.items():
                assert again.value(row.measure, system) == pytest.approx(value), row.measure


def test_only_held_out_clips_are_measured(figures):
    data = figures
    everything = [*data.train_set.clips, *data.val_set.clips]
    names = data.describe()["held_out"]
    chosen, seen = held_out(everything, names, 100)
    assert seen and {clip.id for clip in chosen} == set(names)
    chosen, seen = held_out(everything, ["another corpus"], 3)
    assert not seen and len(chosen) == 3


def test_a_broken_edit_would_show(model, figures):
    """The count of changed tokens is not 0 by construction: a model that touches them is found out."""
    fill = model.fill
    model.fill = lambda windows, *watch: [(tokens + 1) % model.codebook_size for tokens in fill(windows, *watch)]
    try:
        broken = evaluate(Synthesizer(model), figures, limit=2, samples=2, pool=2, progress=False, num_steps=1)
    finally:
        model.fill = fill
    assert not broken.value("frozen tokens changed", MODEL).startswith("0 of ")


def test_without_a_matcher_it_says_how_to_give_one(make_motion, figures):
    with refused(RequestError, "missing", "components.matcher"):
        evaluate(Synthesizer(make_motion("motion/mmm-tiny")), figures, progress=False)


def test_what_cannot_be_measured_is_refused(model, figures):
    with refused(DataError, "range", "limit", value=1):
        evaluate(Synthesizer(model), figures, limit=1, progress=False)
    with refused(DataError, "missing", "data.root", value="nowhere"):
        evaluate(Synthesizer(model), "nowhere", progress=False)
    other = type(figures)(num_items=4, fps=30.0, val_size=2, batch_size=2)
    with refused(DataError, "conflict", "data", value="the data"):
        evaluate(Synthesizer(model), other, progress=False)
