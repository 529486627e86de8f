"""Model: what it refuses, what it drops, and how it is sampled."""

import json

import numpy as np
import pytest
from unisono import Synthesizer
from unisono.errors import DataError, RecipeError, RequestError
from unisono.recipe import Recipe

from unisono_sketch.data import Outlines, make_outline
from unisono_sketch.evaluate import evaluate, probe
from unisono_sketch.model import Sketch

LINES = [
    *(json.dumps(make_outline(number).model_dump()) for number in range(5)),
    '{"shape": "square", "points": [[0, 1], [1, 0]]}',
    '{"shape": "square", "points": [[0, 1], [1, 0], [NaN, 1]]}',
    '{"shape": "square"',
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "outlines.jsonl"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


@pytest.fixture
def synthesizer() -> Synthesizer:
    recipe = Recipe.read("sketch/sketch-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    return Synthesizer(recipe.build_model(data.describe()))


def test_lines_that_cannot_be_used_are_listed(file):
    data = Outlines(str(file), val_size=0)
    audit = data.prepare(progress=False)
    assert audit.kept == 5 and len(data.describe()["shapes"]) == 5
    dropped = [(drop.id, drop.reason) for drop in audit.dropped]
    assert dropped == [("line 6", "wrong fields"), ("line 7", "wrong fields"), ("line 8", "not JSON")]


def test_what_only_the_validation_part_has_is_listed(tmp_path):
    path = tmp_path / "outlines.jsonl"
    lines = [{"shape": f"shape-{number}", "points": [[0, 1], [1, 0], [1, 1]]} for number in range(6)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    data = Outlines(str(path), val_size=2)
    audit = data.prepare(progress=False)
    assert [drop.reason for drop in audit.dropped] == ["unknown shape"] * 2
    assert (len(data.train_set), len(data.val_set), len(data.describe()["shapes"])) == (4, 0, 4)


def test_a_file_without_an_outline_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Outlines(str(tmp_path / "empty.jsonl")).prepare(progress=False)
    assert caught.value.code == "empty"


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"shape": "circel"}, "unknown", "shape"),
        ({"shape": "circle", "points": 2}, "range", "points"),
        ({"shape": "circle", "solver": "parallel", "num_steps": 1}, "conflict", "num_steps"),
        ({"shape": "circle", "guidance_scale": -1}, "range", "guidance_scale"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field(synthesizer, fields, code, path):
    with pytest.raises(RequestError) as caught:
        synthesizer(**fields)
    assert (caught.value.code, caught.value.path) == (code, path)


@pytest.mark.parametrize(
    ("sizes", "code", "path"),
    [
        ({"dim": 15}, "shape", "model.dim"),
        ({"num_layers": 0}, "range", "model.num_layers"),
        ({"forget": 1.0}, "range", "model.forget"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, code, path):
    with pytest.raises(RecipeError) as caught:
        Sketch(**sizes)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_in_parallel_it_draws_the_same_in_fewer_rounds(synthesizer):
    serial = synthesizer("star", num_steps=16)
    rounds = synthesizer.model.rounds
    parallel = synthesizer("star", num_steps=16, solver="parallel")
    assert np.abs(serial.points - parallel.points).max() < 0.05 * np.abs(serial.points).max()
    assert synthesizer.model.rounds - rounds < rounds == 16


def test_it_is_saved_as_what_it_holds(synthesizer, tmp_path):
    made = synthesizer("circle", points=5)
    saved = json.loads(made.save(tmp_path / "outline.json").read_text(encoding="utf-8"))
    assert np.array(saved["points"]).shape == (5, 2)


def test_it_is_measured_on_a_file(synthesizer, file):
    with file.open("a", encoding="utf-8") as opened:
        opened.write('\n{"shape": "blob", "points": [[0, 1], [1, 0], [1, 1]]}')
    report = evaluate(synthesizer, file)
    assert report.value("taken for the shape asked for", "file") == 1
    assert [failure["id"] for failure in report.failures] == ["outline 5"]
    probed = probe(synthesizer, file, limit=2)
    made = synthesizer([synthesizer.request(**fields) for fields in probed.requests])
    assert probed.measure is not None and 0 <= probed.measure(made)["taken for the shape asked for"] <= 1
