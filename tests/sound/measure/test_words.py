"""The normaliser, error rates and recognisers."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import MissingExtra, RequestError
from unisono.extras import optional
from unisono_sound.measure import (
    ErrorRate,
    Whisper,
    character_error_rate,
    normalise_english,
    recogniser,
    word_error_rate,
)
from unisono_sound.measure.normalise import cardinal, ordinal, year


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello, World!", "hello world"),
        ("It’s “fine” — isn't it?", "it's fine isn't it"),
        ("'Tis the boys' co-operation", "tis the boys co operation"),
        ("Mr. and Mrs Smith, Dr. O’Neil, etc.", "mister and missus smith doctor o'neil et cetera"),
        ("St. Paul's", "saint paul's"),
        ("The end. No more.", "the end no more"),
        ("No. 7", "number seven"),
        ("1,234 men", "one thousand two hundred thirty four men"),
        ("in 1845, 1900 and 1907", "in eighteen forty five nineteen hundred and nineteen oh seven"),
        ("the 1840s", "the eighteen forties"),
        ("21st of May", "twenty first of may"),
        ("3.14% & 100°", "three point one four percent and one hundred degrees"),
        ("10:05, 9:00, 12:30", "ten oh five nine o'clock twelve thirty"),
        ("$2.50, £1.01, €0.05", "two dollars and fifty cents one pound and one penny five cents"),
        ("007", "zero zero seven"),
        ("café", "cafe"),
        ("U.S.A.", "u s a"),
        ("", ""),
        ("?! … —", ""),
        ("\U0001f600", ""),
    ],
)
def test_text_is_written_as_it_is_spoken(written, spoken):
    assert normalise_english(written) == spoken


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"[£$€]?[0-9,.:]{1,20}(st|%)?", fullmatch=True))
def test_any_text_becomes_plain_words(text):
    spoken = normalise_english(text)
    assert set(spoken) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert "  " not in spoken and spoken == spoken.strip()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (40, "forty"),
        (101, "one hundred one"),
        (1000, "one thousand"),
        (1_000_001, "one million one"),
        (10**15 - 1, "nine hundred ninety nine trillion"),
    ],
)
def test_cardinals(number, words):
    assert cardinal(number).startswith(words)


def test_ordinals_and_years():
    assert [ordinal(n) for n in (1, 2, 3, 5, 8, 9, 12, 20, 23, 100)] == [
        "first", "second", "third", "fifth", "eighth", "ninth", "twelfth", "twentieth",
        "twenty third", "one hundredth",
    ]  # fmt: skip
    assert year(1999) == "nineteen ninety nine"


def test_word_errors_are_the_edits_that_were_made():
    pytest.importorskip("jiwer")
    # one substitution, one deletion, two insertions among 6 + 2 words
    found = word_error_rate(["The cat sat on the mat.", "Good night!"], ["the bat sat on mat", "a good long night"])
    assert found == ErrorRate(substitutions=1, deletions=1, insertions=2, total=8)
    assert found.rate == 0.5
    assert word_error_rate(["Mr. Lee paid $5"], ["mister lee paid five dollars"]).errors == 0


def test_character_errors_count_spaces():
    pytest.importorskip("jiwer")
    found = character_error_rate(["to day"], ["today"])
    assert (found.deletions, found.total) == (1, 6)


def test_a_reference_without_words_counts_insertions():
    pytest.importorskip("jiwer")
    found = word_error_rate(["!"], ["two words"])
    assert (found.insertions, found.total) == (2, 0)
    assert np.isnan(found.rate)


def test_a_rate_may_be_above_one_and_is_none_without_words():
    assert word_error_rate(["one"], ["one two three four"]).rate == 3.0
    assert math.isnan(word_error_rate([], []).rate)


def test_unknown_recogniser_is_refused_with_the_nearest_name():
    with refused(RequestError, "unknown", "recogniser", value="pocketsphynx", names="pocketsphinx"):
        recogniser("pocketsphynx")


def test_missing_package_names_the_install_line():
    with refused(MissingExtra, "dependency", "no-such-package", names='pip install "unisono[evaluate]"'):
        optional("no-such-package", "no_such_package")


def test_pocketsphinx_depends_on_the_waveform_alone():
    pytest.importorskip("pocketsphinx")
    hear = recogniser("pocketsphinx")
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.1, size=3000).astype(np.float32)
    tone = np.sin(np.arange(5000) * 0.1).astype(np.float32)
    alone = hear.transcribe(tone, 16000)
    hear.transcribe(noise, 16000)
    assert hear.transcribe(tone, 16000) == alone
    assert hear.transcribe(np.zeros(16000, np.float32), 16000) == ""


def test_pocketsphinx_refuses_unknown_settings():
    pytest.importorskip("pocketsphinx")
    with refused(RequestError, "value", "recogniser", names="beem"):
        recogniser("pocketsphinx", beem=1)


def test_whisper_is_called_without_context(monkeypatch):
    calls = {}

    class WhisperModel:
        def __init__(self, name, **options):
            calls["name"] = name

        def transcribe(self, samples, **options):
            calls.update(options, samples=samples)
            return iter([SimpleNamespace(text=" Hello "), SimpleNamespace(text="world.")]), None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=WhisperModel))
    hear = recogniser("whisper:tiny.en")
    assert hear.transcribe(np.ones(48000, np.float32), 48000) == "Hello world."
    assert calls["name"] == "tiny.en"
    assert len(calls["samples"]) == 16000
    assert calls["condition_on_previous_text"] is False


def test_whisper_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with refused(MissingExtra, "dependency", "faster-whisper", names='pip install "unisono[whisper]"'):
        Whisper()
