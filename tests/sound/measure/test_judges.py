"""Judges: how they are named, what they refuse, and what a report has of their marks."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from refused import refused
from unisono import export
from unisono.errors import DataError, MissingExtra, RequestError
from unisono_sound.measure import ErrorRate, WordJudge, judge
from unisono_sound.measure.judged import judged_rows
from unisono_sound.measure.judges import check_judges
from unisono_sound.measure.scoring import Clip
from unisono_sound.signal import MelSpec


class Marks:
    """A judge of phonemes that hears one error in ten, was trained on one sentence and cannot hear another."""

    unit = "phoneme"

    def __init__(self, name="marks", trained=("known",)):
        self.name, self.trained = name, trained

    def knows(self, language):
        return language == "en-us"

    def trained_on(self, text):
        return text in self.trained

    def errors(self, text, waveform, sample_rate):
        if text == "broken":
            raise RequestError("cannot be heard", code="value", path="audio")
        return ErrorRate(substitutions=int(waveform[0]), total=10)


class Judging:
    """A model that can be a judge."""

    def as_judge(self, name):
        return Marks(name)


def clip(id, system, text, errors):
    wave = np.full(8, float(errors), np.float32)
    return Clip(id, system, text, None, wave, 8000, None, False, MelSpec(), "none")


def test_marks_are_pooled_over_systems_without_sentences_that_were_trained_on():
    clips = [
        clip("a", "recording", "new", 1),
        clip("a", "synthesis", "new", 2),
        clip("b", "recording", "new too", 0),
        clip("b", "synthesis", "new too", 4),
        clip("c", "recording", "known", 9),
        clip("c", "synthesis", "known", 9),
        clip("d", "synthesis", "broken", 1),
    ]
    failures = []
    (row,), facts = judged_rows([Marks()], clips, failures, progress=False)
    assert row.measure == "phoneme error rate by marks" and row.values == {"recording": 5.0, "synthesis": 30.0}
    assert facts == {"marks marks": "3 of 4 sentences"}
    assert [(one["id"], one["system"]) for one in failures] == [("c", "marks"), ("d", "synthesis")]


def test_marks_without_recordings_say_that_the_judges_own_error_is_not_known():
    _, facts = judged_rows([Marks()], [clip("a", "synthesis", "new", 2)], [], progress=False)
    assert "no recording" in facts["marks marks"]


def test_what_a_judge_may_not_mark_is_refused():
    check_judges([Marks(), Marks("other")], ["known", "new"], "en-us")
    with refused(RequestError, "conflict", "judges", value="marks"):
        check_judges([Marks(), Marks()], ["new"], "en-us")
    with refused(RequestError, "unsupported", "judges", value="de", names="marks"):
        check_judges([Marks()], ["new"], "de")
    with refused(DataError, "conflict", "judges", value="marks", names="1"):
        check_judges([Marks()], ["known"], "en-us")


def test_a_recogniser_of_words_counts_words_of_its_language():
    hears = SimpleNamespace(transcribe=lambda waveform, rate: "one too three")
    words = WordJudge("fake", hears)
    pytest.importorskip("jiwer")
    assert words.errors("One, two, three.", np.zeros(8), 8000) == ErrorRate(substitutions=1, total=3)
    assert words.knows("en-gb") and not words.knows("de") and not words.trained_on("one")


@pytest.mark.parametrize("told", ["pocketsphynx", "asr=", "=x"])
def test_what_is_no_judge_is_refused(told):
    with refused(RequestError, "unknown", "--judge", value=told):
        judge(told)


def test_an_export_is_a_judge_where_its_model_is_one(monkeypatch):
    loaded = SimpleNamespace(model=Judging(), info={"model": "asr/x"})
    monkeypatch.setattr(export, "load", lambda where, device: loaded)
    assert judge("ears=some/where").name == "ears"
    loaded.model = object()
    with refused(RequestError, "type", "--judge", value="asr/x"):
        judge("ears=some/where")


def test_whisper_names_the_extra_that_it_comes_with(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with refused(MissingExtra, "dependency", "faster-whisper", names='pip install "unisono[whisper]"'):
        judge("whisper")


def test_whisper_is_asked_as_its_authors_measure_it(monkeypatch, tmp_path):
    calls = {}

    class WhisperModel:
        def __init__(self, name, **options):
            calls.update(options, name=name)

        def transcribe(self, samples, **options):
            calls.update(options)
            return iter([SimpleNamespace(text=" ONE too ")]), None

    normal = SimpleNamespace(EnglishTextNormalizer=lambda: lambda text: text.lower().replace("two", "2"))
    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=WhisperModel))
    monkeypatch.setitem(sys.modules, "whisper_normalizer", SimpleNamespace(english=normal))
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", normal)
    pytest.importorskip("jiwer")
    found = judge(f"whisper={tmp_path}")
    assert found.errors("one two", np.ones(16_000), 16_000) == ErrorRate(substitutions=1, total=2)
    assert calls["name"] == str(tmp_path) and calls["beam_size"] == 5 and calls["compute_type"] == "int8"
    assert calls["condition_on_previous_text"] is False and calls["temperature"] == 0.0
