"""espeak-ng in process: exact times, the same samples for the same arguments, errors."""

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")

from refused import refused
from unisono.data import Drop
from unisono.errors import RequestError
from unisono_sound.corpus import symbol_times
from unisono_sound.text import front_end
from unisono_sound.text.espeak import SAMPLE_RATE, espeak
from unisono_sound.text.sentences import sentences

TEXT = "The quick brown fox, he said, jumps over 13 lazy dogs."


def test_times_are_monotone_and_cover_the_audio():
    spoken = espeak().speak(TEXT)
    assert spoken.sample_rate == SAMPLE_RATE
    assert len(spoken.starts) == len(spoken.phonemes) + 1
    assert spoken.starts[0] == 0 and spoken.starts[-1] == len(spoken.waveform)
    assert (np.diff(spoken.starts) >= 0).all()
    assert 2 < len(spoken.waveform) / SAMPLE_RATE < 8
    assert 0.05 < np.abs(spoken.waveform).max() <= 1


def test_the_same_arguments_give_the_same_samples_whatever_came_before():
    first = [espeak().speak(TEXT, variant=v) for v in ("", "f2")]
    espeak().speak("Something else, at another pace!", variant="m3", rate=220, pitch=80)
    espeak().phonemes("Noch etwas", "de")
    again = [espeak().speak(TEXT, variant=v) for v in ("", "f2")]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.waveform, other.waveform)
        assert one.phonemes == other.phonemes and np.array_equal(one.starts, other.starts)
    assert len(first[0].waveform) != len(first[1].waveform)


def test_rate_changes_the_length_and_pitch_does_not():
    slow, fast = (espeak().speak(TEXT, rate=rate) for rate in (120, 240))
    assert len(slow.waveform) > 1.5 * len(fast.waveform)
    low, high = (espeak().speak(TEXT, pitch=pitch) for pitch in (20, 80))
    assert low.phonemes == high.phonemes
    assert abs(len(low.waveform) - len(high.waveform)) < 0.03 * len(low.waveform)


def test_silence_lies_where_the_pauses_are():
    """The boundaries against the sound: pause symbols are silent, stressed vowels are loud."""
    reader, pad = front_end("espeak"), 0.06
    for text in ["Wait, please. Then go on: slowly!", *sentences(15, seed=3)]:
        read = reader(text)
        wave, bounds = symbol_times(espeak().speak(text), read, reader.table, pad)
        assert len(bounds) == len(read) + 1 and bounds[0] == 0
        assert bounds[-1] == pytest.approx(len(wave) / SAMPLE_RATE)
        assert (np.diff(bounds) >= 0).all()
        assert bounds[1] == pytest.approx(pad, abs=1e-4)
        edges = np.rint(np.array(bounds) * SAMPLE_RATE).astype(int)
        loud = np.abs(wave).max()
        for symbol, start, end in zip(read.symbols, edges, edges[1:], strict=False):
            stretch = np.abs(wave[start:end])
            if symbol in ("<start>", "<end>", ".", ",", ":", "!") and end > start:
                assert np.sqrt((stretch**2).mean()) < 0.05 * loud, (text, symbol)
            elif "ˈ" in symbol:
                assert stretch.max() > 0.15 * loud, (text, symbol)
            if symbol not in (" ", ",", ":", ";", "—", "…"):
                assert end > start, (text, symbol)


def test_other_phonemes_are_refused():
    reader = front_end("espeak")
    with pytest.raises(Drop, match="espeak-ng spoke other phonemes"):
        symbol_times(espeak().speak("One."), reader("Two."), reader.table, 0.05)


def test_unknown_voice_and_language():
    with refused(RequestError, "unknown", "voice", value="f22", names="f2"):
        espeak().speak(TEXT, variant="f22")
    with refused(RequestError, "unknown", "language", value="xx"):
        espeak().speak(TEXT, language="xx")


def test_sentences_are_many_and_repeatable():
    made = sentences(2000)
    assert len(set(made)) == 2000 and made == sentences(2000)
    assert made[:50] == sentences(50) and made != sentences(2000, seed=1)
    assert all(s[0].isupper() and s[-1] in ".!?" and "{" not in s for s in made)
    assert sum(s.endswith("?") for s in made) > 100


TEXTS = (
    "Hello мир and こんにちは again.",
    "Das Wort шоу ist",
    "A! B? C; D: E...",
    "naïve café, 12,345.67 €",
    "e.g. U.S.A.",
)


def test_phonemes_do_not_depend_on_the_text_before():
    library = espeak()
    alone = {}
    for text in TEXTS:
        for language in ("en-us", "de", "ru"):
            library._language = ""  # the voice is set anew
            alone[text, language] = library.clauses(text, language)
    for language in ("en-us", "de", "ru"):
        for text in TEXTS * 2:
            assert library.clauses(text, language) == alone[text, language]
    for key in [*alone, *reversed(alone)]:
        assert library.clauses(*key) == alone[key]


def test_a_voice_is_set_where_the_language_changes_and_after_a_refusal(monkeypatch):
    library, names = espeak(), []
    plain = library._set_voice
    monkeypatch.setattr(library, "_set_voice", lambda *args: (names.append(args[1]), plain(*args)))
    monkeypatch.setattr(library, "_language", "")
    for language in ("en-us", "en-us", "de", "de", "en-us"):
        library.clauses("one two", language)
    assert names == ["en-us", "de", "en-us"]
    with refused(RequestError, code="unknown", path="language"):
        library.clauses("one", "en-nowhere")
    first = library.clauses("one two", "en-us")
    assert names[-1] == "en-us" and first == library.clauses("one two", "en-us")
