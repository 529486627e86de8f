"""Baselines: outlines that no model made, and the true one with a model's number of vertices.

`box` knows which thing is meant and where it ends, `mean` nothing of the picture at all; `resampled` is the best that
so many vertices can be.
"""

import numpy as np

from unisono_outline.corpus.facts import OutlineFacts
from unisono_outline.geometry import canonical, resampled
from unisono_outline.geometry.polygon import Vertices, box_of

RESAMPLED, BOX, MEAN = "true, resampled", "true box", "mean outline"


def baselines(outline: Vertices, facts: OutlineFacts) -> dict[str, Vertices]:
    """Return them for a true outline in sides, by name."""
    return {
        RESAMPLED: resampled(canonical(outline), facts.num_vertices),
        BOX: box_of(outline),
        MEAN: np.array(facts.mean_outline),
    }
