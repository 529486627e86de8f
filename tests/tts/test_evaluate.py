"""Evaluation of a voice, with a voice made of harmonic tones whose every number is known."""

import json
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from refused import refused
from unisono import Audio
from unisono.errors import DataError, RequestError
from unisono_sound import measure
from unisono_sound.corpus import Manifest, Utterance
from unisono_sound.measure import WordJudge
from unisono_sound.measure import evaluate as module
from unisono_sound.measure.evaluate import held_out, long_text
from unisono_sound.signal import GriffinLim, MelSpec, write_audio
from unisono_tts.evaluate import evaluate

HAS_PESQ = find_spec("pesq") is not None  # compiled at install, and so not a dependency

for package in ("jiwer", "librosa", "pystoi", "onnxruntime", "speechmos"):
    pytest.importorskip(package)

RATE = 22050
TEXTS = ["the first of all sentences", "and the second of them"]


def tone(hz, seconds, gain=1.0):
    """A buzz whose level rises and falls like syllables."""
    times = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * k * hz * times) / k for k in range(1, 12))
    return (gain * 0.03 * buzz * (1.1 + np.sin(2 * np.pi * 4 * times))).astype(np.float32)


class Vocoder:
    mel_spec = MelSpec()

    def decode(self, mel, lengths=None):
        return GriffinLim(self.mel_spec, num_iters=2).decode(mel, lengths)


class PlainRequest(BaseModel):
    text: str
    speaker: str | None = None


class Request(PlainRequest):
    pitch_shift: float = 0.0
    energy: float = 0.0
    pace: float = 1.0


class Voice:
    """Speaks every text as a tone; the words "a bad one" make it fail."""

    info = {"model": "tts/fake"}  # noqa: RUF012

    def __init__(self, vocoder=None, request=PlainRequest):
        self.model = SimpleNamespace(
            vocoder=vocoder or Vocoder(),
            facts={"speakers": ["ann"]},
            device=torch.device("cpu"),
            Request=request,
        )
        self.asked = []

    def __call__(self, text, **fields):
        request = self.model.Request(text=text, **fields)
        self.asked.append(request)
        if "a bad one" in text:
            raise ValueError("cannot say this")
        full = Request(**request.model_dump())
        hz = 180 * 2 ** (full.pitch_shift / 12)
        wave = tone(hz, 1.1 / full.pace, 10 ** (full.energy / 20))
        return Audio(wave[None], RATE)

    def stream(self, text, **fields):
        time.sleep(0.02)
        yield self(text, **fields)


class Hearer:
    """Hears one text, whatever is said."""

    name = "a fake"

    def transcribe(self, waveform, sample_rate):
        return TEXTS[0]


@pytest.fixture(autouse=True, scope="module")
def one_opinion():
    opinion = measure.DNSMOS(3.0, 3.5, 4.0, 3.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "dnsmos", lambda waveform, rate: opinion)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("corpus")
    (tmp_path / "ann" / "wavs").mkdir(parents=True)
    lines = []
    for index, text in enumerate(TEXTS):
        for take in range(2):
            name = f"{index}-{take}"
            wave = torch.from_numpy(np.pad(tone(180.0, 1.0), 2205))
            write_audio(tmp_path / "ann" / "wavs" / f"{name}.wav", wave, RATE)
            lines.append(f"{name}|{text}|{text}")
    (tmp_path / "ann" / "metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "ann"


@pytest.fixture(scope="module")
def report(corpus, one_opinion):
    judges = [WordJudge("someone", Hearer())]
    return evaluate(Voice(request=Request), str(corpus), recogniser=Hearer(), judges=judges, progress=False)


def test_one_take_of_each_text_and_all_four_systems(report):
    assert report.failures == []
    assert len(report.items) == 2 * 4
    assert {item["id"] for item in report.items} == {"0-0", "1-0"}
    assert report.systems == ["recording", "vocoded", "griffin-lim", "synthesis"]
    assert report.facts["with a recording"] == 2


def test_word_errors_are_pooled(report):
    # TEXTS[0] is heard for both; each has five words
    wrong = measure.word_error_rate([TEXTS[1]], [TEXTS[0]])
    for system in report.systems:
        assert report.value("word error rate", system) == pytest.approx(100 * wrong.errors / (5 + 5), rel=1e-9)


def test_judges_mark_every_system_beside_the_recogniser(report):
    for system in report.systems:
        own = report.value("word error rate by someone", system)
        assert own == pytest.approx(report.value("word error rate", system))
    assert report.facts["someone marks"] == "2 of 2 sentences"


def test_a_judge_of_another_language_is_refused_before_anything_is_spoken(corpus):
    voice = Voice()
    voice.model.facts["language"] = "de"
    with refused(RequestError, "unsupported", "judges", value="de"):
        evaluate(voice, str(corpus), recogniser=Hearer(), judges=[WordJudge("someone", Hearer())], progress=False)
    assert voice.asked == []


def test_copies_have_pesq_and_synthesis_has_lengths(report):
    assert report.value("PESQ", "synthesis") is None
    assert report.value("PESQ", "recording") is None
    if HAS_PESQ:
        assert 1 <= report.value("PESQ", "griffin-lim") <= 4.65
    else:
        assert report.value("PESQ", "griffin-lim") is None
    assert report.value("STOI", "vocoded") > 0.5
    assert report.value("length ratio", "synthesis") == pytest.approx(1.1, abs=0.04)
    assert report.value("duration error", "synthesis") == pytest.approx(10, abs=4)
    assert report.value("pitch error", "synthesis") < 30
    assert report.value("DNSMOS P.808", "vocoded") == pytest.approx(3.2)
    assert report.value("level", "recording") == pytest.approx(-23.9, abs=1)


def test_controls_come_out_as_asked(report):
    assert report.value("pitch_shift -4", "synthesis") == pytest.approx(-4, abs=0.15)
    assert report.value("pitch_shift +4", "synthesis") == pytest.approx(4, abs=0.15)
    assert report.value("energy +6", "synthesis") == pytest.approx(6, abs=0.1)
    assert report.value("energy -6", "synthesis") == pytest.approx(-6, abs=0.1)
    assert report.value("pace 1.25", "synthesis") == pytest.approx(1.25, abs=0.05)
    assert report.value("pace 0.8", "synthesis") == pytest.approx(0.8, abs=0.05)


def test_speed_is_measured(report):
    factor = report.value("real-time factor, median", "synthesis")
    assert 0 < factor < 1
    assert report.value("times real time, median", "synthesis") == pytest.approx(1 / factor)
    assert report.value("first audio of a stream", "synthesis") >= 20


def test_the_report_is_one_table_and_valid_json(report, tmp_path):
    assert report.table().row_count > 20
    written = json.loads(report.to_json(tmp_path / "e.json").read_text())
    assert written["items"][0]["words"]["total"] == 5


def test_one_bad_sentence_is_listed_and_stops_nothing(corpus):
    bad = ["a bad one", TEXTS[0]]
    report = evaluate(Voice(), str(corpus), texts=bad, recogniser=Hearer(), progress=False)
    assert {failure["id"] for failure in report.failures} >= {"text 0"}
    assert "cannot say this" in report.failures[0]["reason"]
    assert [i["id"] for i in report.items if i["system"] == "synthesis"] == ["0-0"]
    assert report.value("word error rate", "synthesis") == 0


def test_a_broken_recording_is_listed_and_its_sentence_still_spoken(corpus, tmp_path):
    broken = Path(shutil.copytree(corpus, tmp_path / "broken"))
    (broken / "wavs" / "0-0.wav").write_bytes(b"RIFF")
    report = evaluate(Voice(), str(broken), recogniser=Hearer(), progress=False)
    assert [(f["id"], f["system"]) for f in report.failures] == [("0-0", "recording")]
    assert [i["system"] for i in report.items if i["id"] == "0-0"] == ["synthesis"]


def test_a_griffin_lim_voice_has_no_vocoder_of_its_own(corpus):
    voice = Voice(GriffinLim(MelSpec()))
    report = evaluate(voice, str(corpus), limit=1, recogniser=Hearer(), progress=False)
    assert report.systems == ["recording", "griffin-lim", "synthesis"]


def test_known_speakers_are_named_and_others_get_the_first_voice(corpus):
    voice = Voice()
    evaluate(voice, {"ann": str(corpus)}, limit=1, recogniser=Hearer(), progress=False)
    assert {request.speaker for request in voice.asked} == {None, "ann"}
    voice = Voice()
    report = evaluate(voice, f"bob={corpus}", limit=1, recogniser=Hearer(), progress=False)
    assert report.facts["speakers that the voice does not know"] == "bob"
    assert {request.speaker for request in voice.asked} == {None}


def test_nothing_to_measure_is_refused(corpus):
    with refused(DataError, "empty", "data", value=0):
        evaluate(Voice(), str(corpus), limit=0, recogniser=Hearer(), progress=False)


def manifest(*texts):
    made = [Utterance(str(i), Path("x.wav"), text, "ann") for i, text in enumerate(texts)]
    return Manifest(tuple(made))


def test_held_out_sentences_are_those_the_voice_lists():
    corpus = manifest("One two.", "Three four.", "one, two", "Five six.")
    chosen, why = held_out(corpus, 10, facts={"held_out": ["One two."]})
    assert [u.id for u in chosen] == ["0"]
    assert why == "listed by the voice"
    chosen, why = held_out(corpus, 10, facts={"held_out": ["Something else."]})
    assert {u.id for u in chosen} == {"0", "1", "3"}
    assert "none of this corpus" in why


def test_without_a_list_the_split_decides_and_order_does_not():
    texts = [f"sentence number {word}" for word in ("one", "two", "three", "four", "five")]
    chosen, _ = held_out(manifest(*texts), 2)
    again, _ = held_out(manifest(*reversed(texts)), 2)
    assert [u.text for u in chosen] == [u.text for u in again]
    _, val = manifest(*texts).split(2)
    assert {u.text for u in chosen} == {u.text for u in val}


def test_given_texts_keep_their_order_and_take_recordings_where_there_are_some():
    chosen, _ = held_out(manifest("One.", "Two."), 3, texts=["New.", "Two.", " ", "two", "One."])
    assert [(u.id, u.text) for u in chosen] == [("text 0", "New."), ("1", "Two."), ("0", "One.")]


def test_long_text_is_cut_at_a_word():
    assert long_text(["one two", "three"], 200).endswith(("one", "two", "three"))
    assert 190 < len(long_text(["one two", "three"], 200)) <= 200
    assert long_text(["abc def"], 7) == "abc def"
    assert long_text(["abc def"], 6) == "abc"


def test_a_fresh_process_measures_start_and_memory(tmp_path, monkeypatch):
    (tmp_path / "unisono.py").write_text(
        "class Piece:\n    seconds = 2.0\n"
        "class Voice:\n    def stream(self, text):\n        yield Piece()\n        yield Piece()\n"
        "def load(path):\n    assert path == 'somewhere'\n    return Voice()\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    found = module.cold_start("somewhere", "short", "long")
    assert 0 < found["first_audio_seconds"] < 60
    assert found["long_peak_mib"] >= found["short_peak_mib"] > 1
    assert found["long_times_real_time"] > 0


def test_a_fresh_process_that_fails_says_why(tmp_path, monkeypatch):
    (tmp_path / "unisono.py").write_text("def load(path):\n    raise ValueError('no such voice')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(RuntimeError, match="no such voice"):
        module.cold_start("somewhere", "short", "long")
