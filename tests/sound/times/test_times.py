"""Times: subtitles, tiers and JSON, read back by the readers of others, and what no format can hold."""

import json
import pickle
import random
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
import srt
import webvtt
from praatio import textgrid
from refused import refused
from unisono import Audio, Segment
from unisono.errors import RequestError
from unisono.media import Stretch, Times, TimesWriter
from unisono_sound.text import tokenize
from unisono_sound.times.cues import CueOptions, cues
from unisono_sound.times.textgrid import intervals
from unisono_sound.times.written import signs, written_words

RATE = 22050
TEXT = (
    'He said: "Hello, <world> & co." Then -- nothing happened for a while, because nobody knew what to say next (or '
    "how), and so on.\n\nA new paragraph – with Mr. Smith --> here.  \n\n\n  «Où est-ce?» 你好，世界。 שלום עולם! "
    "हिन्दी।"
)


def spoken(text: str = TEXT, rate: int = RATE, seconds: float = 0.07, begin: float = 0.0, seed: int = 0) -> Times:
    """Times of a text whose words last so many seconds a letter, drawn around that, on a grid of 256 samples."""
    draw = random.Random(seed)
    at, found = round(begin * rate) + 256 * 11, []
    for token in tokenize(text):
        last = at + 256 * max(1, round(draw.uniform(0.5, 1.5) * seconds * len(token.text) * rate / 256))
        middle = at + (last - at) // 512 * 256
        found.append(Segment(token.text, at / rate, last / rate, "word", (token.start, token.end)))
        found += [Segment("ʃ", at / rate, middle / rate), Segment('"', middle / rate, last / rate)]
        at = last + (256 * 40 if token.level >= 2 else 0)
        if token.level >= 2:
            found.append(Segment(".", last / rate, at / rate))
    return Times(tuple(found), at + 1000, rate, text)


def content(times: Times, suffix: str, **options) -> str:
    return TimesWriter.of(suffix, options).content(times).decode("utf-8")


def checked(times: Times, **options) -> list:
    """The cues, after what always holds of them."""
    asked = CueOptions(**options)
    made = cues(times, asked)
    total = times.length * 1000 / times.rate
    assert made and made[0].start >= 0 and made[-1].end <= total
    assert all(a.end <= b.start for a, b in pairwise(made)) and all(cue.start < cue.end for cue in made)
    for cue in made:
        assert 1 <= len(cue.lines) <= asked.lines and all(0 < signs(line) <= asked.line_length for line in cue.lines)
        assert cue.end - cue.start <= asked.max_seconds * 1000
        assert all(line == " ".join(line.split()) for line in cue.lines)
    return made


def same(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    "options", [{}, {"line_length": 12}, {"lines": 1}, {"lines": 3, "line_length": 20}, {"max_seconds": 1.0},
                {"line_length": 1, "lines": 1}],
)  # fmt: skip
@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_cues_hold_the_whole_text_within_their_limits(rate, options):
    made = checked(spoken(rate=rate), **options)
    assert same("".join(line for cue in made for line in cue.lines)) == same(TEXT)


def test_cues_begin_and_end_with_their_words():
    times = spoken(begin=1.5)
    first = {word.text: word for word in written_words(times)}
    made = checked(times)
    assert made[0].start == round(1000 * first["He"].first / RATE)
    assert made[0].lines == ('He said: "Hello, <world> & co."',)  # a sentence of its own
    assert made[0].end == round(1000 * first['co."'].last / RATE)
    assert [cue.lines[0] for cue in made if cue.lines[0].startswith("A new")]  # a paragraph begins one, too


def test_what_stands_around_words_is_written_with_them():
    words = [word.text for word in written_words(spoken())]
    assert words[:5] == ["He", "said:", '"Hello,', "<world>", "&"] and "(or" in words and "how)," in words
    assert "paragraph –" in words and "-->" in words and "«Où" in words
    assert "".join(same(word) for word in words) == same(TEXT)
    assert [word.text for word in written_words(spoken("  ... «a»—«b»!  "))] == ["... «a»—", "«b»!"]


def test_an_abbreviation_ends_no_sentence_and_short_sentences_share_a_cue():
    made = checked(spoken("We met Mr. Smith in the town. Yes. No. We met him again, in the evening of that day."))
    assert made[0].lines == ("We met Mr. Smith in the town.",)
    assert " ".join(made[1].lines).startswith("Yes. No. We met him")


def test_lines_are_balanced_and_no_few_words_are_left_over():
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    made = checked(spoken(text))
    assert len(made) == 2
    sizes = [sum(map(signs, cue.lines)) for cue in made]
    assert min(sizes) > max(sizes) / 2
    for cue in made:
        assert len(cue.lines) == 1 or abs(signs(cue.lines[0]) - signs(cue.lines[1])) < 12


def test_subrip_is_read_back_by_srt():
    times = spoken()
    made, found = cues(times, CueOptions()), list(srt.parse(content(times, ".srt"), ignore_errors=False))
    assert [item.index for item in found] == list(range(1, len(made) + 1))
    for cue, item in zip(made, found, strict=True):
        assert (item.start, item.end) == (timedelta(milliseconds=cue.start), timedelta(milliseconds=cue.end))
        assert item.content == "\n".join(cue.lines)
    assert list(srt.sort_and_reindex(found)) == found  # none is empty, or ends before it begins


def test_webvtt_is_read_back_by_webvtt_py_and_escaped(tmp_path):
    times = spoken()
    text = content(times, ".VTT")
    assert text.startswith("WEBVTT\n\n") and "&lt;world&gt; &amp; co" in text and "Smith --&gt; here" in text
    (tmp_path / "x.vtt").write_bytes(text.encode())
    made, found = cues(times, CueOptions()), webvtt.read(tmp_path / "x.vtt")
    assert len(found) == len(made)
    for cue, item in zip(made, found, strict=True):
        assert (item.start_in_seconds, item.end_in_seconds) == (cue.start // 1000, cue.end // 1000)
        assert item.start.endswith(f".{cue.start % 1000:03d}") and item.end.endswith(f".{cue.end % 1000:03d}")
        raw = item.raw_text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert raw == "\n".join(cue.lines)


def test_hours_of_three_digits():
    far = Times((Segment("late", 400_000.5, 400_001.25, "word"),), 400_002 * 8000, 8000)
    assert content(far, ".srt") == "1\n111:06:40,500 --> 111:06:41,250\nlate\n"
    assert content(far, ".vtt") == "WEBVTT\n\n111:06:40.500 --> 111:06:41.250\nlate\n"


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100])
def test_a_textgrid_is_read_back_by_praatio_sample_by_sample(tmp_path, rate):
    times = spoken(rate=rate)
    (tmp_path / "x.TextGrid").write_bytes(content(times, ".textgrid").encode())
    grid = textgrid.openTextgrid(str(tmp_path / "x.TextGrid"), includeEmptyIntervals=True)
    assert grid.tierNames == ("words", "phones") and grid.minTimestamp == 0
    assert grid.maxTimestamp == times.length / rate
    for name, kind in (("words", "word"), ("phones", "phoneme")):
        entries = grid.getTier(name).entries
        borders = [(round(e.start * rate), round(e.end * rate)) for e in entries]
        assert all((e.start, e.end) == (a / rate, b / rate) for e, (a, b) in zip(entries, borders, strict=True))
        assert borders[0][0] == 0 and borders[-1][1] == times.length
        assert all(a[1] == b[0] for a, b in pairwise(borders)) and all(a < b for a, b in borders)
        assert sum(b - a for a, b in borders) == times.length
        told = {(e.label, *border) for e, border in zip(entries, borders, strict=True) if e.label}
        wanted = {(s.label, s.first, s.last) for s in times.stretches(kind) if s.label != "."}
        assert told == wanted and len(told) > 20
    assert '            text = """"' in content(times, ".TextGrid")  # a quote, doubled


def test_what_is_silent_is_one_interval():
    stretches = [Stretch(*s) for s in (("<start>", 0, 5), ("a", 5, 7), (",", 7, 8), (" ", 8, 8), ("b", 9, 12))]
    found = intervals(stretches, 20, ("<start>", ",", " "))
    assert found == [("", 0, 5), ("a", 5, 7), ("", 7, 9), ("b", 9, 12), ("", 12, 20)]
    assert intervals([], 3) == [("", 0, 3)] and intervals([Stretch("a", 0, 3)], 3) == [("a", 0, 3)]


def test_json_has_seconds_samples_and_places():
    times = spoken()
    told = json.loads(content(times, ".json"))
    assert (told["text"], told["samples"], told["sample_rate"]) == (TEXT, times.length, RATE)
    assert told["seconds"] == times.length / RATE and list(told["tiers"]) == ["words", "phones"]
    for word, own in zip(told["tiers"]["words"], times.stretches("word"), strict=True):
        assert TEXT[slice(*word["span"])] == word["label"] == own.label
        assert word["samples"] == [own.first, own.last] and word["start"] == own.first / RATE
    assert len(told["tiers"]["phones"]) == len(times.stretches("phoneme"))


def test_words_without_places_are_their_labels_and_silences_end_sentences():
    segments = (Segment("ah", 0, 0.5, "word"), Segment("bee", 0.5, 1.2, "word"), Segment("sea", 2.0, 3.0, "word"))
    for text in ("", "something else"):  # a front end of one's own need not know places
        assert [cue.lines for cue in checked(Times(segments, 3 * 8000, 8000, text))] == [("ah bee",), ("sea",)]
    wrong = tuple(Segment(s.label, s.start, s.end, s.kind, (5, 7)) for s in segments)
    assert [cue.lines for cue in checked(Times(wrong, 3 * 8000, 8000, "0123456789"))] == [("ah bee",), ("sea",)]


def test_a_word_that_is_too_long_is_parted_and_one_that_lasts_too_long_is_cut():
    long = "a" * 100 + "e\u0301" * 30  # marks are no signs, and stay with their letters
    made = checked(Times((Segment(long, 0.0, 6.5, "word"),), 7 * 8000, 8000))
    lines = [line for cue in made for line in cue.lines]
    assert "".join(lines) == long and not any(line.startswith("\u0301") for line in lines)
    assert made[1].start == made[0].end == round(6500 * 84 / 130)
    (held,) = checked(Times((Segment("hum", 1.0, 31.0, "word"),), 40 * 8000, 8000))
    assert (held.start, held.end) == (1000, 8000)


def test_words_that_last_nothing_have_a_millisecond_and_no_other_loses_its_place():
    still = tuple(Segment(word, 0.5, 0.5, "word") for word in ("a", "b", "c"))
    made = checked(Times(still, 4000, 8000), lines=1, line_length=1)
    assert [(cue.start, cue.end) for cue in made] == [(497, 498), (498, 499), (499, 500)]
    with refused(RequestError, "limit", "times", value=2, names="3 subtitles"):
        cues(Times(tuple(Segment(w, 0, 0, "word") for w in "abc"), 23, 8000), CueOptions(lines=1, line_length=1))


@pytest.mark.parametrize("seed", range(8))
def test_any_times_give_cues_in_order(seed):
    """Also words shorter than a millisecond, and sounds whose end is no whole millisecond."""
    draw = np.random.default_rng(seed)
    rate = int(draw.choice([8000, 11025, 22050, 48000]))
    borders = np.cumsum(draw.geometric(0.01 if seed % 2 else 0.0005, 200))
    segments = tuple(
        Segment("wo" * int(draw.integers(1, 9)), a / rate, b / rate, "word")
        for i, (a, b) in enumerate(pairwise(borders.tolist()))
        if i % 5
    )
    checked(Times(segments, int(borders[-1]) + int(draw.integers(3)), rate), line_length=20)


@pytest.mark.parametrize(
    ("segments", "code", "path"),
    [
        ((), "empty", "words"),
        ((Segment("a", 0, 1),), "empty", "words"),
        ((Segment(" ", 0, 1, "word"),), "empty", "words"),
        ((Segment("a", 0.5, 0.2, "word"),), "value", "segments"),
        ((Segment("a", 0, 0.5, "word"), Segment("b", 0.4, 0.8, "word")), "value", "segments"),
        ((Segment("a", 0, 1.1, "word"),), "value", "segments"),
        ((Segment("a", -0.1, 0.5, "word"),), "value", "segments"),
    ],
)
def test_times_that_are_none_are_refused(segments, code, path):
    times = Times(segments, 8000, 8000)
    for suffix in (".srt", ".vtt"):
        with refused(RequestError, code, path):
            content(times, suffix)
    for suffix in (".TextGrid", ".json"):
        if code == "value":
            with refused(RequestError, code, path):
                content(times, suffix)
        else:
            assert content(times, suffix)  # without words there are phones, or one silent interval
    with refused(RequestError, "empty", "waveform"):
        content(Times((), 0, 8000), ".TextGrid")


@pytest.mark.parametrize(
    ("suffix", "options", "code", "path"),
    [
        (".ass", {}, "unsupported", ".ass"),
        ("", {}, "unsupported", ""),
        (".srt", {"line_lenght": 9}, "unknown", "line_lenght"),
        (".srt", {"line_length": 0}, "range", "line_length"),
        (".srt", {"lines": "2"}, "type", "lines"),
        (".srt", {"lines": True}, "type", "lines"),
        (".vtt", {"max_seconds": float("nan")}, "range", "max_seconds"),
        (".TextGrid", {"lines": 2}, "unknown", "lines"),
        (".json", {"lines": 2}, "unknown", "lines"),
    ],
)
def test_formats_and_options_that_are_none_are_named(suffix, options, code, path):
    with refused(RequestError, code, path, names=".srt, .vtt, .TextGrid, .json" if code == "unsupported" else []):
        TimesWriter.of(suffix, options)


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".TextGrid", ".json"])
def test_a_writer_travels_to_other_processes(suffix):
    writer = TimesWriter.of(suffix, {"lines": 1} if suffix == ".srt" else {})
    assert pickle.loads(pickle.dumps(writer)).content(spoken()) == writer.content(spoken())


def test_a_rounded_border_is_one_and_a_reach_of_a_sample_is_cut():
    times = Times((Segment("a", 0, 0.33334, "word"), Segment("b", 0.3332, 1.00012, "word")), 8000, 8000)
    assert times.stretches("word") == [Stretch("a", 0, 2667), Stretch("b", 2667, 8000)]


def test_pieces_that_are_joined_have_the_times_of_the_whole():
    pieces = []
    for seed, text in enumerate(("The first one. ", "\nThen, the second", " and a third.")):
        times = spoken(text, seed=seed)
        pieces.append(Audio(np.zeros((1, times.length), np.float32), RATE, times.segments, text=text))
    joined = Audio.join(pieces)
    told, wanted = joined.times(), Times.join([piece.times() for piece in pieces])
    assert told == wanted and joined.text == "The first one. \nThen, the second and a third."
    assert all(joined.text[slice(*word.span)] == word.label for word in joined.words)
    begins = np.cumsum([0, *(piece.waveform.shape[1] for piece in pieces[:-1])])
    alone = [
        word.first + begin
        for piece, begin in zip(pieces, begins, strict=True)
        for word in piece.times().stretches("word")
    ]
    assert [word.first for word in told.stretches("word")] == alone
    with refused(RequestError, "conflict", "sample_rate", value=8000):
        Times.join([pieces[0].times(), Times((), 5, 8000)])
    with refused(RequestError, "empty", "pieces"):
        Times.join([])


def test_a_sound_saves_its_times(tmp_path):
    times = spoken()
    audio = Audio(np.zeros((1, times.length), np.float32), RATE, times.segments, text=TEXT)
    path = audio.save_times(tmp_path / "new" / "x.srt", line_length=30)
    assert path.read_text(encoding="utf-8") == content(times, ".srt", line_length=30)
    with refused(RequestError, "unsupported", "x.wav", value=".wav"):
        audio.save_times(tmp_path / "x.wav")
    with refused(RequestError, "unsupported", "times", value="Audio"):
        Audio(audio.waveform, RATE).save_times(tmp_path / "x.srt")
    (tmp_path / "folder.srt").mkdir()
    with refused(RequestError, "write", "folder.srt"):
        audio.save_times(tmp_path / "folder.srt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.srt", "new"]
