"""Markup in sound: pauses exact to the frame; rate, pitch and volume on the phonemes within; for any weights."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import unisono
from refused import refused
from unisono import Audio, Synthesizer
from unisono.errors import RequestError
from unisono_sound.text.symbols import PAUSES, SPECIALS
from unisono_tts import speaking

pytest.importorskip("num2words", reason="num2words is not installed")

SHIPPED = Path(__file__).parent.parent.parent / "checkpoints" / "tts-en"
HOP, RATE = 256, 22050


def phonemes(audio: Audio):
    return [s for s in audio.segments if s.kind == "phoneme" and s.label not in SPECIALS and s.label not in PAUSES]


def gaps(audio: Audio) -> dict[tuple[str, str], int]:
    """Return the samples between neighbouring words."""
    return {(a.label, b.label): round((b.start - a.end) * RATE) for a, b in pairwise(audio.words)}


def samples(seconds: float) -> int:
    return round(seconds * RATE / HOP) * HOP


TEXT = "One [0.5s] two, [1s] three. [2s] Four [0.05s] five. [250ms] Six."
WANTED = {
    ("One", "two"): 0.5,
    ("two", "three"): 1.0,
    ("three", "Four"): 2.0,
    ("Four", "five"): 0.05,
    ("five", "Six"): 0.25,
}


def test_pauses_are_exact_to_the_frame_in_samples(voice):
    audio = voice(TEXT)
    found = gaps(audio)
    assert {words: found[words] for words in WANTED} == {words: samples(seconds) for words, seconds in WANTED.items()}
    assert audio.waveform.shape[1] == round(max(s.end for s in audio.segments) * RATE)
    first = voice("[1s] One two [2s]")
    said = phonemes(first)
    assert round(said[0].start * RATE) == samples(1)
    assert first.waveform.shape[1] - round(said[-1].end * RATE) == samples(2)


def test_a_pause_is_silent_and_the_phonemes_around_it_are_not(voice):
    audio = voice("One [2s] two")
    (before, after) = audio.words
    start, stop = round(before.end * RATE), round(after.start * RATE)
    kept = speaking.RAMP_SECONDS
    middle = audio.waveform[0, start + 8 * HOP : stop - 8 * HOP]
    assert len(middle) == samples(2) - 16 * HOP and not middle.any()
    assert audio.waveform[0, start : start + 8 * HOP - round(kept * RATE)].any()


def test_streams_and_batches_have_the_same_pauses(voice):
    joined = Audio.join(list(voice.stream(TEXT)))
    together = voice([TEXT, "Short.", TEXT])[2]
    for audio in (joined, together):
        found = gaps(audio)
        assert {words: found[words] for words in WANTED} == {words: samples(s) for words, s in WANTED.items()}
    assert [w.label for w in joined.words] == [w.label for w in voice(TEXT).words]


def test_curves_and_segments_run_through_the_pauses(voice):
    audio = voice(TEXT)
    for curve in audio.curves.values():
        assert (np.diff(curve.times) >= 0).all() and curve.times[-1] == pytest.approx(audio.seconds)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(phonemes(audio)))


SSML = "One two <prosody {}>three four</prosody> five six."


def lengths(audio: Audio) -> np.ndarray:
    return np.array([s.end - s.start for s in phonemes(audio)])


def inside(audio: Audio) -> np.ndarray:
    three, four = audio.words[2:4]
    return np.array([three.start - 1e-9 <= s.start < four.end - 1e-9 for s in phonemes(audio)])


def test_rate_acts_on_exactly_the_phonemes_within(voice):
    plain, slow = voice("One two three four five six."), voice(SSML.format('rate="50%"'), markup="ssml")
    assert [s.label for s in phonemes(slow)] == [s.label for s in phonemes(plain)]
    within = inside(plain)
    assert within.any() and not within.all()
    frame = HOP / RATE
    # borders are rounded to frames, so a phoneme differs by one
    assert np.abs(lengths(slow) - lengths(plain))[~within].max() <= 1.001 * frame
    assert lengths(slow)[within].sum() == pytest.approx(2 * lengths(plain)[within].sum(), abs=2.001 * frame)


def test_pitch_acts_on_exactly_the_phonemes_within(voice):
    plain, high = voice("One two three four five six."), voice(SSML.format('pitch="+4st"'), markup="ssml")
    ratio = high.curves["pitch"].values / plain.curves["pitch"].values
    ratio = ratio[::2][np.isfinite(ratio[::2])]
    symbols = inside(plain)
    assert len(ratio) == len(symbols)
    # single precision; pitch predictions do not see what is asked for
    np.testing.assert_allclose(ratio[symbols], 2 ** (4 / 12), rtol=1e-4)
    np.testing.assert_allclose(ratio[~symbols], 1, rtol=1e-6)
    both = voice(SSML.format('pitch="+4st"'), markup="ssml", pitch_shift=-4)
    again = both.curves["pitch"].values / plain.curves["pitch"].values
    np.testing.assert_allclose(again[::2][np.isfinite(again[::2])][symbols], 1, rtol=1e-4)


def test_volume_is_a_gain_on_exactly_the_phonemes_within(voice):
    plain, soft = voice("One two three four five six."), voice(SSML.format('volume="-6dB"'), markup="ssml")
    assert plain.waveform.shape == soft.waveform.shape
    start, stop = round(plain.words[2].start * RATE), round(plain.words[3].end * RATE)
    ramp = round(speaking.RAMP_SECONDS * RATE)
    assert np.array_equal(soft.waveform[0, :start], plain.waveform[0, :start])
    assert np.array_equal(soft.waveform[0, stop:], plain.waveform[0, stop:])
    core = slice(start + ramp, stop - ramp)
    np.testing.assert_allclose(soft.waveform[0, core], plain.waveform[0, core] * 10 ** (-6 / 20), rtol=1e-6)
    mute = voice(SSML.format('volume="silent"'), markup="ssml")
    assert not mute.waveform[0, core].any()
    assert [s.label for s in mute.segments] == [s.label for s in plain.segments]


def test_a_batch_of_marked_and_plain_texts_is_each_alone(voice):
    marked = {"text": SSML.format('pitch="+4st" rate="80%" volume="+3dB"'), "markup": "ssml"}
    texts = [marked, "Quite plain.", {"text": TEXT}]
    for together, text in zip(voice(texts), texts, strict=True):
        alone = voice(**text) if isinstance(text, dict) else voice(text)
        np.testing.assert_allclose(together.waveform, alone.waveform, atol=1e-5)


def test_words_of_ssml_are_timed_and_stand_in_the_text(voice):
    text = 'The <sub alias="World Wide Web">WWW</sub> of <say-as interpret-as="date">1/2/2024</say-as>, $5 &amp; more.'
    request = voice.request(text, markup="ssml")
    written = voice.model.voice.words(request)
    audio = voice(text, markup="ssml")
    assert (
        [w.label for w in audio.words]
        == [w.text for w in written]
        == ["The", "WWW", "of", "1/2/2024", "$5", "&", "more"]
    )
    assert [text[w.start : w.end] for w in written if w.text != "&"] == [w.text for w in written if w.text != "&"]


def test_a_model_without_pitch_refuses_pitch_and_has_the_rest(make_voice, make_vocoder):
    model = make_voice("tts/fastspeech-tiny")
    model.attach("vocoder", make_vocoder())
    flat = Synthesizer(model)
    assert gaps(flat("One [1s] two"))["One", "two"] == samples(1)
    assert flat(SSML.format('rate="80%" volume="soft"'), markup="ssml").seconds > 0
    with refused(RequestError, "unsupported", "text", value=2.0, names="pitch"):
        flat(SSML.format('pitch="+2st"'), markup="ssml")


def test_a_pause_of_all_that_is_said_has_at_least_a_frame(make_voice, make_vocoder):
    model = make_voice()
    with torch.no_grad():
        model.durations.out.bias.fill_(-50.0)
    model.attach("vocoder", make_vocoder())
    assert Synthesizer(model)("[0s] No [0s]").waveform.shape[1] == HOP


def test_fields_are_refused_in_one_sentence(voice, tmp_path):
    with refused(RequestError, "unknown", "markup", value="sgml", names="ssml"):
        voice("a", markup="sgml")
    with refused(RequestError, "type", "normalise", value="perhaps"):
        voice("a", normalise="perhaps")
    with refused(RequestError, "missing", "nowhere.tsv"):
        voice("a", lexicon=str(tmp_path / "nowhere.tsv"))
    with refused(RequestError, "range", "text", value=-1.0):
        voice("a [-1s] b")


@pytest.mark.skipif(not SHIPPED.exists(), reason="the exports are not here")
def test_the_shipped_voice_follows_markup_and_is_unchanged_without(tmp_path):
    shipped = unisono.load(SHIPPED)
    text = "Nobody waved when the ship left."
    read = [r.ids for r in shipped.model.voice.read(shipped.request(text), 220)]
    assert read == [[shipped.model.voice.symbols.index(s) for s in shipped.model.voice.front_end(text).symbols]]
    audio = shipped("Wait [0.7s] for it: $5.50 by 10:30 a.m.")
    assert gaps(audio)["Wait", "for"] == samples(0.7)
    assert [w.label for w in audio.words] == ["Wait", "for", "it", "$5.50", "by", "10:30", "a.m"]
    assert np.isfinite(audio.waveform).all() and np.abs(audio.waveform).max() > 0.01
