"""Streaming: the first words come before the rest of their piece, and nothing of the whole is lost."""

from pathlib import Path

import numpy as np
import pytest
import torch
import unisono
from unisono import Audio
from unisono_tts import streaming
from unisono_tts.speaking import speak_batch
from unisono_tts.streaming import EARLY_FRAMES, FIRST_PIECE_CHARACTERS

SHIPPED = Path(__file__).parents[2] / "checkpoints/tts-en"
VOCODED = 2e-3
"""A vocoder that goes on from a part sums the phase of its source in another order."""
CANCELLED = 5e-2
"""Where pulses and noise nearly cancel, the sum's phase is that of the rounding: a few frames, on some processors."""

TEXTS = {
    "several pieces": "The ship left at dawn, and nobody waved. By noon the wind had turned; the crew knew it!",
    "a phrase that is cut": "It is easy to tell the depth of a well that nobody has ever looked into with a lamp",
    "figures": "On May 5 we paid $12.50 for 3 of them, which was too much.",
    "inline pauses late": "This one goes on and on before it is [0.3s] interrupted.",
}


@pytest.fixture(scope="module")
def voice():
    return unisono.load(SHIPPED)


def in_pieces(voice, **fields):
    """The pieces that a stream reads, each spoken whole."""
    with torch.inference_mode():
        request = voice.request(**fields)
        readings = voice.model.voice.read(request, voice.model.max_piece_characters, FIRST_PIECE_CHARACTERS)
        return Audio.join([speak_batch(voice.model, [reading])[0] for reading in readings])


def in_order(audio):
    return sorted((s.kind, s.start, s.end, s.label, s.span) for s in audio.segments)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("speaker", ["kathleen", "lj"])
def test_the_parts_are_the_pieces(voice, text, speaker):
    parts = list(voice.stream(text, speaker=speaker))
    joined, wanted = Audio.join(parts), in_pieces(voice, text=text, speaker=speaker)
    assert joined.text == wanted.text
    difference = np.abs(joined.waveform - wanted.waveform)
    assert (difference > VOCODED).mean() < 0.01
    assert difference.max() < CANCELLED
    assert len(joined.segments) == len(wanted.segments)
    for mine, its in zip(in_order(joined), in_order(wanted), strict=True):
        assert (mine[0], *mine[3:]) == (its[0], *its[3:])
        assert mine[1:3] == pytest.approx(its[1:3], abs=1e-9)
    for name, curve in wanted.curves.items():
        np.testing.assert_allclose(joined.curves[name].times, curve.times, atol=1e-9)
        np.testing.assert_allclose(joined.curves[name].values, curve.values)
    for part in parts:
        ends = [segment.end for segment in part.segments]
        assert max(ends, default=0) <= part.seconds + 1e-9
        assert all(segment.start >= -1e-9 for segment in part.segments)
        for word in part.words:
            assert word.span is not None and part.text[slice(*word.span)].strip() == part.text[slice(*word.span)] != ""


def test_the_first_words_come_before_the_rest_has_a_waveform(voice, monkeypatch):
    seen = []
    decode = voice.model.vocoder.decode_stream

    def spied(chunks):
        def told():
            for chunk in chunks:
                seen.append(chunk.shape[1])
                yield chunk

        yield from decode(told())

    monkeypatch.setattr(voice.model.vocoder, "decode_stream", spied)
    going = voice.stream(TEXTS["several pieces"], speaker="lj")
    first = next(going)
    assert seen == [EARLY_FRAMES]
    mel = voice.model.mel_spec
    assert 0 < first.seconds <= EARLY_FRAMES * mel.hop_length / mel.sample_rate
    assert first.words and TEXTS["several pieces"].startswith(first.text) and first.text.strip()
    second = next(going)
    assert second.offset == pytest.approx(first.seconds)
    going.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "Yes."},
        {"text": "Wait [0.2s] a moment, and then go on to the end."},
        {"text": "<speak><prosody volume='soft'>Quietly</prosody> does it, every time.</speak>", "markup": "ssml"},
    ],
    ids=["shorter than the early frames", "a pause", "a volume"],
)
def test_what_cannot_be_parted_comes_whole(voice, fields, monkeypatch):
    monkeypatch.setattr(voice.model.vocoder, "decode_stream", None)  # never called
    parts = list(voice.stream(**fields))
    np.testing.assert_array_equal(Audio.join(parts).waveform, in_pieces(voice, **fields).waveform)


def test_a_vocoder_that_cannot_go_on_speaks_whole_pieces():
    voice = unisono.load(SHIPPED, components={"vocoder": "griffin-lim"})
    assert not isinstance(voice.model.vocoder, streaming.StreamVocoder)
    parts = list(voice.stream("By noon the wind had turned.", speaker="lj"))
    assert len(parts) == 1
