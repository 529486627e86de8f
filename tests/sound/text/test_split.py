"""Words, pauses and pieces: oracles are the text itself and hand-written segmentations."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import RequestError
from unisono_sound.text.split import DIGIT_COST, PAUSE_SECONDS, split_text, tokenize

PROSE = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *str.split("Mr. Dr. e.g. i.e. etc. U.S.A. J. 3.14 10:30 $5 50% -5 1999 hello World it's"),
                *str.split('(so) "Why?" no! … ... -- — - hello,world well-known the He , ; : \' ’tis'),
                *str.split("¿Qué? über 你好 !!! ?! [x]"),
                "\n",
                "\n\n",
            ]
        ),
        st.text(max_size=12),
    ),
    max_size=60,
).map(" ".join)


def cost(text):
    words = list(tokenize(text))
    core = text[words[0].start : words[-1].end]
    return len(core) + (DIGIT_COST - 1) * sum(c.isdigit() for c in core)


@settings(max_examples=200, deadline=None)
@given(PROSE, st.integers(12, 60), st.one_of(st.none(), st.integers(12, 30)))
@example("Mr. 1999", 12, 18)
@example("0\r_", 12, None)
def test_pieces_tile_the_text_within_the_limit(text, limit, first_limit):
    if not list(tokenize(text)):
        with refused(RequestError, "empty", "text"):
            list(split_text(text, limit, first_limit))
        return
    pieces = list(split_text(text, limit, first_limit))
    assert "".join(piece.text for piece in pieces) == text
    end = 0
    for index, piece in enumerate(pieces):
        assert piece.start == end and piece.text == text[piece.start : piece.end]
        end = piece.end
        words = list(tokenize(piece.text))
        assert words, "every piece has something to speak"
        # letters with a tail of combining marks are never parted, whatever their number
        if not any(c for word in words for c in word.text if not c.isalnum()):
            assert cost(piece.text) <= (first_limit or limit if index == 0 else limit)
    assert end == len(text) and pieces[-1].pause == 0


@settings(max_examples=200, deadline=None)
@given(PROSE)
def test_tokens_tile_the_text(text):
    tokens = list(tokenize(text))
    for token in tokens:
        assert token.text == text[token.start : token.end] and token.end <= token.after
        assert any(c.isalnum() or not c.isascii() or c in "%&@#+=<>$~/|^\\*_-" for c in token.text)
    for before, after in pairwise(tokens):
        assert before.after <= after.start
    if tokens:
        assert tokens[-1].after == len(text)


@settings(max_examples=100, deadline=None)
@given(PROSE, st.integers(60, 200))
def test_words_do_not_change_by_splitting(text, limit):
    whole = [token.text for token in tokenize(text)]
    if not whole or max(DIGIT_COST * len(word) for word in whole) > limit:
        return
    parts = [token.text for piece in split_text(text, limit) for token in tokenize(piece.text)]
    assert parts == whole


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("Mr. Smith met Dr. Jones. They talked.", ["Mr. Smith met Dr. Jones.", "They talked."]),
        ("It costs 3.14, i.e. too much. Yes.", ["It costs 3.14, i.e. too much.", "Yes."]),
        ("J. R. R. Tolkien wrote it. I read it.", ["J. R. R. Tolkien wrote it.", "I read it."]),
        ("The U.S. Army left the U.S. He stayed.", ["The U.S. Army left the U.S.", "He stayed."]),
        (
            "Pens, ink, etc. were sold. etc. and so on",
            ["Pens, ink, etc. were sold.", "etc. and so on"],
        ),
        ('"Why?" he asked. "No!" She left.', ['"Why?" he asked.', '"No!"', "She left."]),
        ("See No. 5 and Fig. 2. No. That is it.", ["See No. 5 and Fig. 2.", "No.", "That is it."]),
        ("He sat. Bob ran.", ["He sat.", "Bob ran."]),
        ("Wait... what? Well... Yes.", ["Wait... what?", "Well...", "Yes."]),
        ("hello. how are you?", ["hello.", "how are you?"]),
        ("你好。再见。", ["你好。", "再见。"]),
        ("One line\n\nAnother line\nof it", ["One line", "Another line\nof it"]),
    ],
)
def test_sentences(text, sentences):
    assert [piece.text.strip() for piece in split_text(text)] == sentences


def test_long_sentences_are_cut_at_clauses_then_words_then_letters():
    clauses = "first of all we wait, then we go on; at last we stop."
    assert [p.text for p in split_text(clauses, 25)] == [
        "first of all we wait, ", "then we go on; ", "at last we stop.",
    ]  # fmt: skip
    words = [p.text for p in split_text("aa bb cc dd ee ff gg hh ii", 12)]
    assert words == ["aa bb cc dd ", "ee ff gg hh ", "ii"]
    assert [len(p.text) for p in split_text("x" * 50, 20)] == [20, 20, 10]
    accented = "e\u0301" * 30
    assert all(p.text[0] == "e" for p in split_text(accented, 15))


def test_first_piece_is_a_clause():
    text = "When the sun came up over the hills, " + "we went on and on " * 8 + "home."
    first = next(split_text(text, 220, 60))
    assert first.text == "When the sun came up over the hills, "
    assert first.pause == PAUSE_SECONDS[","]


def test_a_stream_without_punctuation_is_cut_where_phrases_join():
    text = (
        "so we went down to the river and looked at the boats that were lying in the mud because the tide was out and "
        "nobody had come to take them away"
    )
    pieces = list(split_text(text, 48))
    assert [p.text for p in pieces] == [
        "so we went down to the river ", "and looked at the boats ", "that were lying in the mud ",
        "because the tide was out ", "and nobody had come to take them away",
    ]  # fmt: skip
    assert [p.cut for p in pieces] == [True, True, True, True, False]
    assert [p.pause for p in pieces] == [0.0] * 5
    assert not any(p.cut for p in split_text("One, two. Three?", 12))


def lines(text):
    """The pause after each line's last word."""
    return [t.pause for t in tokenize(text) if "\n" in text[t.end : t.after]]


@pytest.mark.parametrize(
    "text, pauses",
    [
        ("Chapter One\nIt was late.", ["."]),
        ("1. First item\n2. Second item\n3. Third", [".", "."]),
        ("milk\r\neggs\r\nbread", [",", ","]),
        ("- milk\n- eggs", ["."]),
        ("Dear Anna,\nThank you:\nAll is well", [",", ":"]),
        ("Mr.\nSmith", [""]),
        ("This is a line of a text that somebody has\nwrapped in an editor at forty-four characters\nso.", ["", ""]),
        ("We went to the north of the country with\nProfessor Higgins in the summer of the year\nand back.", ["", ""]),
        ("A line of more than forty characters that ends\nOf itself: the next word would have fitted into it.", ["."]),
        ("the words of the text are broken by the exam-\nple of a hyphen at the end.", [""]),
    ],
)  # fmt: skip
def test_a_line_end_ends_a_phrase_unless_the_line_is_wrapped(text, pauses):
    assert lines(text) == pauses


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=9), min_size=30, max_size=80), st.integers(52, 90))
def test_wrapping_a_text_changes_no_pause(words, width):
    import textwrap

    text = " ".join(words)
    wrapped = textwrap.fill(text, width)
    assert [(t.text, t.pause) for t in tokenize(wrapped)] == [(t.text, t.pause) for t in tokenize(text)]


def test_pauses_by_punctuation():
    pauses = [p.pause for p in split_text("One, two. Three?\n\nFour: five!", 12)]
    assert pauses == [PAUSE_SECONDS["."], PAUSE_SECONDS["paragraph"], PAUSE_SECONDS["!"] * 0]


def test_a_long_text_takes_no_more_memory_than_a_short_one():
    def peak(text):
        tracemalloc.start()
        for _ in split_text(text):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    sentence = "It was a quiet day, and nobody said a word about it. "
    peak(sentence)
    assert peak(sentence * 400) < peak(sentence * 40) + 20_000


@pytest.mark.parametrize("text", ["a" * 20_000, "7" * 20_000, "word " * 4_000, "!" * 19_999 + "a"])
def test_twenty_thousand_characters(text):
    pieces = list(split_text(text, 220, 60))
    assert "".join(p.text for p in pieces) == text


def test_a_limit_that_is_too_small():
    with refused(RequestError, "range", "limit", value=3, names="12"):
        list(split_text("hello", 3))
