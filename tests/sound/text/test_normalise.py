"""Normalising: a table of what written English is said as, word by word; the oracle of what is left to espeak-ng is its
own reading of the words.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
pytest.importorskip("num2words", reason="num2words is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import RequestError
from unisono_sound.text import NORMALISERS, front_end, normaliser_of, tokenize
from unisono_sound.text.english.numbers import Numbers, roman
from unisono_sound.text.normalise import said_as, said_by_kind

TABLE = [
    tuple(line.split("\t"))
    for line in Path(__file__).with_name("english.tsv").read_text(encoding="utf-8").splitlines()
    if "\t" in line
]
CORPORA = Path(os.environ.get("UNISONO_SHARED", Path(__file__).parents[4] / "shared")) / "data"


def said(text: str, language: str = "en-us") -> list[str]:
    """Return what each word is said as: the words of a rule, or the word as it is written."""
    tokens = list(tokenize(text))
    forms = said_as(NORMALISERS["en"], tokens, language)
    return [form or token.text for form, token in zip(forms, tokens, strict=True)]


@pytest.fixture(scope="module")
def reader():
    return front_end("espeak", "en-us")


def sounds(reader, words: str) -> list[str]:
    return [symbol.lstrip("ˈˌ") for symbol in reader(words).symbols[1:-1] if symbol not in (" ", ".")]


def test_the_table_is_long_and_has_each_text_once():
    assert len(TABLE) >= 300
    assert len({written for written, _ in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("written", "words"), TABLE, ids=[written for written, _ in TABLE])
def test_each_word_is_said_as_the_table_says(reader, written, words):
    tokens = list(tokenize(written))
    wanted = words.split(" | ")
    assert len(tokens) == len(wanted), [token.text for token in tokens]
    forms = said_as(NORMALISERS["en"], tokens, "en-us")
    for token, form, want in zip(tokens, forms, wanted, strict=True):
        if form is not None:
            assert form == want, token.text
        else:  # left to espeak-ng, which must read it alike
            assert sounds(reader, token.text) == sounds(reader, reader.letters(want)), token.text


@pytest.mark.parametrize(
    ("written", "words"),
    [("5 - 3", "five minus three"), ("WHAT IS IT", "what is it"), ("THIS IS AN ORDER", "this is an order")],
)
def test_what_depends_on_the_sentence_is_left_to_the_front_end(reader, written, words):
    assert said(written) == written.split()
    assert sounds(reader, written) == sounds(reader, words)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("10/11/2024", ["the tenth of november twenty twenty four"]),
        ("10-11-2024", ["the tenth of november twenty twenty four"]),
        ("2024-11-10", ["the tenth of november twenty twenty four"]),
        ("12/31/1999", ["the thirty first of december nineteen ninety nine"]),
        ("$105", ["one hundred and five dollars"]),
        ("1250 kg", ["one thousand two hundred and fifty", "kilograms"]),
    ],
)
def test_british_english_has_the_day_first_and_an_and(written, words):
    assert said(written, "en-gb") == words


def test_roman_numerals_are_read_as_they_are_written():
    marks = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
    ]
    for number in range(1, 4000):
        text, rest = "", number
        for value, mark in [*marks, (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]:
            text += mark * (rest // value)
            rest %= value
        assert roman(text) == number


def test_what_is_no_roman_numeral_has_no_value():
    assert [roman(text) for text in ("", "IIII", "VX", "IC", "abc", "iv", "MMMM")] == [None] * 7


@pytest.mark.parametrize("year", [1000, 1066, 1100, 1101, 1900, 1905, 1999, 2000, 2009, 2010, 2024, 2100, 9999])
def test_years_are_their_two_halves(year):
    words = Numbers("en-us").year(year)
    century, rest = divmod(year, 100)
    if century in (10, 20) and rest < 10:
        assert words == Numbers("en-us").cardinal(year)
    else:
        assert words.startswith(Numbers("en-us").cardinal(century))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(alphabet="0123456789$€£%.,:/-–'°#@+xkmgMIVXsth &", min_size=1, max_size=12),
            st.sampled_from([written for written, _ in TABLE]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_word_vanishes_whatever_is_written(parts):
    tokens = list(tokenize(" ".join(parts)))
    if not tokens:
        return
    forms = said_as(NORMALISERS["en"], tokens, "en-us")
    assert len(forms) == len(tokens)
    assert all(form is None or any(c.isalnum() for c in form) for form in forms)


def test_a_word_of_letters_in_a_sentence_is_left_alone():
    text = "We can see it in the US, as it is, and so may I on a march day; no, the sun is up!"
    assert said(text) == [token.text for token in tokenize(text)]


def test_a_number_of_many_digits_is_said_digit_by_digit():
    assert said("$" + "1" * 40) == [" ".join(["one"] * 40) + " dollars"]


def test_the_language_decides(reader):
    assert normaliser_of("en-gb") is NORMALISERS["en"] and normaliser_of("de") is None


def test_a_missing_package_names_its_extra(monkeypatch):
    import sys

    from unisono.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(MissingExtra, match=r"unisono\[tts\]"):
        Numbers("en-us").cardinal(5)


@dataclass
class Wrong:
    """A normaliser that returns or raises what it is given."""

    answer: object
    version: str = "wrong"

    def __call__(self, tokens, language):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_normaliser_that_throws_is_named_with_the_sentence():
    tokens = list(tokenize("Two words"))
    with refused(RequestError, "failed", "normalise", value="Two words", names=["Two words", "ZeroDivisionError"]):
        said_as(Wrong(ZeroDivisionError()), tokens, "en-us")
    refusal = RequestError("no", code="value", path="text")
    with refused(RequestError, "value", "text"):
        said_as(Wrong(refusal), tokens, "en-us")


@pytest.mark.parametrize(
    ("answer", "code", "value"),
    [([None], "shape", 1), ([None, ""], "value", ""), ([None, "…"], "value", "…"), ([None, 5], "value", 5)],
)
def test_a_normaliser_that_loses_words_is_refused(answer, code, value):
    with refused(RequestError, code, "normalise", value=value):
        said_as(Wrong(answer), list(tokenize("Two words")), "en-us")


@pytest.mark.parametrize(
    ("kind", "form", "text", "words"),
    [
        ("characters", "", "A1-b", "A one dash B"),
        ("spell-out", "", "NASA", "N A S A"),
        ("digits", "", "2024", "two zero two four"),
        ("telephone", "", "+1555", "plus one five five five"),
        ("cardinal", "", "2024", "two thousand twenty four"),
        ("cardinal", "", "-1,234.5", "minus one thousand two hundred thirty four point five"),
        ("number", "", "XIV", "fourteen"),
        ("ordinal", "", "5", "fifth"),
        ("ordinal", "", "21st", "twenty first"),
        ("ordinal", "", "IV", "fourth"),
        ("fraction", "", "3/4", "three quarters"),
        ("date", "", "10/11/2024", "october eleventh twenty twenty four"),
        ("date", "mdy", "10/11/2024", "october eleventh twenty twenty four"),
        ("date", "dmy", "10/11/2024", "the tenth of november twenty twenty four"),
        ("date", "ymd", "2024/11/10", "november tenth twenty twenty four"),
        ("date", "y", "2005", "two thousand five"),
        ("date", "md", "10/11", "october eleventh"),
        ("date", "dm", "10/11", "the tenth of november"),
        ("date", "my", "5/2024", "may twenty twenty four"),
        ("date", "ym", "2024-05", "may twenty twenty four"),
        ("time", "", "14:30", "fourteen thirty"),
        ("time", "hms12", "2:30pm", "two thirty P M"),
        ("currency", "", "$5.50", "five dollars and fifty cents"),
        ("unit", "", "5km", "five kilometers"),
        ("year", "", "905", "nine hundred five"),
        ("roman", "", "XIV", "fourteen"),
    ],
)
def test_say_as_names_the_kind(kind, form, text, words):
    (token,) = tokenize(text)
    assert said_by_kind([token], "en-us", kind, form) == [words]


@pytest.mark.parametrize(
    ("kind", "form", "text"),
    [
        ("date", "", "hello"), ("date", "", "13/13/2024"), ("date", "md", "13/1"),
        ("cardinal", "", "five"), ("ordinal", "", "x"),
        ("digits", "", "hello"), ("time", "", "25:00"), ("currency", "", "5"), ("unit", "", "5"), ("roman", "", "abc"),
        ("fraction", "", "half"), ("year", "", "20024"),
    ],
)  # fmt: skip
def test_say_as_of_another_kind_is_refused(kind, form, text):
    with refused(RequestError, "value", "text", value=text, names=[text, kind]):
        said_by_kind(list(tokenize(text)), "en-us", kind, form)


def test_say_as_with_an_unknown_format_is_refused():
    with refused(RequestError, "unknown", "text", value="xyz", names="mdy"):
        said_by_kind(list(tokenize("10/11/2024")), "en-us", "date", "xyz")


def test_say_as_in_a_language_without_rules_spells_and_refuses_the_rest():
    tokens = list(tokenize("ABC"))
    assert said_by_kind(tokens, "de", "characters", "") == ["A B C"]
    assert said_by_kind(list(tokenize("12")), "de", "digits", "") == ["1 2"]
    assert said_by_kind(list(tokenize("12")), "de", "cardinal", "") == [None]
    with refused(RequestError, "unsupported", "text", value="date", names=["de", "date"]):
        said_by_kind(tokens, "de", "date", "")


def transcripts(name: str) -> list[str]:
    """Return the normalised transcripts of a packed corpus; skips where it is not here."""
    import tarfile

    archive = CORPORA / f"{name}.tar"
    if not archive.is_file():
        pytest.skip(f"{archive} is not here")
    with tarfile.open(archive) as files:
        (entry,) = [member for member in files if member.name.endswith("metadata.csv")]
        text = files.extractfile(entry).read().decode("utf-8")  # type: ignore[union-attr]
    return [line.split("|")[-1] for line in text.splitlines()]


@pytest.mark.parametrize(("name", "most"), [("kathleen", 0), ("ljspeech", 8)])
def test_normalised_transcripts_need_no_normalising(name, most):
    """Words of no rule keep their phonemes by construction; here, that transcripts have hardly any other."""
    changed = {}
    for text in dict.fromkeys(transcripts(name)):
        forms = said_as(NORMALISERS["en"], tokens := list(tokenize(text)), "en-us")
        if any(forms):
            changed[text] = [t.text for t, form in zip(tokens, forms, strict=True) if form]
    assert len(changed) <= most, changed
    assert {word for words in changed.values() for word in words} <= {"e.g", "i.e"}


def test_raw_transcripts_are_read_as_the_normalised_ones(reader):
    """LJSpeech has both: what its readers said of numbers is the oracle. The day of a month is said with "of" here."""
    import tarfile

    archive = CORPORA / "ljspeech.tar"
    if not archive.is_file():
        pytest.skip(f"{archive} is not here")
    with tarfile.open(archive) as files:
        text = files.extractfile("LJSpeech-1.1/metadata.csv").read().decode("utf-8")  # type: ignore[union-attr]
    pairs = [line.split("|")[1:3] for line in text.splitlines()]
    pairs = [(raw, normalised) for raw, normalised in pairs if any(c.isdigit() for c in raw)]
    assert len(pairs) > 20
    alike = 0
    for raw, normalised in pairs:
        words = " ".join(said(raw))
        alike += sounds(reader, words) == sounds(reader, " ".join(t.text for t in tokenize(normalised)))
    assert alike >= 0.8 * len(pairs), (alike, len(pairs))
