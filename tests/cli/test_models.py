"""Models: ``unisono models`` and ``unisono package``."""

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def shelf(voice_export, vocoder_export, tmp_path, monkeypatch) -> Path:
    """A working folder with two exports in ``./checkpoints``, one of them damaged, and things that are none."""
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(voice_export, tmp_path / "checkpoints/some-voice")
    info = json.loads((folder / "unisono.json").read_text())
    info["card"] |= {
        "title": "A [voice]",
        "licence": "CC0",
        "data": "made up",
        "metrics": {"items": "30", "WER": 0.25},
        "headline": "WER",
    }
    (folder / "unisono.json").write_text(json.dumps(info))
    damaged = shutil.copytree(vocoder_export, tmp_path / "checkpoints/damaged")
    (damaged / "unisono.json").write_text("{")
    (tmp_path / "checkpoints/empty").mkdir()
    return folder


def test_the_shelf_is_listed_with_what_is_wrong(command, shelf):
    done = command("models")
    assert done.code == 0 and "tts/fastpitch" in done.out and "WER: 0.25" in done.out and "CC0" in done.out
    assert "is not valid JSON" in done.out and "empty" not in done.out
    damaged, voice = json.loads(command("models", "--json").out)
    assert damaged["name"] == "damaged" and "JSON" in damaged["error"]
    assert (voice["name"], voice["output"], voice["headline"]) == ("some-voice", "Audio", "WER: 0.25")
    assert voice["bytes"] == sum(path.stat().st_size for path in shelf.rglob("*") if path.is_file())


def test_nothing_to_list_is_said(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command("models")
    assert done.code == 0 and str(tmp_path) in done.out
    assert json.loads(command("models", "--json").out) == []


def test_one_is_shown_with_fields_components_and_figures(command, shelf):
    done = command("models", "show", "some-voice")
    lines = done.out.splitlines()
    assert done.code == 0 and lines[0] == "A [voice]"
    for told in ("vocoder         codec/vocos", "WER: 0.25", "one of kathleen, lj", "≥ 0.25, ≤ 4", "made up"):
        assert told in done.out, told
    told = json.loads(command("models", "show", "checkpoints/some-voice", "--json").out)
    assert told["choices"]["speaker"] == ["kathleen", "lj"] and told["figures"] == {"items": "30", "WER": 0.25}
    assert told["request"]["properties"]["pace"]["maximum"] == 4 and told["components"] == {"vocoder": "codec/vocos"}


def test_an_unknown_name_is_one_sentence_for_every_verb(command, shelf):
    for words in (
        ["models", "show", "some-voise"],
        ["generate", "some-voise", "Hello.", "-o", "x.wav"],
        ["generate", "some-voise", "--help"],
        ["evaluate", "some-voise", "data"],
        ["sweep", "some-voise"],
        ["package", "some-voise"],
        ["export", "some-voise", "dest", "--base", "some-voise"],
    ):
        done = command(*words)
        assert done.code == 2 and "did you mean 'some-voice'?" in done.err, (words, done.err)


def test_a_voice_speaks_by_its_name(command, shelf):
    assert command("generate", "some-voice", "Hello.", "-o", "x.wav").code == 0
    assert Path("x.wav").stat().st_size > 1000


def test_exports_are_packaged(command, shelf):
    done = command("package", "some-voice", "checkpoints/some-voice", "--dest", "dist", "--version", "2.0")
    assert done.code == 0
    assert done.out.split() == ["dist/unisono_model_some_voice-2.0-py3-none-any.whl"] * 2
    done = command("package", "some-voice", "some-voice", "--name", "other")
    assert done.code == 2 and "--name" in done.err
    done = command("package", "checkpoints/some-voice", "--name", "other", "--dest", "dist")
    assert done.out.split() == ["dist/unisono_model_other-1.0.0-py3-none-any.whl"]


def test_a_headline_is_one_of_the_metrics(command, shelf):
    Path("metrics.json").write_text('{"WER": 0.25}')
    done = command("export", "run", "dest", "--metrics", "metrics.json", "--headline", "WRE")
    assert done.code == 2 and "did you mean 'WER'?" in done.err
