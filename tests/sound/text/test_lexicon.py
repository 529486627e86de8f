"""Lexicon: words said by hand, their languages and cases, and files that are wrong."""

import pytest
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_sound.text import CHARACTERS, IPA, Lexicon, read_lexicon
from unisono_sound.text.lexicon import phonemes_as_symbols


@pytest.fixture
def lexicon(tmp_path):
    """Return a function that reads a lexicon of these lines."""

    def read(*lines: str, table=IPA, kind=RequestError) -> Lexicon:
        path = tmp_path / "words.tsv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_lexicon(path, table, kind)

    return read


@pytest.mark.parametrize(
    ("phonemes", "symbols"),
    [
        ("wˈɪn", [["w", "ˈɪ", "n"]]),
        ("ˈwɪn", [["w", "ˈɪ", "n"]]),
        ("/təˈmɑːtoʊ/", [["t", "ə", "m", "ˈɑː", "t", "oʊ"]]),
        ("ˌæbˈstɹækt", [["ˌæ", "b", "s", "t", "ɹ", "ˈæ", "k", "t"]]),
        ("nˈuː jˈɔːk", [["n", "ˈuː"], ["j", "ˈɔː", "k"]]),
        ("gˈo:t", [["ɡ", "ˈoː", "t"]]),
        ("t͡ʃˈɪp", [["tʃ", "ˈɪ", "p"]]),
    ],
)
def test_phonemes_are_the_longest_symbols_with_stress_at_the_vowel(phonemes, symbols):
    assert [list(group) for group in phonemes_as_symbols(phonemes, IPA)] == symbols


@pytest.mark.parametrize(
    ("phonemes", "value"),
    [("K AE1 T", "K"), ("kæ☃t", "☃"), ("k@t", "@"), ("kæt!", "!"), ("k,æt", ","), ("kætˈ", "ˈ"), ("ˈˌkæt", "ˈ")],
)
def test_what_is_no_phoneme_is_named(phonemes, value):
    with refused(RequestError, "unknown", "text", value=value, names=value):
        phonemes_as_symbols(phonemes, IPA)


@pytest.mark.parametrize("phonemes", ["", " ", "//"])
def test_no_phonemes_are_refused(phonemes):
    with refused(RequestError, "empty", "text"):
        phonemes_as_symbols(phonemes, IPA)


def test_a_voice_of_letters_knows_no_phonemes():
    with refused(RequestError, "unsupported", "text", value="wˈɪn"):
        phonemes_as_symbols("wˈɪn", CHARACTERS)


def test_the_most_exact_entry_wins(lexicon):
    found = lexicon("# words", "", "read\tɹˈiːd", "read\tɹˈɛd\ten-us", "Polish\tpˈoʊlɪʃ\ten", "nguyen\twˈɪn")
    assert found.of("read", "en-us") == phonemes_as_symbols("ɹˈɛd", IPA)
    assert found.of("Read", "en-gb") == phonemes_as_symbols("ɹˈiːd", IPA)
    assert found.of("Polish", "en-gb") and found.of("polish", "en-gb") is None and found.of("Polish", "de") is None
    assert found.of("Nguyen", "de") == found.of("NGUYEN", "vi") == phonemes_as_symbols("wˈɪn", IPA)
    assert found.of("other", "en") is None


def test_rows_and_back_are_the_same_lexicon(lexicon):
    found = lexicon("read\tɹˈiːd", "New-York\tnˈuː jˈɔːk\ten")
    again = Lexicon.from_rows(found.rows(), IPA)
    assert again == found and again.version == found.version
    assert Lexicon().version == "" and found.version != lexicon("read\tɹˈɛd").version


def test_a_lexicon_over_another_wins(lexicon):
    first, second = lexicon("a\tˈeɪ", "b\tbˈiː"), lexicon("a\tˈɑː")
    both = second.over(first)
    assert both.of("a", "en") == phonemes_as_symbols("ˈɑː", IPA) and both.of("b", "en") == first.of("b", "en")


@pytest.mark.parametrize("kind", [RequestError, DataError])
def test_the_same_word_twice_is_refused_with_both_lines(lexicon, kind):
    with refused(kind, "conflict", "words.tsv", value="read", names=["line 3", "line 1"]):
        lexicon("read\tɹˈiːd", "# again", "read\tɹˈiːd", kind=kind)
    assert lexicon("read\tɹˈiːd\ten", "read\tɹˈɛd\tde")


@pytest.mark.parametrize(
    ("line", "code", "value"),
    [
        ("word wˈɜːd", "format", "word wˈɜːd"),
        ("word\t", "format", "word\t"),
        ("\twˈɜːd", "format", "\twˈɜːd"),
        ("a\tb\tc\td", "format", "a\tb\tc\td"),
        ("two words\ttˈuː", "value", "two words"),
        ("word!\twˈɜːd", "value", "word!"),
        ("word\tW ER D", "unknown", "W"),
    ],
)
def test_a_line_that_is_no_entry_is_named(lexicon, line, code, value):
    with refused(RequestError, code, "words.tsv", value=value, names="line 2"):
        lexicon("read\tɹˈiːd", line)


def test_a_file_that_is_not_there_or_is_no_text_is_refused(tmp_path):
    with refused(RequestError, "missing", "nowhere.tsv"):
        read_lexicon(tmp_path / "nowhere.tsv", IPA)
    (tmp_path / "bytes.tsv").write_bytes(b"a\t\xff\xfe")
    with refused(RequestError, "format", "bytes.tsv"):
        read_lexicon(tmp_path / "bytes.tsv", IPA)
