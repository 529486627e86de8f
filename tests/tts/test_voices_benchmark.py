"""Voices beside their peers (benchmarks/voices.py): what is timed, judged and told, with contenders of known sounds."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the runtime of the peers is not installed")

from unisono.errors import MissingExtra
from unisono.media import Segment

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("voices", "voice_contenders", "voice_words")
RATE = 16000


@pytest.fixture(scope="module")
def loaded():
    """The three modules, as `python benchmarks/voices.py` finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        sys.modules.pop(name)


@pytest.fixture
def contender(loaded):
    class Tone(loaded.voice_contenders.Contender):
        """A tenth of a second for each word, cut off at its end if it is told so."""

        rate = RATE

        def __init__(self, speakers=(), most=None, streams=False, cut=False):
            self.facts, self.most_texts, self.streams, self.cut = {"speakers": speakers}, most, streams, cut
            self.heard = []

        def whole(self, text, speaker=None):
            self.heard.append((text, speaker))
            wave = np.sin(np.arange(RATE // 10 * len(text.split())) / 5).astype(np.float32)
            wave *= np.minimum(1, np.arange(len(wave)) / 800)
            return wave if self.cut else np.pad(wave * wave[::-1] ** 2, 400)

        def stream(self, text, speaker=None):
            yield self.whole("first", speaker)

    return Tone


def test_each_line_is_said_by_its_speaker_where_a_voice_has_it(loaded, contender):
    lines = [loaded.voices.Line("one two", "ann"), loaded.voices.Line("three", "bob")]
    knows, slow, streams = contender(("ann",)), contender(most=1), contender(streams=True)
    timed = loaded.voices.measured({"knows": knows, "slow": slow, "streams": streams}, lines, rounds=2)
    assert sorted(set(knows.heard), key=str) == [("one two", "ann"), ("one two", None), ("three", None)]
    assert list(timed["knows"].sounds) == [0, 1] and list(timed["slow"].sounds) == [0]
    assert timed["knows"].first == timed["knows"].whole
    assert ("first", None) in streams.heard and ("first", None) not in knows.heard


def test_the_table_tells_speed_size_and_what_is_cut_off(loaded, contender):
    lines = [loaded.voices.Line("one two"), loaded.voices.Line("three")]
    voices = {"whole": contender(), "cut": contender(cut=True, most=1)}
    timed = loaded.voices.measured(voices, lines, rounds=1)
    report = {name: loaded.voices.row(voice, timed[name]) for name, voice in voices.items()}
    assert report["whole"]["clipped"] == 0 and report["cut"]["clipped"] == 1
    assert report["whole"]["seconds"] == pytest.approx(0.3 + 4 * 400 / RATE)
    assert report["whole"]["loudest_edge_db"] < -30 < report["cut"]["loudest_edge_db"]
    table = loaded.voices.markdown({"recordings": {"DNSMOS": 3.0}, **report}, 2, 1, 1)
    head, rule, first, second = table.split("\n")[2:6]
    assert head.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert first == "| recordings | – | – | – | – | – | – | 3.00 |"
    assert table.count("cut (1 texts)") == 1


def test_a_peer_that_is_missing_is_named_with_what_brings_it(loaded, contender, monkeypatch):
    def missing(error):
        def make(threads):
            raise error

        return make

    made = {
        "here": (lambda threads: contender(), "some-package"),
        "gone": (missing(ImportError("no")), "one two"),
        "extra": (missing(MissingExtra("three", "tts")), "three"),
        "unasked": (missing(ImportError("no")), "four"),
    }
    monkeypatch.setattr(loaded.voice_contenders, "PEERS", made)
    found, ways = loaded.voice_contenders.peers(1, ["here", "go", "ex"])
    assert list(found) == ["here"]
    assert ways == {"gone": "pip install one two", "extra": "pip install three"}


def test_recordings_are_judged_beside_the_voices_that_speak_the_language(loaded, contender):
    line = loaded.voices.Line("one two", None, (0.5 * contender().whole("one two"), RATE))
    voices = {"voice": contender(), "speed": contender()}
    voices["speed"].judged = False
    timed = loaded.voices.measured(voices, [line], rounds=1)
    clips = loaded.voices.clips_of(voices, timed, [line])
    assert [clip.system for clip in clips] == ["recordings", "voice"]
    power = [np.square(clip.waveform).mean() for clip in clips]
    assert power[0] == pytest.approx(power[1], rel=0.02)  # of one level


def test_words_are_runs_of_letters_that_are_said_without_a_pause(loaded):
    text = "Now, over there 21 birds sang on."
    times = {"Now": (0.1, 0.3), "over": (0.5, 0.7), "there": (0.72, 1.0), "21": (1.0, 1.4), "birds": (1.4, 1.8)}
    times |= {"sang": (1.9, 2.2), "on": (2.2, 2.4)}
    places = {word: text.index(word) for word in times}
    words = [Segment(w, *times[w], "word", (places[w], places[w] + len(w))) for w in times]
    found = loaded.voice_words.runs(text, words)
    assert [said for kind, said in found if kind == 0] == [
        ("over", 0.5, 0.7), ("there", 0.72, 1.0), ("birds", 1.4, 1.8), ("sang", 1.9, 2.2),
    ]  # fmt: skip
    assert [said for kind, said in found if kind == 1] == [("over there", 0.5, 1.0)]
