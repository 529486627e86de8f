"""Alignment of sounds whose every time is known, of corpora, and by the verb; and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from tones_heard import RATE, TONE, listener, say, tone_model
from unisono import cli, export
from unisono.data import Audit
from unisono.errors import RequestError
from unisono_asr.align import MIN_FIT
from unisono_asr.aligner import Aligner, symbol_borders
from unisono_asr.alignments import align_corpus
from unisono_asr.request import sound_of_samples
from unisono_sound.corpus import read_durations, read_manifest
from unisono_sound.signal import write_audio
from unisono_sound.text import CharacterFrontEnd

TEXT = "Cab, bad: deaf head!"
LETTERS = [letter for letter in TEXT.lower() if letter.isalpha()]


@pytest.fixture(scope="module")
def aligner():
    return Aligner(tone_model())


def align(aligner, wave, text):
    return aligner.align(sound_of_samples(wave, RATE), text)


def plain(text):
    return re.sub("[^a-z ]", "", text.lower())


def test_words_keep_their_places_and_have_the_times_of_their_letters(aligner):
    wave, times = say(plain(TEXT))
    found = align(aligner, wave, TEXT)
    words = found.transcript.words
    assert [word.label for word in words] == ["Cab", "bad", "deaf", "head"]
    assert [TEXT[slice(*word.span)] for word in words] == [word.label for word in words]
    letters = [s for s in found.transcript.segments if s.kind == "character"]
    assert [s.label for s in letters] == LETTERS
    for segment, (_, start, _) in zip(letters, times, strict=True):
        assert segment.start == pytest.approx(start, abs=0.04)  # the silence between two letters is shared
    # between words there is a silence, which is nobody's
    assert words[1].start - words[0].end > 0.2
    assert found.fit > 0.9 and found.transcript.facts["fit"] == found.fit
    assert found.transcript.text == TEXT


def test_symbols_tile_the_sound_and_pauses_have_the_silences(aligner):
    wave, times = say(plain(TEXT))
    found = align(aligner, wave, TEXT)
    symbols, borders = found.symbols.symbols, np.array(found.borders)
    assert len(borders) == len(symbols) + 1
    assert borders[0] == 0 and borders[-1] == pytest.approx(len(wave) / RATE) and (np.diff(borders) >= 0).all()
    comma = symbols.index(",")
    assert borders[comma + 1] - borders[comma] > 0.25
    assert borders[1] == pytest.approx(times[0][1], abs=0.02)  # <start> is the silence before
    assert borders[-2] > times[-1][2] - 0.02


def test_borders_of_symbols_by_hand():
    read = CharacterFrontEnd()("ab, c.")
    assert read.symbols == ("<start>", "a", "b", ",", "c", ".", "<end>")
    spans = np.array([[0.5, 1.0], [1.0, 1.5], [2.5, 3.0]])
    assert symbol_borders(read, [[1], [2], [4]], spans, 4.0) == (0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 3.5, 4.0)
    # two symbols that are one piece share its time
    assert symbol_borders(read, [[1, 2], [4]], spans[[0, 2]], 4.0)[1:4] == (0.5, 0.75, 1.0)


def test_long_sounds_are_aligned_over_their_windows(aligner):
    text = " ".join(["bad", "cab", "head", "deaf"] * 12)
    wave, times = say(text)
    assert len(wave) / RATE > aligner.model.longest_seconds
    found = align(aligner, wave, text)
    letters = [s for s in found.transcript.segments if s.kind == "character"]
    late = [abs(letter.start - start) for letter, (_, start, _) in zip(letters, times, strict=True)]
    assert len(late) == len(times) and max(late) < TONE


def test_a_silent_stretch_longer_than_a_window_is_passed_over(aligner):
    first, _ = say("bad")
    wave = np.concatenate([first, np.zeros(45 * RATE, np.float32), say("cab")[0]])
    found = align(aligner, wave, "bad cab")
    assert found.transcript.words[0].end < 1 and found.transcript.words[1].start > 45


@pytest.mark.parametrize("text", ["gag hag", "head deaf bad cab", "cab bad deaf hea"])
def test_a_text_of_another_sound_is_refused_with_its_score(aligner, text):
    wave, _ = say(plain(TEXT))
    if text == "cab bad deaf hea":  # a letter too few is still this text
        assert align(aligner, wave, text).fit >= MIN_FIT
        return
    with refused(RequestError, "conflict", "text", names=str(MIN_FIT)) as caught:
        align(aligner, wave, text)
    assert 0 <= caught.value.value < MIN_FIT
    loose = Aligner(aligner.model, min_fit=0.0)
    assert align(loose, wave, text).fit == pytest.approx(caught.value.value, abs=1e-5)


def test_what_cannot_be_aligned_is_refused(aligner):
    wave = say("bad")[0]
    with refused(RequestError, "limit", "text"):
        align(aligner, wave, "bad " * 40)
    with refused(RequestError, "unknown", "text"):
        align(aligner, wave, "xyz")
    with refused(RequestError, "empty", "text"):
        align(aligner, wave, " ... ")
    with refused(RequestError, "empty", "audio"):
        align(aligner, np.zeros(RATE), "bad")
    with refused(RequestError, "range", "min_fit", value=1.5):
        Aligner(aligner.model, min_fit=1.5)


@pytest.fixture
def corpus(tmp_path):
    """Two recordings that can be aligned, one with another text, one whose file is not there."""
    folder = tmp_path / "corpus"
    (folder / "wavs").mkdir(parents=True)
    rows = {"one": ("Bad cab.", "bad cab"), "two": ("A deaf head.", "a deaf head"), "three": ("Gag!", "head bed ace")}
    for name, (_, said) in rows.items():
        write_audio(folder / "wavs" / f"{name}.wav", torch.from_numpy(say(said)[0]), RATE)
    lines = [f"{name}|{written}" for name, (written, _) in rows.items()] + ["four|Dead."]
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_a_corpus_gets_durations_that_fit_its_symbols(aligner, corpus, tmp_path):
    out = tmp_path / "out"
    rows = list(align_corpus(aligner, read_manifest(corpus), out, [".TextGrid"]))
    assert [(row.id, row.reason is None) for row in rows] == [("one", True), ("two", True), ("three", False)]
    given = read_durations(str(out / "durations.jsonl"), Audit("recordings"))
    assert sorted(given) == ["one", "two"]
    read = CharacterFrontEnd()("Bad cab.")
    assert len(given["one"]["times"]) == len(read) + 1
    left_out = [json.loads(line) for line in (out / "left_out.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in left_out] == ["metadata.csv:4", "three"]
    assert 'text = "Bad"' in (out / "one.TextGrid").read_text("utf-8")


def test_the_verb_writes_times_of_a_recording_and_of_a_corpus(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "load", lambda checkpoint, device: listener())
    wave, text = corpus / "wavs" / "one.wav", tmp_path / "said.txt"
    text.write_text("Bad cab.", encoding="utf-8")
    places = [str(tmp_path / f"times{suffix}") for suffix in (".TextGrid", ".srt", ".vtt", ".json")]
    command = ["align", "MODEL", str(wave), "--text-file", str(text), *(f"-o={place}" for place in places)]
    assert cli.main(command) == 0
    assert "fit:" in capsys.readouterr().out
    for place in places:
        assert "cab" in Path(place).read_text("utf-8")
    told = json.loads(Path(places[-1]).read_text("utf-8"))
    assert told["facts"]["fit"] > 0.9 and [word["label"] for word in told["words"]] == ["Bad", "cab"]

    out = tmp_path / "out"
    assert cli.main(["align", "MODEL", str(corpus), "--output-dir", str(out), "--suffix", ".srt"]) == 1
    shown = capsys.readouterr().out
    assert "2 of 4 recordings" in shown and "left out: three" in shown
    assert (out / "two.srt").exists() and not (out / "three.srt").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a.wav"], "TEXT"),
        (["a.wav", "hello"], "-o"),
        (["a.wav", "hello", "--text-file", "t.txt", "-o", "x.srt"], "TEXT"),
        (["a.wav", "hello", "-o", "x.docx"], ".docx"),
        (["corpus", "hello", "--output-dir", "out"], "TEXT"),
        (["corpus", "--output-dir", "out", "--suffix", ".doc"], ".doc"),
    ],
)
def test_the_verb_refuses_what_excludes_itself(given, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["align", "MODEL", *given]) == 2
    assert said in capsys.readouterr().err
