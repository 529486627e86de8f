"""Model: what it refuses, what it drops, and how long its lines are."""

import json

import pytest
import torch
from unisono import Synthesizer
from unisono.errors import DataError, RecipeError, RequestError
from unisono.recipe import Recipe

from unisono_sketch.data import Letters, make_text
from unisono_sketch.evaluate import evaluate, probe
from unisono_sketch.model import Sketch

LINES = [
    *(json.dumps(make_text(number).model_dump()) for number in range(4)),
    '{"text": "ab", "durations": [1], "values": [0.5]}',
    '{"text": "ab", "durations": [1, 0], "values": [0.5]}',
    '{"text": "ab", "durations": [1, 1], "values": [0.5]}',
    '{"text": "ab"',
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


@pytest.fixture
def synthesizer() -> Synthesizer:
    recipe = Recipe.read("sketch/sketch-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    return Synthesizer(recipe.build_model(data.describe()))


def test_lines_that_cannot_be_used_are_listed(file):
    audit = Letters(str(file), val_size=0).prepare(progress=False)
    assert audit.kept == 4
    dropped = [(drop.id, drop.reason) for drop in audit.dropped]
    assert dropped == [*((f"line {number}", "wrong fields") for number in (5, 6, 7)), ("line 8", "not JSON")]


def test_what_only_the_validation_part_has_is_listed(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [{"text": letter, "durations": [1], "values": [0.5]} for letter in "abcdef"]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    data = Letters(str(path), val_size=2)
    audit = data.prepare(progress=False)
    assert [drop.reason for drop in audit.dropped] == ["unknown letter"] * 2
    assert (len(data.train_set), len(data.val_set), len(data.describe()["letters"])) == (4, 0, 4)


def test_a_file_without_a_text_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Letters(str(tmp_path / "empty.jsonl")).prepare(progress=False)
    assert caught.value.code == "empty"


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"text": "7 dwarfs"}, "value", "text"),
        ({"text": ""}, "empty", "text"),
        ({"text": "a", "pace": 5}, "range", "pace"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field(synthesizer, fields, code, path):
    with pytest.raises(RequestError) as caught:
        synthesizer(**fields)
    assert (caught.value.code, caught.value.path) == (code, path)


@pytest.mark.parametrize(
    ("sizes", "code", "path"), [({"kernel_size": 4}, "value", "model.kernel_size"), ({"dim": 0}, "range", "model.dim")]
)
def test_sizes_that_do_not_fit_are_refused(sizes, code, path):
    with pytest.raises(RecipeError) as caught:
        Sketch(**sizes)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_pace_shortens_and_every_letter_has_its_frames(synthesizer):
    with torch.no_grad():  # about ten frames for each letter
        synthesizer.model.duration.bias[0] = 2.4
    slow, fast = synthesizer("hello"), synthesizer("hello", pace=2.0)
    assert len(slow.values) == sum(slow.durations) and len(slow.durations) == 5
    assert len(fast.values) == pytest.approx(len(slow.values) / 2, abs=1)


def test_it_is_saved_as_what_it_holds(synthesizer, tmp_path):
    made = synthesizer("ab")
    saved = json.loads(made.save(tmp_path / "line.json").read_text(encoding="utf-8"))
    assert (saved["text"], len(saved["values"])) == ("ab", len(made.values))


def test_it_is_measured_on_a_file(synthesizer, file):
    with file.open("a", encoding="utf-8") as opened:
        opened.write('\n{"text": "ß", "durations": [1], "values": [0.5]}')
    report = evaluate(synthesizer, file)
    found = report.value("duration error", "model")
    assert isinstance(found, float) and found >= 0
    assert [failure["id"] for failure in report.failures] == ["text 4"]
    probed = probe(synthesizer, file, limit=2)
    made = synthesizer([synthesizer.request(**fields) for fields in probed.requests])
    assert probed.measure is not None and probed.measure(made)["height error"] >= 0
