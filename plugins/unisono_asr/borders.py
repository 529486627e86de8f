"""Borders: where units begin and end, of the peaks that CTC gives and of the silences that are heard between them.

Between the peaks of two units stand blanks, which tell nothing. There the border is where the second unit becomes
likelier than the first, the blank left out; between two frames it is where a straight line between their differences is
0. A silence between them is neither's::

    frames       a a ␣ ␣ ␣ b          a a ␣ ␣ ␣ ␣ ␣ ␣ b
    silence                                 ░░░░░
    spans        ├─ a ──┤├ b          ├ a ─┤     ├ b ─

Shapes: t frames, v units with the blank, u units of the text, n samples.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unisono_asr.align import UnitPath

__all__ = ["QUIET_DB", "SHORTEST_SILENCE", "silences", "unit_spans"]

QUIET_DB = 40.0
"""What is so far below the loudest is silence."""
SHORTEST_SILENCE = 0.1
"""Seconds. Most stop consonants close for less."""
STEP_SECONDS = 0.01


def silences(
    wave: Float[np.ndarray, "n"], rate: int, quiet_db: float = QUIET_DB, shortest: float = SHORTEST_SILENCE
) -> Float[np.ndarray, "k 2"]:
    """Return the silences of a sound as rows of begin and end in seconds, in steps of 10 ms, in order.

    Silence is what is ``quiet_db`` below the loudest step for ``shortest`` seconds; a sound without any power is one.
    """
    step = max(1, round(STEP_SECONDS * rate))
    count = -(-len(wave) // step)
    power = np.pad(np.asarray(wave, np.float64), (0, count * step - len(wave))).reshape(count, step)
    power = np.square(power).mean(1)
    quiet = power <= power.max(initial=0.0) * 10 ** (-quiet_db / 10)
    edges = np.flatnonzero(np.diff(quiet.astype(np.int8), prepend=0, append=0)).reshape(-1, 2) * step
    found = np.minimum(edges, len(wave)) / rate
    return found[found[:, 1] - found[:, 0] >= shortest - 1e-9]


def unit_spans(
    path: UnitPath,
    log_probs: Float[np.ndarray, "t v"],
    units: Sequence[int],
    owners: Sequence[int],
    centres: Float[np.ndarray, "t"],
    seconds: float,
    quiet: Float[np.ndarray, "k 2"],
) -> Float[np.ndarray, "u 2"]:
    """Return where each unit begins and ends, in seconds: in order, none over another one, within [0, ``seconds``].

    ``owners`` are the words of the units: within a word there is no silence, since stops close. ``centres`` are the
    times of the frames, ``quiet`` silences as of ``silences``.
    """
    peaks = (centres[path.first] + centres[path.last - 1]) / 2
    spans = np.empty((len(units), 2))
    spans[0, 0] = _silent(quiet, 0.0, float(peaks[0]), (0.0, 0.0))[1]
    for i in range(len(units) - 1):
        between = slice(path.last[i] - 1, path.first[i + 1] + 1)
        border = _crossing(log_probs[between], units[i], units[i + 1], centres[between])
        spans[i, 1] = spans[i + 1, 0] = border
        if owners[i] != owners[i + 1]:
            spans[i, 1], spans[i + 1, 0] = _silent(quiet, float(peaks[i]), float(peaks[i + 1]), (border, border))
    spans[-1, 1] = _silent(quiet, float(peaks[-1]), seconds, (seconds, seconds))[0]
    return np.maximum.accumulate(np.clip(spans, 0, seconds).reshape(-1)).reshape(-1, 2)


def _crossing(rows: Float[np.ndarray, "t v"], before: int, after: int, centres: Float[np.ndarray, "t"]) -> float:
    """Return where the sum of log probabilities, of one unit up to it and of the other behind it, is greatest."""
    if before == after:
        return float(centres[0] + centres[-1]) / 2
    lead = (rows[:, before] - rows[:, after]).astype(np.float64)
    # The first frame is the one unit's, the last one the other's.
    at = 1 + int(np.argmax(np.concatenate([[0.0], np.cumsum(lead[1:-1])])))
    here, there = lead[at - 1], lead[at]
    share = here / (here - there) if here > 0 > there else 0.5
    return float(centres[at - 1] + share * (centres[at] - centres[at - 1]))


def _silent(
    quiet: Float[np.ndarray, "k 2"], begin: float, end: float, otherwise: tuple[float, float]
) -> tuple[float, float]:
    """Return the longest silence within a stretch, cut to it; ``otherwise`` where there is none of length."""
    cut = np.clip(quiet, begin, end)
    lasts = cut[:, 1] - cut[:, 0]
    if not len(lasts) or lasts.max() < SHORTEST_SILENCE - 1e-9:
        return otherwise
    first, last = cut[int(lasts.argmax())]
    return float(first), float(last)
