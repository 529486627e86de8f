"""PSOLA: another pitch for a recording, its timing and its formants as they were.

Moulines and Charpentier, "Pitch-synchronous waveform processing techniques" (1990): stretches of two periods around
pitch marks are laid at the distances of the new pitch. Where there is no voice, marks lie 5 ms apart and stay.

Shapes: n samples, t frames, p marks.
"""

import numpy as np
from jaxtyping import Float, Int

__all__ = ["pitch_marks", "with_pitch"]

UNVOICED_SECONDS = 0.005


def pitch_marks(
    wave: Float[np.ndarray, "n"], hertz: Float[np.ndarray, "t"], rate: int, hop: int
) -> Int[np.ndarray, "p"]:
    """Return marks one period apart, each moved to the largest sample within a fifth of a period of where it is
    expected; where ``hertz`` is 0, 5 ms apart."""
    marks, place = [0], 0
    while True:
        period = _period(hertz, place, rate, hop)
        place = marks[-1] + period
        if place >= len(wave):
            return np.array(marks)
        if _at(hertz, place, hop) > 0:
            reach = max(1, period // 5)
            low, high = max(place - reach, marks[-1] + 1), min(place + reach + 1, len(wave))
            place = low + int(wave[low:high].argmax())
        marks.append(place)


def with_pitch(
    wave: Float[np.ndarray, "n"],
    hertz: Float[np.ndarray, "t"],
    wanted: Float[np.ndarray, "t"],
    rate: int,
    hop: int,
) -> Float[np.ndarray, "n"]:
    """Return a recording of pitch ``hertz`` (0 where unvoiced) with the pitch ``wanted``, as long as it was."""
    if len(hertz) == 0 or not len(wave):
        return wave.copy()
    marks = pitch_marks(wave, hertz, rate, hop)
    made, weight = np.zeros(len(wave)), np.zeros(len(wave))
    place = 0.0
    while place < len(wave):
        at = int(place)
        own = marks[int(np.abs(marks - at).argmin())]
        period = _period(hertz, own, rate, hop)
        window = np.hanning(2 * period + 1)
        offsets = np.arange(-period, period + 1)
        inside = (own + offsets >= 0) & (own + offsets < len(wave)) & (at + offsets >= 0) & (at + offsets < len(wave))
        made[at + offsets[inside]] += wave[own + offsets[inside]] * window[inside]
        weight[at + offsets[inside]] += window[inside]
        new = _at(wanted, at, hop)
        place += rate / new if new > 0 and _at(hertz, at, hop) > 0 else UNVOICED_SECONDS * rate
    return (made / np.maximum(weight, 0.3)).astype(np.float32)


def _at(hertz: Float[np.ndarray, "t"], place: int, hop: int) -> float:
    return float(hertz[min(place // hop, len(hertz) - 1)])


def _period(hertz: Float[np.ndarray, "t"], place: int, rate: int, hop: int) -> int:
    found = _at(hertz, place, hop)
    return max(2, round(rate / found if found > 0 else UNVOICED_SECONDS * rate))
