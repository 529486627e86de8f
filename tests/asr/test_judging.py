"""A recogniser as a judge, and its own evaluation, by one that hears exactly what is said."""

import json

import numpy as np
import pytest
import torch
from refused import refused
from tones_heard import RATE, TONES, listener, say, tone_model
from unisono import cli, export, plugin
from unisono.errors import DataError, RequestError
from unisono_asr.evaluate import HEAD, MODEL, evaluate
from unisono_asr.facts import digest_of
from unisono_asr.judging import UnitJudge
from unisono_sound.measure import ErrorRate, Judging
from unisono_sound.signal import write_audio

pytest.importorskip("jiwer")


class Outsider:
    """Hears one thing, whatever is said."""

    name = "outsider"

    def transcribe(self, waveform, sample_rate):
        return "bad cab"


@pytest.fixture
def corpus(tmp_path):
    """Three recordings; what is said in the second is not quite its text."""
    folder = tmp_path / "corpus"
    (folder / "wavs").mkdir(parents=True)
    said = {"one": ("Bad cab.", "bad cab"), "two": ("A deaf head.", "a deaf had"), "three": ("Face.", "face")}
    for name, (_, sound) in said.items():
        write_audio(folder / "wavs" / f"{name}.wav", torch.from_numpy(say(sound)[0]), RATE)
    lines = "\n".join(f"{name}|{text}" for name, (text, _) in said.items())
    (folder / "metadata.csv").write_text(lines, encoding="utf-8")
    return folder


def test_a_judge_counts_units_and_knows_what_it_was_trained_on():
    model = tone_model(trained_on=[digest_of("Bad cab.")])
    assert isinstance(model, Judging)
    judge = model.as_judge("ears")
    assert isinstance(judge, UnitJudge) and (judge.name, judge.unit) == ("ears", "character")
    assert judge.errors("A deaf head.", say("a deaf had")[0], RATE) == ErrorRate(0, 1, 0, 9)
    assert judge.errors("bad", say("bad", 44_100)[0], 44_100) == ErrorRate(0, 0, 0, 3)
    assert judge.errors("bad", np.zeros(RATE, np.float32), RATE) == ErrorRate(0, 3, 0, 3)
    assert judge.trained_on("bad, cab") and not judge.trained_on("cab bad")
    assert judge.knows("en-us") and judge.knows("en-gb") and not judge.knows("de")
    with refused(RequestError, "unknown", "text"):
        judge.errors("xyz", say("bad")[0], RATE)


def test_a_report_counts_what_was_misheard(corpus):
    report = evaluate(listener(), str(corpus), outsider=Outsider(), progress=False)
    assert report.systems == [MODEL, HEAD, "outsider"]
    # one letter of 19, one word of 6
    assert report.value("letter error rate", MODEL) == pytest.approx(100 * 1 / 19)
    assert report.value("word error rate", MODEL) == pytest.approx(100 / 6)
    assert report.value("word error rate", HEAD) == pytest.approx(100 / 6)
    # "bad cab" is the first sentence; of the others nothing is right
    assert report.value("word error rate", "outsider") == pytest.approx(100 * (0 + 3 + 2) / 6)
    assert report.value("token count error", MODEL) == pytest.approx(100 * (1 / 9) / 3)
    assert report.value("token count error", "outsider") is None
    assert report.value("words: right", MODEL) == pytest.approx(100 * 5 / 6)
    assert report.value("real-time factor, median", MODEL) > 0
    assert {item["system"] for item in report.items} == {MODEL, HEAD, "outsider"} and not report.failures


def test_sentences_that_were_trained_on_are_not_measured(corpus):
    report = evaluate(listener(trained_on=[digest_of("face")]), str(corpus), outsider=None, progress=False)
    assert report.facts["sentences"] == 2 and report.systems == [MODEL, HEAD]
    everything = [digest_of(text) for text in ("Bad cab.", "A deaf head.", "Face.")]
    with refused(DataError, "empty", "data", value=3):
        evaluate(listener(trained_on=everything), str(corpus), outsider=None, progress=False)


def test_a_recording_that_fails_leaves_the_rest(corpus):
    (corpus / "wavs" / "two.wav").write_bytes(b"RIFF")
    report = evaluate(listener(), str(corpus), outsider=None, progress=False)
    assert report.value("letter error rate", MODEL) == 0
    assert [(failure["id"], failure["system"]) for failure in report.failures] == [("two", "recording")]


def test_the_verb_takes_judges_where_a_plugin_has_them(corpus, tmp_path, monkeypatch, capsys):
    asked = {}

    def measure(synthesizer, data, *, limit, checkpoint, judges=()):
        asked.update(data=data, judges=judges)
        return evaluate(synthesizer, data, limit=limit, outsider=None, progress=False)

    monkeypatch.setattr(export, "load", lambda checkpoint, **options: listener())
    monkeypatch.setattr(plugin, "resolve", lambda name, role: measure)
    numbers = tmp_path / "numbers.json"
    command = ["evaluate", "MODEL", str(corpus), "--json", str(numbers), "--judge", "asr=x", "--judge", "whisper"]
    assert cli.main(command) == 0
    assert asked["judges"] == ["asr=x", "whisper"] and json.loads(numbers.read_text("utf-8"))["systems"] == [
        MODEL,
        HEAD,
    ]

    monkeypatch.setattr(plugin, "resolve", lambda name, role: evaluate)
    assert cli.main(command) == 2
    assert "--judge" in capsys.readouterr().err


def test_tones_are_apart():
    """What the recogniser of these tests rests on: no tone is a neighbour's within a step."""
    assert min(b - a for a, b in zip(TONES.values(), list(TONES.values())[1:], strict=False)) >= 300
