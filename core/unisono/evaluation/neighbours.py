"""Measures by nearest neighbours: precision and recall of a set of samples, and how near each is to a known item.

Precision and recall are those of Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative
Models" (arXiv:1904.06991): each set's manifold is the union of balls around its vectors, each as large as the
distance to its k-th nearest neighbour; precision is the share of samples on the real manifold, recall the share of
real items on the samples'. Difference: none but that distances are taken in float64, block by block.

Shapes: n, m vectors, d dimensions.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from unisono.errors import DataError

BLOCK = 1024


def precision_recall(
    real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "m d"], neighbours: int = 3
) -> tuple[float, float]:
    """Return (precision, recall) of what was made, each from 0 to 1; ``neighbours`` is the paper's k.

    Both depend on the sizes of the sets: compare only equal ones. Raises ``DataError`` for sets that are too small
    for k, of another width, or not finite.
    """
    real, made = _checked(real, made)
    if neighbours < 1 or min(len(real), len(made)) <= neighbours:
        raise DataError(
            f"neighbours={neighbours} must be from 1 to below the size of both sets, {len(real)} and {len(made)}",
            code="range",
            path="neighbours",
            value=neighbours,
        )
    radius_real, radius_made = (_radii(vectors, neighbours) for vectors in (real, made))
    precise = np.zeros(len(made), bool)
    recalled = np.zeros(len(real), bool)
    for start, distances in _blocks(made, real):
        stop = start + len(distances)
        precise[start:stop] = (distances <= radius_real).any(1)
        recalled |= (distances <= radius_made[start:stop, None]).any(0)
    return float(precise.mean()), float(recalled.mean())


def nearest(
    queries: Float[np.ndarray, "n d"], known: Float[np.ndarray, "m d"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return, for each query, the index of the nearest known vector (the first of equals) and its distance.

    Raises ``DataError`` for sets that are empty, of another width, or not finite.
    """
    queries, known = _checked(queries, known)
    index, distance = np.empty(len(queries), np.int64), np.empty(len(queries))
    for start, distances in _blocks(queries, known):
        stop = start + len(distances)
        index[start:stop] = distances.argmin(1)
        # Anew for the chosen ones: a difference of squares cannot tell a copy from what is merely near.
        distance[start:stop] = np.linalg.norm(queries[start:stop] - known[index[start:stop]], axis=1)
    return index, distance


def _radii(vectors: np.ndarray, neighbours: int) -> np.ndarray:
    """Return each vector's distance to its k-th nearest other."""
    radii = np.empty(len(vectors))
    for start, distances in _blocks(vectors, vectors):
        rows = np.arange(len(distances))
        distances[rows, start + rows] = -1.0  # itself comes first, whatever rounding says
        radii[start : start + len(distances)] = np.partition(distances, neighbours, axis=1)[:, neighbours]
    return radii


def _blocks(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row's index and the distances of a block of rows to all others."""
    squares = np.einsum("nd,nd->n", other, other)
    for start in range(0, len(one), BLOCK):
        block = one[start : start + BLOCK]
        squared = np.einsum("nd,nd->n", block, block)[:, None] + squares - 2 * block @ other.T
        yield start, np.sqrt(squared.clip(min=0))


def _checked(*sets: np.ndarray) -> list[np.ndarray]:
    found = [np.asarray(vectors, dtype=np.float64) for vectors in sets]
    for vectors in found:
        if vectors.ndim != 2 or not len(vectors):
            raise DataError(
                f"features of shape {vectors.shape}: neighbours need one vector or more, [n, d]",
                code="shape",
                value=vectors.shape,
            )
        if vectors.shape[1] != found[0].shape[1]:
            raise DataError(
                f"features of {found[0].shape[1]} and {vectors.shape[1]} dimensions cannot be compared",
                code="shape",
                value=vectors.shape,
            )
        if not np.isfinite(vectors).all():
            raise DataError(
                "features that are not finite have no neighbours: look for the item that gave them", code="damaged"
            )
    return found
