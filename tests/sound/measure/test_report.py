"""A report of a voice against numbers by hand: what is pooled, what is averaged, and which text is which."""

import json

import numpy as np
import pytest
from unisono_sound.measure import DNSMOS, PitchError, scoring
from unisono_sound.measure import evaluate as module
from unisono_sound.measure.scoring import Clip, Score, score
from unisono_sound.measure.wer import ErrorRate
from unisono_sound.signal import MelSpec

pytest.importorskip("jiwer")
SPEC = MelSpec()
RATE = SPEC.sample_rate


class Hears:
    """Hears one thing in whatever is said."""

    name = "a fake"

    def __init__(self, text):
        self.text = text

    def transcribe(self, waveform, sample_rate):
        return self.text


def clip(system="synthesis", text="one two three four five", heard="one two tree", wave=None, **more):
    wave = np.full(RATE // 4, 0.1, np.float32) if wave is None else wave
    fields = {"reference": None, "copy": False, **more}
    return Clip("a", system, text, None, wave, RATE, mel_spec=SPEC, recogniser=Hears(heard), **fields)


@pytest.fixture(autouse=True)
def one_opinion(monkeypatch):
    monkeypatch.setattr(scoring.measure, "dnsmos", lambda wave, rate: DNSMOS(3.0, 3.5, 4.0, 3.2))


def test_what_was_heard_is_held_against_what_was_written():
    """Five words written, three heard, one of them wrong: one substitution and two deletions of five, not of three."""
    found = score(clip())
    assert found.words == ErrorRate(substitutions=1, deletions=2, insertions=0, total=5)
    # "one two three four five" → "one two tree": 23 characters, of which 12 are gone.
    assert (found.characters.total, found.characters.deletions, found.characters.insertions) == (23, 11, 0)
    more = score(clip(text="one", heard="one two three"))
    assert more.words == ErrorRate(insertions=2, total=1) and more.words.rate == 2.0


def test_the_level_is_in_decibels_of_power():
    assert score(clip()).level_db == pytest.approx(-20, abs=1e-4)  # 10 log10 0.1²
    assert score(clip(wave=np.zeros(RATE // 4, np.float32))).level_db == pytest.approx(-120)


def test_a_measure_that_fails_is_noted_and_leaves_the_rest(monkeypatch):
    monkeypatch.setattr(scoring.measure, "dnsmos", lambda wave, rate: 1 / 0)
    found = score(clip())
    assert found.mos is None and found.words is not None
    assert found.failures == ["DNSMOS: ZeroDivisionError: division by zero"]


def test_each_row_of_the_report_by_hand():
    """Two systems, two clips each, all values different: rates are pooled over words, the rest are plain means."""
    scores = [
        Score(
            words=ErrorRate(1, 0, 0, 2), characters=ErrorRate(0, 1, 2, 10), mos=DNSMOS(1.0, 2.0, 3.0, 4.0), pesq=2.0,
            stoi=0.5, mcd=4.0, pitch=PitchError(0.3, 0.1), length_ratio=0.8, level_db=-20.0,
        ),
        Score(
            words=ErrorRate(0, 0, 3, 8), characters=ErrorRate(1, 1, 0, 40), mos=DNSMOS(2.0, 4.0, 4.0, 4.5), pesq=3.0,
            stoi=0.7, mcd=7.0, pitch=PitchError(float("nan"), 0.5), length_ratio=1.3, level_db=-30.0,
        ),
        Score(words=ErrorRate(0, 1, 0, 4)),
    ]  # fmt: skip
    clips = [clip("synthesis"), clip("synthesis"), clip("recording")]
    quality, words = module._sections(clips, scores)
    found = {row.measure: row.values for row in [*quality.rows, *words.rows]}
    for name, value in {
        "word error rate": 40.0,  # 4 errors of 10 words; the mean of the rates would be 43.75
        "character error rate": 10.0,  # 5 of 50
        "DNSMOS overall": 1.5,
        "DNSMOS signal": 3.0,
        "DNSMOS background": 3.5,
        "DNSMOS P.808": 4.25,
        "PESQ": 2.5,
        "STOI": 0.6,
        "mel-cepstral distortion": 5.5,
        "pitch error": 30.0,  # cents, of the one that has voiced frames
        "voicing error": 30.0,
        "length ratio": 1.05,
        "duration error": 25.0,  # the mean of 20 and 30 %, not 5 %
        "level": -25.0,
    }.items():
        assert found[name]["synthesis"] == pytest.approx(value), name
    assert found["word error rate"]["recording"] == 25.0
    assert all(found[name]["recording"] is None for name in ("PESQ", "length ratio", "character error rate"))
    better = {row.measure: row.better for row in [*quality.rows, *words.rows]}
    assert better["word error rate"] == better["pitch error"] == "lower" and better["STOI"] == "higher"
    assert better["length ratio"] == "1"


def test_controls_are_held_against_the_same_sentence_as_it_is():
    """A voice of tones: twice as loud is +6.02 dB of it, an octave is +12 semitones, half as long is a pace of 2."""
    times = np.arange(RATE) / RATE

    def made(hz=200.0, gain=0.1, seconds=1.0):
        from unisono import Audio

        wave = gain * np.sin(2 * np.pi * hz * times[: round(seconds * RATE)])
        return module._Voice(Audio(wave.astype(np.float32)[None], RATE))

    plain = made()
    assert made(gain=0.2).energy_from(plain) == pytest.approx(20 * np.log10(2), abs=0.01)
    assert made(seconds=0.5).pace_from(plain) == pytest.approx(2, rel=0.05)
    assert plain.pace_from(made(seconds=0.5)) == pytest.approx(0.5, rel=0.05)


def test_an_item_keeps_both_texts_and_is_plain():
    one = clip()
    kept = module._record(one, score(one))
    assert (kept["text"], kept["heard"]) == ("one two three four five", "one two tree")
    assert kept["words"] == {"substitutions": 1, "deletions": 2, "insertions": 0, "total": 5}
    assert "failures" not in kept and json.dumps(kept)
