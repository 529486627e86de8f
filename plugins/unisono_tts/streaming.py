"""Streaming: a text spoken piece by piece, its first words before the rest of their piece has a waveform.

::

    first piece    symbols ─ mel ─┬─ first frames ─ vocoder ─ first words      yielded
                                  └─ other frames ─ vocoder ─ other words      yielded
    other pieces   symbols ─ mel ─ vocoder ─ piece                             yielded, each

Shapes: b batch, t frames, m mel bins, n samples.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor
from unisono import Audio
from unisono.media import Curve
from unisono_sound.signal import MelSpec
from unisono_sound.voice import Reading, SpeechRequest, seams

from unisono_tts.speaking import Said, described, finished, say, silence_behind, speak_batch

FIRST_PIECE_CHARACTERS = 48
"""The first piece of a stream is short, so that the first sound comes early."""

EARLY_FRAMES = 80
"""Frames of the first piece that are turned into sound before the others."""


@runtime_checkable
class StreamVocoder(Protocol):
    """A vocoder that goes on from a part."""

    def decode_stream(self, chunks: Iterable[Float[Tensor, "b t m"]]) -> Iterator[Float[Tensor, "b n"]]:
        """Turn chunks of log mels into waves that join up to those of all of them."""
        ...


def stream(model: Any, request: SpeechRequest) -> Iterator[Audio]:
    """Yield the audio of each piece as soon as it is spoken; the first piece is a short one, and begins early."""
    first = True
    for reading in model.voice.read(request, model.max_piece_characters, FIRST_PIECE_CHARACTERS):
        yield from speak_early(model, reading) if first else speak_batch(model, [reading])
        first = False


def speak_early(model: Any, reading: Reading) -> Iterator[Audio]:
    """Yield a piece in two parts, the first of which needs no waveform of the second; joined, they are the piece.

    The parts meet where a word begins: the last one within the `EARLY_FRAMES` that are turned into sound first, less
    those that the vocoder sees ahead; where the first word is longer, behind it. A piece is yielded whole if it is of
    one word, if it has pauses or volumes that were asked for, or if the vocoder cannot go on from a part.
    """
    vocoder, mel_spec = model.vocoder, model.mel_spec
    said = say(model, [reading])
    frames = int(said.frames[0])
    begins = _word_begins(said, reading, mel_spec)
    directed = reading.held or any(reading.volume or ())
    if directed or not begins or frames <= EARLY_FRAMES or not isinstance(vocoder, StreamVocoder):
        yield finished(model, said, 0, reading, vocoder.decode(said.mel, said.frames).float().cpu().numpy()[0])
        return
    wave = _Wave(vocoder, said.mel[:, :frames], mel_spec.hop_length)
    wave.grow(EARLY_FRAMES)
    nearest = begins[0][1]
    if nearest > wave.frames:
        wave.grow(nearest + EARLY_FRAMES - wave.frames)
    place = max(place for place, frame in begins if frame <= max(wave.frames, nearest))
    yield from _parted_at(place, reading, said, wave, mel_spec)


def _word_begins(said: Said, reading: Reading, mel_spec: MelSpec) -> list[tuple[int, int]]:
    """Return the symbol with which each word but the first begins, and its first frame of what is kept of the sound."""
    rate, hop = mel_spec.sample_rate, mel_spec.hop_length
    borders, owners = said.borders[0], reading.symbols.word_of
    first, _ = seams(reading, borders[: len(reading.ids) + 1])
    begins = [place for place in range(1, len(owners)) if owners[place] > max(0, *owners[:place])]
    return [(place, round(borders[place] * rate / hop)) for place in begins if borders[place] > first]


def _parted_at(place: int, reading: Reading, said: Said, wave: "_Wave", mel_spec: MelSpec) -> Iterator[Audio]:
    """Yield what is before a symbol, and, when the wave is there, the rest."""
    rate = mel_spec.sample_rate
    borders = said.borders[0, : len(reading.ids) + 1]
    first, last = seams(reading, borders)
    start, cut, stop = (round(seconds * rate) for seconds in (first, borders[place], last))
    known, curves = described(said, 0, reading, borders.clip(first, last) - first)
    shift = (cut - start) / rate
    letters = reading.spans[reading.symbols.word_of[place]][0] if reading.spans else len(reading.text)
    here = tuple(segment for segment in known if segment.end <= shift + 0.5 / rate)
    there = tuple(segment.moved(-shift, -letters) for segment in known if segment.end > shift + 0.5 / rate)
    edge = 2 * place  # a curve has two points for each symbol
    before = {name: Curve(c.times[:edge], c.values[:edge], c.unit) for name, c in curves.items()}
    behind = {name: Curve(c.times[edge:] - shift, c.values[edge:], c.unit) for name, c in curves.items()}
    yield Audio(wave.known()[None, start:cut], rate, here, before, text=reading.text[:letters])
    rest = np.concatenate([wave.whole()[cut:stop], silence_behind(reading, rate)])
    yield Audio(rest[None], rate, there, behind, text=reading.text[letters:])


class _Wave:
    """A wave that grows as far as it is asked to; the vocoder lags behind the frames that it is given."""

    def __init__(self, vocoder: StreamVocoder, mel: Float[Tensor, "1 t m"], hop: int):
        self._mel, self._hop, self._fed, self._goal = mel, hop, 0, 0
        self._made: list[np.ndarray] = []
        self._parts = vocoder.decode_stream(self._chunks())

    @property
    def frames(self) -> int:
        """Frames whose sound is known."""
        return sum(map(len, self._made)) // self._hop

    def grow(self, goal: int) -> None:
        """Give the vocoder all frames below ``goal``."""
        self._goal = min(goal, self._mel.shape[1])
        self._made.append(_samples(next(self._parts)))

    def known(self) -> Float[np.ndarray, " n"]:
        """Return what is made."""
        return np.concatenate(self._made)

    def whole(self) -> Float[np.ndarray, " n"]:
        """Return the wave of all frames."""
        self._goal = self._mel.shape[1]
        self._made += map(_samples, self._parts)
        return self.known()

    def _chunks(self) -> Iterator[Float[Tensor, "1 t m"]]:
        while self._fed < self._mel.shape[1]:
            # A vocoder that asks again has said nothing yet: it is given the rest.
            start, self._fed = self._fed, self._goal if self._goal > self._fed else self._mel.shape[1]
            yield self._mel[:, start : self._fed]


def _samples(wave: Float[Tensor, "1 n"]) -> Float[np.ndarray, " n"]:
    return wave[0].float().cpu().numpy()
