"""Align: which frames belong to which unit of a text that is known (CTC, Graves et al. 2006; the best path by Viterbi).

The search is torchaudio's. A CTC network marks a unit by a peak of a frame or two, with blanks between; where a unit
begins and ends is made of the peaks in ``unisono_asr.borders``.

Shapes: t frames, v units with the blank, u units of the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchaudio.functional import forced_align
from unisono.errors import RequestError

__all__ = ["MIN_FIT", "MOST_CELLS", "UnitPath", "best_path", "check_fit", "fit_of"]

MOST_CELLS = 2**31
"""Frames times states of the search; it keeps two bits for each."""
MIN_FIT = 0.5
"""How well a text must fit its sound at least, where nothing else is asked for; see ``fit_of``."""


@dataclass(frozen=True, eq=False)
class UnitPath:
    """The peaks of a text's units: unit i has the frames [first[i], last[i]).

    ``scores`` are in (0, 1]: how likely a unit is in its frames beside the likeliest one there, as a geometric mean.
    """

    first: Int[np.ndarray, "u"]
    last: Int[np.ndarray, "u"]
    scores: Float[np.ndarray, "u"]


def best_path(log_probs: Float[Tensor, "t v"], units: Sequence[int], blank: int = 0) -> UnitPath:
    """Return the likeliest path of CTC's that spells ``units``, none of which is the blank.

    Raises ``RequestError`` where there are no units, more of them than the frames have room for (two equal ones need
    a blank between them), or more of both than the search is made for.
    """
    num_frames = len(log_probs)
    if not len(units):
        raise RequestError("the text has no units to align: write what is said", code="empty", path="text")
    needed = len(units) + sum(before == after for before, after in pairwise(units))
    if needed > num_frames:
        raise RequestError(
            f"the text is longer than the sound: its {len(units)} units need {needed} frames, the sound has "
            f"{num_frames}; give the text of this sound alone",
            code="limit",
            path="text",
            value=len(units),
        )
    if num_frames * (2 * len(units) + 1) > MOST_CELLS:
        raise RequestError(
            f"{num_frames} frames and {len(units)} units are more than can be aligned at once ({MOST_CELLS} cells): "
            "cut sound and text at sentences",
            code="limit",
            path="audio",
            value=num_frames,
        )
    # The search is compiled for the CPU, and takes one text at a time.
    rows = log_probs.detach().float().cpu()
    path = forced_align(rows[None], torch.tensor([list(units)]), blank=blank)[0][0].numpy()
    first, last = _runs(path, blank)
    lead = (rows - rows.max(-1, keepdim=True).values).numpy().astype(np.float64)
    scores = [lead[a:b, unit].mean() for a, b, unit in zip(first, last, units, strict=True)]
    return UnitPath(first, last, np.exp(scores))


def fit_of(said: Sequence[int], heard: Sequence[int]) -> float:
    """Return how well a text fits its sound, in [0, 1]: 1 less the edits between what is said and what is heard of it
    without the text, as a share of the longer one. Two texts that have nothing to do with one another have about 0.2.
    """
    if not len(said) or not len(heard):
        return float(len(said) == len(heard))
    other = np.asarray(heard)
    places = np.arange(len(other) + 1)
    row = places.copy()
    for number in said:
        new = row + 1
        new[1:] = np.minimum(new[1:], row[:-1] + (other != number))
        row = np.minimum.accumulate(new - places) + places
    return 1.0 - float(row[-1]) / max(len(said), len(heard))


def check_fit(fit: float, least: float = MIN_FIT) -> None:
    """Raise ``RequestError`` where a text fits its sound less than ``least``: it is the text of another one."""
    if not fit >= least:
        raise RequestError(
            f"the text does not belong to the sound: it fits by {fit:.3f}, where {least:g} is the least; give the text "
            "that is said, or a lower min_fit to align it anyway",
            code="conflict",
            path="text",
            value=round(fit, 6),
        )


def _runs(path: Int[np.ndarray, "t"], blank: int) -> tuple[Int[np.ndarray, "u"], Int[np.ndarray, "u"]]:
    """Return where the runs of one unit begin and end."""
    begins = np.flatnonzero(np.diff(path, prepend=blank) != 0)
    begins = begins[path[begins] != blank]
    ends = np.flatnonzero(np.diff(path, append=blank) != 0)
    ends = ends[path[ends] != blank] + 1
    return begins, ends
