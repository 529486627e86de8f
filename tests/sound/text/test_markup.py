"""Markup: what each kind says, where each character was written, and what is refused."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import RequestError
from unisono_sound.text import MARKUPS, parse, tokenize
from unisono_sound.text.direction import written_words
from unisono_sound.text.markup import NEUTRAL, Prosody
from unisono_sound.text.markup.prosody import EMPHASIS
from unisono_sound.text.markup.script import LONGEST_PAUSE, MOST_LEVELS


def words(text: str, markup: str) -> list[str]:
    return [token.text for token in tokenize(parse(text, markup).text)]


def prosody_at(text: str, word: str) -> Prosody:
    script = parse(text, "ssml")
    return script.prosody(script.path(script.text.index(word)))


@pytest.mark.parametrize("markup", MARKUPS)
def test_a_text_without_marks_is_itself(markup):
    text = "Nothing is marked here, not even 3 of 4; is it?"
    script = parse(text, markup)
    assert script.text == text and not script.directs
    assert [(w.text, w.start, w.end) for w in written_words(script)] == [
        (t.text, t.start, t.end) for t in tokenize(text)
    ]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([kind for kind in MARKUPS if kind != "ssml"]),
    st.lists(
        st.sampled_from(
            str.split(
                "a bb *c* _d_ **e** <b> </b> <p> &amp; [1s] [x](y) [w](/wˈɜːd/) `k` # > | <br/> é ́ 1 - [ ] ( ) < & ~~"
            )
        ),
        max_size=12,
    ),
    st.sampled_from([" ", "\n", ""]),
)
def test_words_stand_where_they_say(markup, parts, gap):
    text = gap.join(parts)
    try:
        script = parse(text, markup)
    except RequestError:
        return
    places = [script.written(t.start, t.end) for t in tokenize(script.text)]
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert places == sorted(places)
    for word in written_words(script):
        if not set("&[*<`_~") & set(text):  # marks within a word are in its place and not in the word
            assert text[word.start : word.end] == word.text


# ---- plain text with pauses and phonemes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("[0.5s]", 0.5), ("[500ms]", 0.5), ("[ 2 s ]", 2.0), ("[.25s]", 0.25), ("[0s]", 0.0), ("[60s]", 60.0)],
)
def test_a_pause_in_brackets(written, seconds):
    script = parse(f"One{written}two", "inline")
    assert script.text == "One two" and list(script.breaks.values()) == [seconds]
    assert [(w.text, w.start) for w in written_words(script)] == [("One", 0), ("two", 3 + len(written))]


def test_pauses_at_one_place_add_up():
    assert list(parse("a[1s][500ms]b", "inline").breaks.values()) == [1.5]
    assert sum(parse('a <break time="1s"/> <break time="0.5s"/> b', "ssml").breaks.values()) == 1.5


@pytest.mark.parametrize("text", ["[1]", "[s]", "[1 m]", "array[5]", "[1s", "[one s]", "[a](b)", "[a](/b", "[](/b/)"])
def test_other_brackets_are_written_text(text):
    assert parse(text, "inline").text == text
    assert not parse(text, "inline").directs


@pytest.mark.parametrize("markup", ["inline", "ssml"])
@pytest.mark.parametrize("seconds", [-1, -0.001, 3600, 60.001])
def test_a_pause_that_cannot_be_is_refused(markup, seconds):
    text = f"a [{seconds}s] b" if markup == "inline" else f'a <break time="{seconds}s"/> b'
    with refused(RequestError, "range", "text", value=seconds, names=[f"{seconds:g}", f"{LONGEST_PAUSE:g}"]):
        parse(text, markup)


def test_pauses_that_add_up_to_too_long_a_one_are_refused():
    with refused(RequestError, "range", "text", value=80.0):
        parse("a [40s][40s] b", "inline")


@pytest.mark.parametrize("markup", ["inline", "ssml"])
def test_pauses_of_more_than_an_hour_in_all_are_refused(markup):
    pause = "[60s]" if markup == "inline" else '<break time="60s"/>'
    assert parse(f"a {pause} " * 60, markup).breaks
    with refused(RequestError, "limit", "text", value=3660.0, names="3600"):
        parse(f"a {pause} " * 61, markup)


def test_phonemes_within_text_are_one_word():
    script = parse("Eat a [big tomato](/təmˈɑːtoʊ/)!", "inline")
    (atom,) = script.atoms
    assert (atom.label, atom.phonemes) == ("big tomato", "təmˈɑːtoʊ")
    assert [(w.text, w.start, w.end) for w in written_words(script)][2:] == [("big tomato", 7, 17)]


def test_none_reads_brackets_as_they_are():
    assert parse("a [1s] b", "none").text == "a [1s] b"


# ---- SSML ----------------------------------------------------------------------------------------------------------


def test_a_document_and_a_fragment_say_the_same():
    inner = 'One <emphasis>two</emphasis> three<break time="200ms"/>.'
    document = (
        f'<?xml version="1.0"?>\n<speak version="1.1" xmlns="http://www.w3.org/2001/10/synthesis">{inner}</speak>'
    )
    one, other = parse(inner, "ssml"), parse(document, "ssml")
    assert one.text == other.text == "One two three ."
    assert one.prosodies == other.prosodies and list(one.breaks.values()) == list(other.breaks.values()) == [0.2]


def test_words_of_ssml_stand_where_they_were_written():
    text = '<speak>Über <prosody rate="fast">schöne &amp; 日本 ca&#102;é</prosody>\n  <![CDATA[a<b]]> end</speak>'
    found = {w.text: text[w.start : w.end] for w in written_words(parse(text, "ssml"))}
    assert found == {
        "Über": "Über", "schöne": "schöne", "&": "&", "日本": "日本", "café": "ca&#102;é", "a<b": "a<b", "end": "end",
    }  # fmt: skip


def test_a_long_text_keeps_its_places():
    text = "<p>" + "wörter und wörter " * 3000 + "ende</p>"
    last = list(written_words(parse(text, "ssml")))[-1]
    assert text[last.start : last.end] == last.text == "ende"


def test_white_space_is_one_space_and_structure_ends_sentences():
    text = "<p>\n  One\n  two\n</p><p><s>Three</s> <s>four?</s></p>five"
    levels = [(t.text, t.level) for t in tokenize(parse(text, "ssml").text)]
    assert levels == [("One", 0), ("two", 3), ("Three", 2), ("four", 3), ("five", 0)]


@pytest.mark.parametrize(
    ("attributes", "prosody"),
    [
        ('rate="fast"', Prosody(rate=1.25)), ('rate="x-slow"', Prosody(rate=0.5)), ('rate="80%"', Prosody(rate=0.8)),
        ('rate="+20%"', Prosody(rate=1.2)), ('rate="-20%"', Prosody(rate=0.8)), ('rate="1.5"', Prosody(rate=1.5)),
        ('pitch="+2st"', Prosody(pitch=2)), ('pitch="-1.5st"', Prosody(pitch=-1.5)), ('pitch="high"', Prosody(pitch=3)),
        ('pitch="+100%"', Prosody(pitch=12)), ('pitch="50%"', Prosody(pitch=-12)), ('pitch="default"', NEUTRAL),
        ('volume="+6dB"', Prosody(volume=6)), ('volume="soft"', Prosody(volume=-6)),
        ('volume="silent"', Prosody(volume=-math.inf)), ('rate="2" pitch="low" volume="loud"', Prosody(2, -3, 4)),
    ],
)  # fmt: skip
def test_prosody_values(attributes, prosody):
    assert prosody_at(f"a <prosody {attributes}>word</prosody> b", "word") == prosody
    assert prosody_at(f"a <prosody {attributes}>word</prosody> b", "b") == NEUTRAL


def test_prosodies_in_one_another_multiply_and_add():
    text = (
        '<prosody rate="2" pitch="+2st">outer <prosody rate="0.5" pitch="+1st" volume="-6dB">inner</prosody> again'
        '</prosody> <emphasis level="strong">loud</emphasis>'
    )
    assert prosody_at(text, "outer") == prosody_at(text, "again") == Prosody(2, 2, 0)
    assert prosody_at(text, "inner") == Prosody(1, 3, -6)
    assert prosody_at(text, "loud") == EMPHASIS["strong"]


def test_breaks_have_times_and_strengths():
    wanted = {
        "": 0.5, 'strength="none"': 0, 'strength="x-weak"': 0, 'strength="weak"': 0.25, 'strength="medium"': 0.5,
        'strength="strong"': 1, 'strength="x-strong"': 1.5, 'time="750ms"': 0.75, 'time="2s" strength="weak"': 2,
    }  # fmt: skip
    for attributes, seconds in wanted.items():
        assert list(parse(f"a<break {attributes}/>b", "ssml").breaks.values()) == [seconds], attributes


def test_sub_phoneme_and_say_as_hold_their_words():
    text = (
        'The <sub alias="World Wide Web">WWW</sub>, a <phoneme ph="təmˈɑːtoʊ">tomato</phoneme> on '
        '<say-as interpret-as="date" format="dmy">1/2/2024</say-as>, in <lang xml:lang="fr-FR">Paris même</lang> now'
    )
    script = parse(text, "ssml")
    assert script.text == "The World Wide Web, a la on 1/2/2024, in Paris même now"
    assert [w.text for w in written_words(script)] == [
        "The", "WWW", "a", "tomato", "on", "1/2/2024", "in", "Paris", "même", "now",
    ]  # fmt: skip
    assert all(text[w.start : w.end] == w.text for w in written_words(script))
    assert [(say.kind, say.format, script.text[say.start : say.end]) for say in script.says] == [
        ("date", "dmy", "1/2/2024")
    ]
    assert script.language(script.text.index("même")) == "fr-fr" and script.language(0) == ""
    assert script.language(script.text.index("now")) == ""


WRONG = {
    "unclosed": ("a <emphasis>b", "format", "emphasis"),
    "crossed": ("<emphasis>a <prosody>b</emphasis></prosody>", "format", "prosody"),
    "closed twice": ("a</emphasis>", "format", "line 1"),
    "ampersand": ("Tom & Jerry", "format", "&amp;"),
    "less than": ("1 < 2", "format", "&lt;"),
    "empty": ("<speak/><speak/>", "format", "line 1"),
    "unknown element": ("a <brake/> b", "unknown", "did you mean 'break'"),
    "unknown attribute": ('a <break tme="1s"/> b', "unknown", "did you mean 'time'"),
    "unfollowed attribute": ('<prosody range="high">a</prosody>', "unknown", "range"),
    "vendor's element": ('<amazon:effect name="whispered">a</amazon:effect>', "unknown", "amazon:effect"),
    "audio": ('<audio src="http://example.com/a.wav"/>', "unknown", "audio"),
    "NaN rate": ('<prosody rate="nan">a</prosody>', "value", "nan"),
    "NaN percent": ('<prosody rate="nan%">a</prosody>', "value", "nan%"),
    "infinite rate": ('<prosody rate="inf">a</prosody>', "value", "inf"),
    "negative rate": ('<prosody rate="-1">a</prosody>', "range", "0.25"),
    "rate of nothing": ('<prosody rate="0%">a</prosody>', "range", "0.25"),
    "rate below zero": ('<prosody rate="-150%">a</prosody>', "range", "0.25"),
    "rate too fast": ('<prosody rate="500%">a</prosody>', "range", "4"),
    "rates that multiply": ('<prosody rate="3"><prosody rate="3">a</prosody></prosody>', "range", "9"),
    "NaN pitch": ('<prosody pitch="nanst">a</prosody>', "value", "nanst"),
    "pitch too high": ('<prosody pitch="+13st">a</prosody>', "range", "12"),
    "pitch below all": ('<prosody pitch="-100%">a</prosody>', "range", "12"),
    "pitch in hertz": ('<prosody pitch="+20Hz">a</prosody>', "unsupported", "semitones"),
    "unknown pitch": ('<prosody pitch="hihg">a</prosody>', "value", "x-high"),
    "volume too loud": ('<prosody volume="+20dB">a</prosody>', "range", "12"),
    "volume without unit": ('<prosody volume="50">a</prosody>', "value", "+6dB"),
    "NaN pause": ('a <break time="nans"/> b', "value", "0.5s"),
    "pause without unit": ('a <break time="1"/> b', "value", "0.5s"),
    "unknown strength": ('a <break strength="stong"/> b', "unknown", "did you mean 'strong'"),
    "words in a break": ("a <break>b</break>", "value", "<break/>"),
    "element in a break": ("a <break><s/></break>", "value", "text only"),
    "unknown emphasis": ('<emphasis level="strng">a</emphasis>', "unknown", "did you mean 'strong'"),
    "sub without alias": ("<sub>a</sub>", "missing", "alias"),
    "phoneme without ph": ('<phoneme alphabet="ipa">a</phoneme>', "missing", "ph="),
    "phoneme of another alphabet": ('<phoneme alphabet="x-sampa" ph="a">a</phoneme>', "unsupported", "ipa"),
    "phoneme without word": ('<phoneme ph="a"/>', "empty", "phoneme"),
    "say-as without kind": ("<say-as>a</say-as>", "missing", "interpret-as"),
    "unknown say-as": ('<say-as interpret-as="dat">a</say-as>', "unknown", "did you mean 'date'"),
    "element in sub": ('<sub alias="b"><emphasis>a</emphasis></sub>', "value", "text only"),
    "lang without language": ("<lang>a</lang>", "missing", "xml:lang"),
    "speak within": ("a <speak>b</speak>", "value", "speak"),
    "document type": ("<!DOCTYPE speak><speak>a</speak>", "unsafe", "DOCTYPE"),
    "entity": ('<!DOCTYPE speak [<!ENTITY a "b">]><speak>&a;</speak>', "unsafe", "DOCTYPE"),
    "undefined entity": ("a &nbsp; b", "format", "line 1"),
    "instruction": ("<speak><?php a?>b</speak>", "unsupported", "php"),
    "half a character": ("a \ud800 b", "format", "D800"),
    "zero byte": ("a \0 b", "format", "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_ssml_that_cannot_be_is_refused(name):
    text, code, names = WRONG[name]
    with refused(RequestError, code, "text", names=names):
        parse(text, "ssml")


def test_errors_name_line_and_column():
    with refused(RequestError, "unknown", "text", value="brake", names=["line 2", "column 4"]):
        parse("one\nwö <brake/>", "ssml")
    with refused(RequestError, "format", "text", names=["line 3"]):
        parse("<speak>one\ntwo <s>\nthree</speak>", "ssml")


def test_bombs_and_depths_are_refused_at_once():
    entities = "".join(f'<!ENTITY x{n + 1} "&x{n};&x{n};">' for n in range(60))
    bomb = f'<!DOCTYPE speak [<!ENTITY x0 "ha">{entities}]><speak>&x60;</speak>'
    start = time.monotonic()
    with refused(RequestError, "unsafe", "text"):
        parse(bomb, "ssml")
    with refused(RequestError, "unsafe", "text"):
        parse('<!DOCTYPE speak [<!ENTITY x SYSTEM "file:///etc/passwd">]><speak>&x;</speak>', "ssml")
    deep = "<s>" * 10_000 + "a" + "</s>" * 10_000
    with refused(RequestError, "limit", "text", value=MOST_LEVELS + 1, names=str(MOST_LEVELS)):
        parse(deep, "ssml")
    assert time.monotonic() - start < 5


def test_as_many_levels_as_allowed_are_read():
    levels = MOST_LEVELS - 1  # and speak around them
    assert words("<emphasis level='none'>" * levels + "a" + "</emphasis>" * levels, "ssml") == ["a"]


# ---- HTML and Markdown ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<p>Some <b>bold</b> word</p>", "Some bold word."),
        ("<h1>Title</h1><p>Text</p>", "Title.\n\nText."),
        ("one<br>two", "one\ntwo"),
        ("AT&amp;T &lt; 5 &#233;&copy;", "AT&T < 5 é©"),
        ("<ul><li>one<li>two!</ul>", "one.\n\ntwo!"),
        ("<script>var a</script>a<style>b{}</style>b<!-- c -->", "ab"),
        ('see <img src="x.png" alt="a cat"> here', "see a cat here"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a, b."),
        ("if a < b and c > d", "if a < b and c > d"),
        ("<p>unclosed <b>tags", "unclosed tags"),
        ("<head><title>x</title></head><body>y</body>", "y."),
    ],
)
def test_html_is_its_words(text, wanted):
    assert parse(text, "html").text.strip() == wanted


@pytest.mark.parametrize("text", ["<a " * 20_000, "<!--" * 20_000])
def test_html_of_open_tags_is_refused_at_once(text):
    start = time.monotonic()
    with refused(RequestError, "format", "text", names="500"):
        parse(text, "html")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("# Title\nText", "Title.\n\n\nText"),
        ("**bold** and *it*, __b__ _i_ ~~gone~~", "bold and it, b i gone"),
        ("snake_case, a * b, 2*3", "snake_case, a * b, 2*3"),
        ('a [link](http://x.org "t") and ![pic](p.png)', "a link and pic"),
        ("`code` and ``x`y``", "code and x`y"),
        ("see [this][1]\n\n[1]: http://x.org", "see this"),
        ("> quoted\n> text", "quoted\ntext"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a, b. \n\n1, 2."),
        ("one\n\n---\n\ntwo", "one\n\n\n\ntwo"),
        ("```python\nx = 1\n```", "x = 1"),
        (r"\*not\* bold", "*not* bold"),
        ("<https://x.org>", "https://x.org"),
        ("a <b>bold</b><!-- c --> word[^1]", "a bold word"),
        ("- one\n- two", "- one\n- two"),
    ],
)
def test_markdown_is_its_words(text, wanted):
    assert parse(text, "markdown").text.strip() == wanted
