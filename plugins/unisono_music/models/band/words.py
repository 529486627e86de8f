"""Words: a voice of a grid as words, a bar after the other, and back (REMI, Huang and Yang, arXiv:2002.00212).

::

    Edge │ Bar  Position 0 Pitch 7 Duration 8  Position 8 Pitch 9 Duration 8 │ Bar  Position 0 Tie Duration 4 │ Edge

Each bar begins with ``Bar``, or ``Empty`` where nothing sounds in it; ``Edge`` stands before the first and behind the
last. A note is three words. One that is held over a bar line goes on there as ``Tie`` in the pitch's place, so that
words of a grid and the grid are one to one: what is struck again is a ``Pitch``.

BandControlNet's words have velocities as well, several notes at once and pairs of words in one (byte pairs): voices of
a grid need none of them. Silence is what no note covers.

Shapes: s steps, w words. Pitches of words count from the voice's lowest one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

EDGE, BAR, EMPTY, TIE = range(4)
MARKS = 4
"""Words that are no number; positions, pitches and durations come behind them."""


@dataclass(frozen=True)
class Words:
    """The vocabulary of voices of ``num_pitches`` pitches, in bars of ``bar_steps`` steps."""

    bar_steps: int
    num_pitches: int

    def __len__(self) -> int:
        return MARKS + 2 * self.bar_steps + self.num_pitches

    def position(self, step: int) -> int:
        """The word for a step of the bar, in [0, bar_steps)."""
        return MARKS + step

    def pitch(self, pitch: int) -> int:
        """The word for a pitch, in [0, num_pitches)."""
        return MARKS + self.bar_steps + pitch

    def duration(self, steps: int) -> int:
        """The word for a duration, in [1, bar_steps]."""
        return MARKS + self.bar_steps + self.num_pitches + steps - 1

    @property
    def pitches(self) -> slice:
        """The words that are pitches."""
        return slice(self.pitch(0), self.pitch(self.num_pitches))

    def name(self, word: int) -> str:
        """What a word reads."""
        if word < MARKS:
            return ("Edge", "Bar", "Empty", "Tie")[word]
        for name, first, count, base in (
            ("Position", self.position(0), self.bar_steps, 0),
            ("Pitch", self.pitch(0), self.num_pitches, 0),
            ("Duration", self.duration(1), self.bar_steps, 1),
        ):
            if word < first + count:
                return f"{name} {word - first + base}"
        raise IndexError(f"word {word} of a vocabulary of {len(self)}")

    def encode(self, pitch: Int[np.ndarray, " s"], onset: Bool[np.ndarray, " s"]) -> list[int]:
        """Return the words of a voice: pitches in [0, num_pitches) or -1, and where they are struck.

        Raises ``ValueError`` for a pitch outside of the voice's.
        """
        if len(pitch) and not -1 <= pitch.min() <= pitch.max() < self.num_pitches:
            raise ValueError(f"pitches in [{pitch.min()}, {pitch.max()}]: words are of [-1, {self.num_pitches})")
        words = [EDGE]
        for start in range(0, len(pitch), self.bar_steps):
            bar, struck = pitch[start : start + self.bar_steps], onset[start : start + self.bar_steps]
            if (bar < 0).all():
                words.append(EMPTY)
                continue
            words.append(BAR)
            edges = struck | (np.diff(bar, prepend=-2) != 0)
            begins = np.flatnonzero(edges)
            ends = np.append(begins[1:], len(bar))
            for a, b in zip(begins.tolist(), ends.tolist(), strict=True):
                if bar[a] >= 0:
                    what = self.pitch(int(bar[a])) if struck[a] else TIE
                    words += [self.position(a), what, self.duration(b - a)]
        return [*words, EDGE]

    def decode(self, words: Sequence[int], num_steps: int) -> tuple[Int[np.ndarray, " s"], Bool[np.ndarray, " s"]]:
        """Return the pitches, -1 for silence, and where they are struck; what ``encode`` and the grammar write."""
        pitch = np.full(num_steps, -1, dtype=np.int64)
        onset = np.zeros(num_steps, dtype=bool)
        start, at, current, struck = -self.bar_steps, 0, -1, False
        for word in words:
            if word in (BAR, EMPTY):
                start += self.bar_steps
            elif word == TIE:
                struck = False
            elif word == EDGE:
                continue
            elif word < self.pitch(0):
                at = start + word - self.position(0)
            elif word < self.duration(1):
                current, struck = word - self.pitch(0), True
            else:
                pitch[at : at + word - self.duration(1) + 1] = current
                onset[at] = struck
        return pitch, onset
