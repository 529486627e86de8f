"""Front ends: known phonemes, words, numbers, punctuation, and what they refuse."""

import hashlib
import sys
import types
from itertools import pairwise

import pytest
import unisono_sound.text.frontend as module
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import CheckpointError, DataError, MissingExtra, RequestError
from unisono_sound.text import CHARACTERS, IPA, front_end, front_end_of
from unisono_sound.text.symbols import END, SPACE, SPECIALS, START


@pytest.fixture(scope="module")
def english():
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
    return front_end("espeak", "en-us")


def spelled(read):
    """The symbols of each written word."""
    words = ["" for _ in read.words]
    for symbol, word in zip(read.symbols, read.word_of, strict=True):
        if word >= 0:
            words[word] += symbol
    return dict(zip([word.text for word in read.words], words, strict=True))


def test_known_phonemes(english):
    read = english("Hello, world!")
    assert read.symbols == (
        START, "h", "ə", "l", "ˈoʊ", ",", "w", "ˈɜː", "l", "d", "!", END,
    )  # fmt: skip
    assert read.word_of == (-1, 0, 0, 0, 0, -1, 1, 1, 1, 1, -1, -1)
    assert [(w.text, w.start, w.end) for w in read.words] == [("Hello", 0, 5), ("world", 7, 12)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("of the first", {"of": "ʌv", "the": "ðə", "first": "fˈɜːst"}),
        ("in 1999 twice", {"1999": "nˈaɪntiːnhˈʌndɹɪdnˈaɪntinˈaɪn", "twice": "twˈaɪs"}),
        ("Dr. Smith paid $3.14", {"Dr": "dˈɑːktɚ", "Smith": "smˈɪθ", "paid": "pˈeɪd"}),
        ("the 42nd, at 10:30", {"42nd": "fˈɔːɹɾisˈɛkənd", "10:30": "tˈɛnθˈɜːɾi"}),
        ("tea & milk 5%", {"&": "ænd", "5%": "fˈaɪvpɚsˈɛnt"}),
        ("minus -5", {"-5": "mˈaɪnəsfˈaɪv"}),
        ("e.g., this", {"e.g": "fˌɔːɹɛɡzˈæmpəl"}),
        ("caf\u00e9 na\u00efve", {"café": "kæfˈeɪ"}),
    ],
)
def test_phonemes_belong_to_written_words(english, text, words):
    found = spelled(english(text))
    assert {word: found[word] for word in words} == words


@pytest.mark.parametrize(
    "text, pauses",
    [
        ("One, two; three: four!", ",;:!"),
        ("No... yes? 'Well,' she said.", "…?,."),
        ("a dash - here — there--and here", "———"),
        ("Mr. Smith, Dr. Jones etc. were there", ","),
        ("It (the cat) slept.", ",,."),
        ("a\n\nb", "."),
    ],
)
def test_punctuation_is_kept_as_pauses(english, text, pauses):
    kept = "".join(s for s in english(text).symbols if s in ",;:.!?…—")
    assert kept == pauses


def test_spaces_stand_between_words_and_never_beside_a_pause(english):
    symbols = english("When we go, it is 25 past 3. Come on!").symbols
    for before, after in pairwise(symbols):
        assert not (before == SPACE and after in (SPACE, END, ",", ".", "!"))
        assert not (after == SPACE and before in (START, ",", ".", "!"))


def test_reading_does_not_depend_on_what_was_read_before(english):
    text = "The judge read it: what a lie!"
    first = english(text)
    english("Etwas völlig anderes…")
    front_end("espeak", "de")("Guten Tag, Welt!")
    assert english(text) == first


def test_every_language_is_spelled_by_the_table():
    pytest.importorskip("espeakng_loader")
    samples = {
        "de": "Fünfzig Häuser, zwölf Bücher.",
        "fr": "Un bon vin blanc, s'il vous plaît.",
        "es": "¿Qué pasó ayer?",
        "pl": "Szczęście i źdźbło.",
        "ru": "Привет, как дела?",
        "el": "Καλημέρα κόσμε.",
        "hi": "नमस्ते दुनिया।",
        "ar": "مرحبا بالعالم",
        "cmn": "你好，世界。",
        "ja": "こんにちは",
        "ko": "안녕하세요",
        "vi": "Xin chào các bạn",
        "en-gb": "The fire is near the poor hour.",
    }
    for language, text in samples.items():
        read = front_end("espeak", language)(text)
        assert len(IPA.encode(read.symbols)) == len(read) > 6, language
        assert all(index in read.word_of for index in range(len(read.words))), language


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abe éñ.,!?'\"-…123 $%&()\n—MrD", max_size=60))
def test_any_plain_text_is_read_or_refused(text):
    pytest.importorskip("espeakng_loader")
    for name in ("espeak", "characters"):
        reader = front_end(name)
        try:
            read = reader(text)
        except RequestError as error:
            assert any(reason in str(error) for reason in ("punctuation only", "is empty", "cannot speak"))
            continue
        assert read.symbols[0] == START and read.symbols[-1] == END
        reader.table.encode(read.symbols)
        owners = [word for word in read.word_of if word >= 0]
        assert owners == sorted(owners) and max(owners) < len(read.words)
        assert all(text[w.start : w.end] == w.text for w in read.words)


@pytest.mark.parametrize("name", ["espeak", "characters"])
@pytest.mark.parametrize(
    ("text", "code", "value", "named"),
    [
        ("", "empty", "", ()),
        (" \n ", "empty", " \n ", ()),
        ("?!… --", "empty", "?!… --", "punctuation only"),
        ("hi \ue000", "unsupported", "\ue000", "(U+E000 unnamed)"),
        ("😀", "empty", "😀", "neither letters nor digits"),
        ("a \x07 b", "unsupported", "\x07", "U+0007"),
        ("你好 hello", "unsupported", "你好", "'你' (U+4F60"),
    ],
)
def test_refused_texts(name, text, code, value, named):
    if name == "espeak":
        pytest.importorskip("espeakng_loader")
    with refused(RequestError, code, "text", value=value, names=named):
        front_end(name, "en-us")(text)


def test_scripts_are_refused_by_language(english):
    with refused(RequestError, "unsupported", "text", value="привет", names="en-us"):
        english("привет")
    assert len(front_end("espeak", "ru")("привет")) > 5


def test_unknown_language_and_front_end():
    with refused(DataError, "unknown", "front_end", value="espek", names="espeak"):
        front_end("espek")
    with refused(DataError, "missing", "front_end", value="no_such_module:read"):
        front_end("no_such_module:read")
    pytest.importorskip("espeakng_loader")
    with refused(RequestError, "unsupported", "language", value="fo"):
        front_end("espeak", "fo")
    with refused(RequestError, "unknown", "language", value="en-uz", names="en-us"):
        front_end("espeak", "en-uz")


def test_missing_wheel_names_the_install_line(monkeypatch):
    import unisono_sound.text.espeak as engine

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    engine.espeak.cache_clear()
    with refused(MissingExtra, "dependency", "espeakng-loader"):
        front_end("espeak")
    engine.espeak.cache_clear()


def test_characters_keep_letters_and_pauses():
    read = front_end("characters")("It's 5 o’clock, Zoë!")
    assert "".join(read.symbols[1:-1]) == "it's 5 o'clock,zoë!"
    assert [word.text for word in read.words] == ["It's", "5", "o’clock", "Zoë"]
    assert len(CHARACTERS.encode(read.symbols)) == len(read)


def test_custom_front_ends(monkeypatch):
    toy = types.ModuleType("toy_front_end")
    toy.flat = lambda text: list("ab a,")
    toy.grouped = lambda text: [["a", "b"], ["a"], [","]]
    monkeypatch.setitem(sys.modules, "toy_front_end", toy)
    for name in ("flat", "grouped"):
        reader = front_end(f"toy_front_end:{name}")
        read = reader("whatever")
        assert read.symbols == (START, "a", "b", SPACE, "a", ",", END)
        assert read.word_of == (-1, 0, 0, -1, 1, -1, -1)
        assert list(reader.table) == [*SPECIALS, "a", "b"], "made from what was read"
    closed = lambda text: list("abc")  # noqa: E731
    closed.symbols = ["a", "b"]
    with refused(RequestError, "unknown", "text", names="c"):
        front_end(closed)("abc")


def test_an_export_imports_no_front_end(monkeypatch):
    def refuse(name):
        raise AssertionError(f"imported {name}")

    monkeypatch.setattr(module.importlib, "import_module", refuse)
    facts = {"front_end": "os:system", "language": "en-us", "symbols": [*SPECIALS, "x"]}
    with refused(CheckpointError, "missing", "front_end", value="os:system"):
        front_end_of(facts)
    assert front_end_of(facts, custom=lambda text: ["x"])("x").symbols == (START, "x", END)


def test_an_export_of_another_table_is_refused():
    facts = {"front_end": "characters", "language": "en-us", "symbols": [*SPECIALS, "x"]}
    with refused(CheckpointError, "version", "front_end", value="characters 2"):
        front_end_of(facts)
    assert front_end_of({**facts, "symbols": list(CHARACTERS)}).name == "characters"
    assert front_end_of({**facts, "symbols": list(CHARACTERS)[:-3]}).name == "characters"


def test_tables_are_fixed():
    """Reordering a table would turn every trained voice to noise; growing at the end would not."""
    digests = {
        name: hashlib.blake2b("\x1f".join(table).encode(), digest_size=8).hexdigest()
        for name, table in (("ipa", IPA), ("characters", CHARACTERS))
    }
    assert (len(IPA), len(CHARACTERS)) == (533, 260)
    assert digests == {"ipa": "58865bfef641cdfe", "characters": "ce34b93df498d438"}
