"""Voice: paces of words across pieces, seams and segments by hand, without a model."""

from types import SimpleNamespace

import numpy as np
import pytest
from refused import refused
from unisono.errors import RequestError
from unisono_sound.text.frontend import CharacterFrontEnd, Symbols, Word
from unisono_sound.voice import SEAM_SECONDS, SpeechRequest, Voice, seams, segments


@pytest.fixture
def voice():
    reader = CharacterFrontEnd()
    made = Voice(SimpleNamespace(), list(reader.table), ["ann", "bob"])
    made.front_end = reader
    return made


def test_each_word_has_its_own_pace_in_whatever_piece_it_stands(voice):
    words = [f"w{'o' * n}rd" for n in range(1, 9)]
    paces = [0.5 + 0.25 * n for n in range(len(words))]
    request = SpeechRequest(text=" ".join(words), word_paces=paces, pace=2.0, speaker="bob")
    readings = list(voice.read(request, 14))
    assert len(readings) > 3 and {reading.speaker for reading in readings} == {1}
    found = []
    for reading in readings:
        symbols = reading.symbols
        assert reading.ids == [voice.symbols.index(symbol) for symbol in symbols.symbols]
        for index, word in enumerate(symbols.words):
            (own,) = {reading.pace[i] for i, owner in enumerate(symbols.word_of) if owner == index}
            found.append((word.text, own))
        assert {reading.pace[i] for i, owner in enumerate(symbols.word_of) if owner < 0} == {2.0}
    assert found == [(word, 2 * pace) for word, pace in zip(words, paces, strict=True)]


@pytest.mark.parametrize(("name", "row"), [(None, 0), ("ann", 0), ("bob", 1)])
def test_speakers_are_numbered_as_they_are_listed(voice, name, row):
    assert voice.speaker_id(name) == row


@pytest.mark.parametrize("field", ["speaker", "word_paces"])
def test_what_a_voice_does_not_know_is_named(voice, field):
    if field == "speaker":
        with refused(RequestError, "unknown", "speaker", value="bab", names="did you mean 'bob'"):
            voice.speaker_id("bab")
    else:
        with refused(RequestError, "shape", "word_paces", value=1, names="2 words"):
            list(voice.read(SpeechRequest(text="two words", word_paces=[1.0]), 40))


@pytest.mark.parametrize(
    ("before", "after", "first", "last"),
    [
        (False, False, 0.0, 1.0),
        (True, False, 0.3 - SEAM_SECONDS, 1.0),
        (False, True, 0.0, 0.8 + SEAM_SECONDS),
        (True, True, 0.3 - SEAM_SECONDS, 0.8 + SEAM_SECONDS),
    ],
)
def test_a_seam_keeps_two_hundredths_of_a_second_of_silence(before, after, first, last):
    reading = SimpleNamespace(goes_on_before=before, goes_on_after=after)
    assert seams(reading, np.array([0.0, 0.3, 0.8, 1.0])) == pytest.approx((first, last))


def test_a_seam_takes_no_silence_that_is_not_there():
    reading = SimpleNamespace(goes_on_before=True, goes_on_after=True)
    assert seams(reading, np.array([0.0, 0.005, 0.99, 1.0])) == (0.0, 1.0)


def test_segments_are_symbols_that_last_and_the_words_around_them():
    symbols = Symbols(
        ("<start>", "a", " ", "b", "c", "<end>"), (Word("A", 0, 1), Word("bc", 2, 4)), (-1, 0, -1, 1, 1, -1)
    )
    borders = np.array([0.0, 0.1, 0.3, 0.3, 0.4, 0.6, 0.7])
    found = segments(symbols, borders, [(0, 1), (2, 4)])
    assert [(s.label, s.kind) for s in found] == [
        ("<start>", "phoneme"), ("a", "phoneme"), ("b", "phoneme"), ("c", "phoneme"), ("<end>", "phoneme"),
        ("A", "word"), ("bc", "word"),
    ]  # fmt: skip
    assert [(s.start, s.end, s.span) for s in found[-2:]] == [(0.1, 0.3, (0, 1)), (0.3, 0.6, (2, 4))]
    assert [s.span for s in segments(symbols, borders)] == [None] * 7


def test_the_pieces_of_a_text_are_the_text(voice):
    text = "  One, two. \n\nThree (four) five, six seven. "
    readings = list(voice.read(SpeechRequest(text=text), 14))
    assert len(readings) > 2 and "".join(reading.text for reading in readings) == text
    for reading in readings:
        assert reading.characters == len(reading.text)
        said = [reading.text[first:last] for first, last in reading.spans]
        assert said == [word.text for word in reading.symbols.words]
