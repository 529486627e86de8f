"""Model: what it refuses, what it drops, and what stays as it was given."""

import json

import pytest
from unisono import Synthesizer
from unisono.errors import DataError, RecipeError, RequestError
from unisono.recipe import Recipe

from unisono_sketch.data import Rows
from unisono_sketch.evaluate import evaluate, probe
from unisono_sketch.model import Sketch

LINES = [
    '{"pattern": "up", "tokens": [1, 2, 3, 4]}',
    '{"pattern": "down", "tokens": [4, 3]}',
    '{"pattern": "up", "tokens": [1, 99]}',
    '{"pattern": "up", "tokens": []}',
    '{"pattern": "up"',
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


@pytest.fixture
def synthesizer() -> Synthesizer:
    recipe = Recipe.read("sketch/sketch-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    return Synthesizer(recipe.build_model(data.describe()))


def test_lines_that_cannot_be_used_are_listed(file):
    data = Rows(str(file), val_size=0)
    audit = data.prepare(progress=False)
    assert (audit.kept, data.describe().patterns) == (2, ("down", "up"))
    dropped = [(drop.id, drop.reason) for drop in audit.dropped]
    assert dropped == [("line 3", "unknown token"), ("line 4", "wrong fields"), ("line 5", "not JSON")]


def test_what_only_the_validation_part_has_is_listed(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"pattern": f"pattern-{number}", "tokens": [1, 2]} for number in range(6)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = Rows(str(path), val_size=2)
    audit = data.prepare(progress=False)
    assert [drop.reason for drop in audit.dropped] == ["unknown pattern"] * 2
    assert (len(data.train_set), len(data.val_set), len(data.describe()["patterns"])) == (4, 0, 4)


def test_a_file_without_a_row_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Rows(str(tmp_path / "empty.jsonl")).prepare(progress=False)
    assert caught.value.code == "empty"


@pytest.mark.parametrize(
    ("sizes", "code", "path"),
    [
        ({"dim": 15}, "shape", "model.dim"),
        ({"num_layers": 0}, "range", "model.num_layers"),
        ({"dropout": 1.0}, "range", "model.dropout"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, code, path):
    with pytest.raises(RecipeError) as caught:
        Sketch(**sizes)
    assert (caught.value.code, caught.value.path) == (code, path)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"pattern": "upp"}, "unknown", "pattern"),
        ({"pattern": "up", "given": [16]}, "range", "given"),
        ({"pattern": "up", "given": [1, 2, 3], "length": 2}, "conflict", "given"),
        ({"pattern": "up", "length": 0}, "range", "length"),
        ({"pattern": "up", "sampler": "best"}, "unknown", "sampler"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field(synthesizer, fields, code, path):
    with pytest.raises(RequestError) as caught:
        synthesizer(**fields)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_what_is_given_stands_and_views_end_with_the_output(synthesizer):
    request = synthesizer.request(pattern="up", length=6, given=[5, 0], num_steps=3)
    views = list(synthesizer.snapshots(request))
    assert [view.tokens.count(-1) for view in views][-1] == 0 < views[0].tokens.count(-1)
    assert all(view.tokens[:2] == (5, 0) for view in views) and views[-1] == synthesizer(request)


def test_it_is_saved_as_what_it_holds(synthesizer, tmp_path):
    made = synthesizer("up", length=5)
    assert json.loads(made.save(tmp_path / "row.json").read_text(encoding="utf-8")) == {"tokens": list(made.tokens)}


def test_it_is_measured_on_a_file(synthesizer, file):
    with file.open("a", encoding="utf-8") as opened:
        opened.write('\n{"pattern": "sideways", "tokens": [1, 2]}')
    report = evaluate(synthesizer, file)
    found = report.value("tokens right", "model")
    assert isinstance(found, float) and 0 <= found <= 1
    assert [failure["id"] for failure in report.failures] == ["row 2"]
    probed = probe(synthesizer, file, limit=2)
    made = synthesizer([synthesizer.request(**fields) for fields in probed.requests])
    assert probed.measure is not None and 0 <= probed.measure(made)["tokens right"] <= 1
