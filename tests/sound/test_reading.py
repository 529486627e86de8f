"""Reading: how words are said, what acts on which symbols, pauses in frames; by the front ends, without a model."""

import random
from types import SimpleNamespace

import pytest
from refused import refused
from unisono.errors import RequestError
from unisono_sound.reading import KEPT_FRAMES
from unisono_sound.signal import MelSpec
from unisono_sound.text import PAUSE_SECONDS, front_end, tokenize
from unisono_sound.text.frontend import CharacterFrontEnd, Symbols, Word
from unisono_sound.text.symbols import PAUSES, SPACE
from unisono_sound.voice import MarkedRequest, SpeechRequest, Voice

FRAME = 256 / 22050


def make(reader, **facts) -> Voice:
    facts = SimpleNamespace(language=reader.language, mel_spec=MelSpec(), **facts)
    made = Voice(facts, list(reader.table), ["ann"])
    made.front_end = reader
    return made


@pytest.fixture(scope="module")
def voice():
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
    pytest.importorskip("num2words", reason="num2words is not installed")
    return make(front_end("espeak", "en-us"))


@pytest.fixture
def letters():
    return make(CharacterFrontEnd())


def read(voice, text, limit=220, first_limit=None, **fields):
    return list(voice.read(MarkedRequest(text=text, **fields), limit, first_limit))


def one(voice, text, **fields):
    (reading,) = read(voice, text, **fields)
    return reading


def symbols(reading) -> str:
    return "".join(reading.symbols.symbols[1:-1])


def by_word(reading, values) -> dict[str, set]:
    """Return the values of each word's symbols."""
    found: dict[str, set] = {}
    for value, owner in zip(values, reading.symbols.word_of, strict=True):
        if owner >= 0:
            found.setdefault(reading.symbols.words[owner].text, set()).add(value)
    return found


# ---- words ---------------------------------------------------------------------------------------------------------


def test_figures_are_said_in_words_and_belong_to_what_is_written(voice):
    text = "On Jan. 5, 2024 we paid $5.50 for 3 km."
    reading = one(voice, text)
    assert symbols(reading) == symbols(one(voice, "On january fifth, twenty twenty four we paid five dollars and fifty "
                                                  "cents for 3 kilometers."))  # fmt: skip
    assert [(w.text, text[w.start : w.end]) for w in reading.symbols.words] == [
        (t.text, t.text) for t in tokenize(text)
    ]
    assert set(reading.symbols.word_of) - {-1} == set(range(len(reading.symbols.words)))
    assert symbols(one(voice, text, normalise=False)) != symbols(reading)


def test_what_needs_no_words_keeps_its_phonemes_bit_for_bit(voice):
    chosen = str.split(
        "the wind turned by noon and nobody waved; what would they find, he said. It is over! 25 men, first of all "
        "Smith's naïve café — or so? 1,234 of 5% in (brackets) \"quoted\" o'clock NASA etc. you may 3.14 AT"
    )
    draw = random.Random(0)
    for _ in range(60):
        text = " ".join(draw.choices(chosen, k=draw.randint(1, 25)))
        try:
            plain = [voice.front_end(piece.text) for piece in pieces(text)]
        except RequestError:
            continue
        found = read(voice, text)
        assert [r.symbols.symbols for r in found] == [s.symbols for s in plain]
        assert [r.symbols.word_of for r in found] == [s.word_of for s in plain]
        assert all(r.pitch is None and r.volume is None and not r.held for r in found)


def pieces(text):
    from unisono_sound.text import split_text

    return split_text(text, 220)


def test_words_are_the_same_however_the_text_is_cut(voice):
    text = (
        "We sold them for $5 million in all on January 5, 2024 and then we went down to the river and looked at the "
        "3 km of boats that were lying in the mud at 10:30 a.m. without any sails or oars at all that day"
    )
    sounds = ["".join(symbols(r) for r in read(voice, text, limit)) for limit in (220, 60, 40)]
    bare = [sound.translate(str.maketrans("", "", " ,ˈˌ")) for sound in sounds]
    assert "faɪvmɪliəndɑːlɚz" in bare[0] and "kɪlɑːmɪɾɚz" in bare[0]
    assert all("mɪliəndɑːlɚz" in one and "fɪfθ" in one and "kɪlɑːmɪɾɚz" in one for one in bare)


@pytest.mark.parametrize("markup", ["inline", "ssml"])
def test_phonemes_are_said_as_they_are_written(voice, markup):
    text = {
        "inline": "Eat a [tomato](/təˈmɑːtoʊ/), please.",
        "ssml": 'Eat a <phoneme alphabet="ipa" ph="təˈmɑːtoʊ">tomato</phoneme>, please.',
    }[markup]
    reading = one(voice, text, markup=markup)
    assert symbols(reading).replace(" ", "").endswith("təmˈɑːtoʊ,plˈiːz.")
    word = reading.symbols.words[2]
    assert (word.text, text[word.start : word.end]) == ("tomato", "tomato")
    assert [w.text for w in voice.words(MarkedRequest(text=text, markup=markup))] == ["Eat", "a", "tomato", "please"]


def test_phonemes_stand_for_what_no_front_end_can_read(voice):
    assert symbols(one(voice, "Say [龥](/wˈɪn/) now")).startswith("sˈeɪ wˈɪn ")


def test_a_substitute_is_one_written_word(voice):
    text = 'The <sub alias="World Wide Web, of 1989">WWW</sub> grew.'
    reading = one(voice, text, markup="ssml")
    assert symbols(reading) == symbols(one(voice, "The World Wide Web, of 1989 grew."))
    assert [w.text for w in reading.symbols.words] == ["The", "WWW", "grew"]
    assert {owner for owner in reading.symbols.word_of} == {-1, 0, 1, 2}
    long = 'Well, <sub alias="one two three. Four five six seven eight nine ten eleven twelve">this</sub> is it.'
    assert [[w.text for w in r.symbols.words] for r in read(voice, long, 30, 20, markup="ssml")][1] == ["this"]


def test_say_as_wins_over_the_rules(voice):
    text = 'It was <say-as interpret-as="digits">1999</say-as> and <say-as interpret-as="cardinal">1999</say-as>'
    reading = one(voice, text, markup="ssml", normalise=False)
    words = "It was one nine nine nine and one thousand nine hundred ninety nine"
    assert symbols(reading).replace(" ", "") == symbols(one(voice, words)).replace(" ", "")


def test_another_language_is_read_in_it(voice):
    reading = one(voice, 'He said <lang xml:lang="fr-FR">bonjour le monde</lang> twice', markup="ssml")
    french = front_end("espeak", "fr-fr")("bonjour le monde")
    assert "".join(french.symbols[1:-1]) in symbols(reading)
    assert [w.text for w in reading.symbols.words] == ["He", "said", "bonjour", "le", "monde", "twice"]
    with refused(RequestError, "unknown", "language", names="xx"):
        one(voice, '<lang xml:lang="xx">a</lang>', markup="ssml")


def test_a_lexicon_says_how_words_are_said(voice, tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("nguyen\twˈɪn\nSiobhan\tʃɪvˈɔːn\ten\n5\tfˈɪf\n", encoding="utf-8")
    said = symbols(one(voice, "Nguyen and Siobhan have 5.", lexicon=str(path)))
    assert said.startswith("wˈɪn ") and "ʃɪvˈɔːn" in said and said.endswith("fˈɪf.")
    assert symbols(one(voice, "Nguyen [here](/nˈaʊ/)", lexicon=str(path))) == "wˈɪn nˈaʊ"


def test_a_voice_with_a_lexicon_reads_by_it_and_a_request_may_say_otherwise(tmp_path):
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
    voice = make(front_end("espeak", "en-us"), lexicon=(("nguyen", "wˈɪn", ""), ("river", "ɹˈiː", "")))
    assert symbols(one(voice, "Nguyen river")) == "wˈɪn ɹˈiː"
    (tmp_path / "words.tsv").write_text("river\tɹˈaɪ\n", encoding="utf-8")
    assert symbols(one(voice, "Nguyen river", lexicon=str(tmp_path / "words.tsv"))) == "wˈɪn ɹˈaɪ"


def test_a_normaliser_may_be_replaced_and_its_failures_are_told(voice, monkeypatch):
    class Loud:
        version = "loud"

        def __call__(self, tokens, language):
            return [None if token.text != "x" else "ecks" for token in tokens]

    monkeypatch.setattr(voice, "normaliser", Loud())
    assert symbols(one(voice, "an x here")) == symbols(one(voice, "an ecks here"))
    monkeypatch.setattr(Loud, "__call__", lambda self, tokens, language: 1 // 0)
    with refused(RequestError, "failed", "normalise", names="ZeroDivisionError"):
        one(voice, "an x here")
    assert one(voice, "an x here", normalise=False)


def test_letters_are_normalised_when_asked_for_and_know_no_phonemes(letters):
    assert symbols(one(letters, "In 2024 [1s] we")) == "in 2024,we"
    assert (
        symbols(one(letters, "In 2024 for $2.50", normalise=True))
        == "in twenty twenty four for two dollars and fifty cents"
    )
    with refused(RequestError, "unsupported", "text", value="wˈɪn"):
        one(letters, "[Nguyen](/wˈɪn/)")
    with refused(RequestError, "unsupported", "text", value="fr-fr"):
        one(letters, 'a <lang xml:lang="fr-FR">b</lang>', markup="ssml")


def test_a_front_end_of_ones_own_reads_words_and_is_told_nothing(letters, tmp_path):
    letters.front_end = lambda text: Symbols(("<start>", "a", "<end>"), (Word("a", 0, 1),), (-1, 0, -1))
    assert symbols(one(letters, "<p>a</p>", markup="html")) == "a"
    (tmp_path / "words.tsv").write_text("", encoding="utf-8")
    for fields, path in (({"normalise": True}, "normalise"), ({"text": "a [1s] a"}, "markup")):
        with refused(RequestError, "unsupported", path):
            one(letters, **{"text": "a", **fields})


def test_a_language_without_rules_refuses_to_be_normalised():
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
    german = make(front_end("espeak", "de"))
    assert symbols(one(german, "5 Euro")) == symbols(one(german, "5 Euro", normalise=False))
    with refused(RequestError, "unsupported", "normalise", names="de"):
        one(german, "5 Euro", normalise=True)


def test_word_paces_count_written_words(voice):
    text = 'The <sub alias="World Wide Web">WWW</sub> of <phoneme ph="wˈɪn">Nguyen</phoneme> in 1999'
    paces = [1.0, 2.0, 1.0, 0.5, 1.0, 4.0]
    reading = one(voice, text, markup="ssml", word_paces=paces)
    assert by_word(reading, reading.pace) == {
        "The": {1.0}, "WWW": {2.0}, "of": {1.0}, "Nguyen": {0.5}, "in": {1.0}, "1999": {4.0},
    }  # fmt: skip
    with refused(RequestError, "shape", "word_paces", value=8, names="6 words"):
        one(voice, text, markup="ssml", word_paces=[1.0] * 8)


@pytest.mark.parametrize("text", ["un<emphasis>be</emphasis>lievable", '<sub alias="b">a</sub>s', "[a](/ə/)s"])
def test_an_element_within_a_word_is_refused(voice, text):
    with refused(RequestError, "value", "text"):
        one(voice, text, markup="ssml" if "<" in text else "inline")


# ---- prosody -------------------------------------------------------------------------------------------------------


def test_prosody_acts_on_exactly_the_symbols_within(voice):
    text = 'One two <prosody rate="2" pitch="+3st" volume="-6dB">three, four</prosody> five. Six.'
    first, last = read(voice, text, markup="ssml", pace=0.5)
    assert by_word(first, first.pace) == {"One": {0.5}, "two": {0.5}, "three": {1.0}, "four": {1.0}, "five": {0.5}}
    assert by_word(first, first.pitch) == {"One": {0}, "two": {0}, "three": {3}, "four": {3}, "five": {0}}
    assert by_word(first, first.volume) == {"One": {0}, "two": {0}, "three": {-6}, "four": {-6}, "five": {0}}
    marks = {
        place: (first.pitch[place], first.symbols.symbols[place])
        for place, owner in enumerate(first.symbols.word_of)
        if owner < 0
    }
    # of what is between words, only the comma within is within
    assert [mark for pitch, mark in marks.values() if pitch] == [","]
    assert set(last.pitch) == {0.0} and set(last.pace) == {0.5}


# ---- pauses --------------------------------------------------------------------------------------------------------


def silence(readings) -> list[int | None]:
    """Return the frames between neighbouring words of all readings; None where they are the voice's own."""
    found: list[int | None] = []
    count: int | None = 0
    for reading in readings:
        for place, owner in enumerate(reading.symbols.word_of):
            if owner >= 0:
                if count != 0 or (place and reading.symbols.word_of[place - 1] < 0):
                    found.append(count)
                count = 0
            elif place in reading.held and count is not None:
                count += reading.held[place].frames + reading.held[place].silence
            else:
                count = None
        if reading.pause:
            count = None
    return [*found, count]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0, 60.0])
@pytest.mark.parametrize("written", ["One, two", "One two", "One. Two", "One\n\nTwo", "One (two)"])
def test_a_pause_is_its_frames_whatever_punctuation_is_there(voice, seconds, written):
    gap = written.removeprefix("One").removesuffix(")").lower().removesuffix("two")
    text = written.replace(gap, f"{gap}[{seconds}s] " if gap != " (" else f" [{seconds}s] (", 1)
    found = silence(read(voice, text))
    if seconds == 0 and gap == " ":
        assert found[1] is None  # there is none to take away
    else:
        assert found[1] == round(seconds / FRAME), text
    assert found[0] is None and found[-1] is None


def test_pauses_at_the_beginning_and_at_the_end(voice):
    (reading,) = read(voice, "[1s] Hello there [2s]")
    assert silence([reading])[0] == round(1 / FRAME) and silence([reading])[-1] == round(2 / FRAME)
    assert reading.held[0].frames == KEPT_FRAMES


def test_a_pause_is_no_cut_and_brings_its_comma(voice):
    reading = one(voice, "Hello [1s] there")
    assert symbols(reading) == symbols(one(voice, "Hello, there"))
    (held,) = reading.held.values()
    assert (held.frames, held.frames + held.silence) == (2 * KEPT_FRAMES, round(1 / FRAME))
    assert SPACE not in [reading.symbols.symbols[place] for place in reading.held]
    assert all(reading.symbols.symbols[place] in PAUSES for place in reading.held)


def test_a_pause_where_a_long_phrase_is_cut(voice):
    words = "so we went down to the river and looked at the boats that were lying in the mud"
    text = f"{words} [0.8s] and then {words}"
    readings = read(voice, text, len(words) + 4)
    assert round(0.8 / FRAME) in silence(readings)
    assert not readings[0].goes_on_after or readings[0].held


def test_other_pauses_stay_as_they_were(voice):
    text = "One. Two, three. Four."
    plain, marked = read(voice, text), read(voice, "One. Two, three. [1s] Four.")
    assert [r.pause for r in plain] == [PAUSE_SECONDS["."], PAUSE_SECONDS["."], 0.0]
    assert [r.pause for r in marked] == [PAUSE_SECONDS["."], 0.0, 0.0]
    assert [r.ids for r in plain] == [r.ids for r in marked]


def test_a_request_without_markup_reads_brackets(letters):
    (reading,) = letters.read(SpeechRequest(text="a [1s] b"), 220)
    assert not reading.held and [w.text for w in reading.symbols.words] == ["a", "1s", "b"]


def test_characters_of_pieces_add_up_to_the_text(voice):
    text = "<p>One &amp; two.</p> <p>Three <break time='1s'/> four.</p>"
    readings = read(voice, text, markup="ssml")
    assert sum(reading.characters for reading in readings) <= len(text)
    assert all(reading.characters > 0 for reading in readings)


# ---- the mark behind the last word ----------------------------------------------------------------------------------


MARKED = ("One, two.", "Is it three?", "Four")


def test_a_text_without_a_mark_is_closed_as_those_were_that_the_voice_learnt():
    voice = make(CharacterFrontEnd(), held_out=MARKED, sample_texts=())
    reading = one(voice, "Hello world", pace=1.25)
    assert symbols(reading) == "hello world."
    assert [word.text for word in reading.symbols.words] == ["Hello", "world"]
    assert reading.symbols.word_of[-3:] == (1, -1, -1)
    assert len(reading.ids) == len(reading.pace) == len(reading.symbols)
    assert set(reading.pace) == {1.25}
    assert reading.text == "Hello world"


@pytest.mark.parametrize("text", ["Hello.", "Hello!", "Hello,", '"Hello?"'])
def test_a_mark_that_is_written_stays_the_only_one(text):
    voice = make(CharacterFrontEnd(), held_out=MARKED)
    read = one(voice, text).symbols
    assert sum(symbol in PAUSES for symbol in read.symbols) == 1


@pytest.mark.parametrize("known", [{}, {"held_out": ("one", "two", "three.")}, {"sample_texts": ("seven", "eight.")}])
def test_a_voice_that_learnt_texts_without_marks_reads_them_so(known):
    voice = make(CharacterFrontEnd(), **known)
    assert symbols(one(voice, "Hello world")) == "hello world"


def test_only_the_end_of_a_phrase_is_closed():
    voice = make(CharacterFrontEnd(), held_out=MARKED)
    pieces = read(voice, "one two three four five six seven eight nine ten", limit=20)
    assert len(pieces) > 1
    assert [symbols(piece)[-1] in PAUSES for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [piece.goes_on_after for piece in pieces] == [True] * (len(pieces) - 1) + [False]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0])
def test_a_pause_behind_the_last_word_is_exact_where_a_mark_was_added(seconds):
    voice = make(CharacterFrontEnd(), held_out=MARKED)
    reading = one(voice, f"Hello [{seconds}s]")
    behind = reading.symbols.word_of.index(-1, 1)
    held = [reading.held[place] for place in range(behind, len(reading.symbols))]
    assert sum(each.frames + each.silence for each in held) == round(seconds / FRAME)
