"""Retrieval: ranks, distances and diversity in a space that texts and what they describe share.

Guo et al., "Generating Diverse and Natural 3D Human Motions from Text" (CVPR 2022), §5: they serve movements
there, and anything with a text here. Distances are Euclidean, in the space of the encoder that made the vectors.

Differences: every item is asked about, each with a pool of its own, where the published code cuts a shuffled
list into batches; a pool holds no second text with the asked item's label, so that a right answer never counts
as a wrong one; the other texts may come from elsewhere than the items', where there are few of these; ties count
as misses.

Shapes: n items, m texts of a gallery, d dimensions, c captions, k samples of one caption.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unisono.errors import DataError


def r_precision(
    texts: Float[np.ndarray, "n d"],
    items: Float[np.ndarray, "n d"],
    labels: Sequence[str] | None = None,
    gallery: tuple[Float[np.ndarray, "m d"], Sequence[str]] | None = None,
    pool: int = 32,
    tops: Sequence[int] = (1, 2, 3),
    repeats: int = 10,
    seed: int = 0,
) -> tuple[float, ...]:
    """Return, for each of ``tops``, how often an item's own text is among the nearest of ``pool`` texts, 0 to 1.

    ``labels`` name what items show (default: each something else). The ``pool − 1`` other texts are drawn,
    ``repeats`` times, from those of the ``gallery``, texts and their labels (default: the items' own), that have
    another label. Raises ``DataError`` where there are fewer.
    """
    _same(texts, items)
    if pool < 2 or repeats < 1 or not tops or min(tops) < 1:
        name, value = ("pool", pool) if pool < 2 else ("repeats", repeats) if repeats < 1 else ("tops", tuple(tops))
        message = f"pool={pool}, repeats={repeats}, tops={tuple(tops)}: at least 2, 1 and 1"
        raise DataError(message, code="range", path=name, value=value)
    names = [str(i) for i in range(len(items))] if labels is None else list(labels)
    if len(names) != len(items):
        raise DataError(
            f"{len(names)} labels for {len(items)} items: give one per item",
            code="shape",
            path="labels",
            value=len(names),
        )
    others, other_names = (texts, names) if gallery is None else gallery
    if len(others) != len(other_names):
        raise DataError(
            f"{len(other_names)} labels for the {len(others)} texts of the gallery: give one per text",
            code="shape",
            path="gallery",
            value=len(other_names),
        )
    generator = np.random.default_rng(seed)
    own = np.linalg.norm(np.asarray(items, np.float64) - np.asarray(texts, np.float64), axis=1)
    far = _distances(items, others)
    label_of = np.asarray(other_names)
    hits = np.zeros(len(tops))
    for index, name in enumerate(names):
        choice = np.flatnonzero(label_of != name)
        if len(choice) < pool - 1:
            raise DataError(
                f"a pool of {pool} texts needs {pool - 1} of other labels, item {index} has {len(choice)}: "
                "measure more items, give a gallery, or a smaller pool",
                code="limit",
                path="pool",
                value=pool,
            )
        for _ in range(repeats):
            drawn = generator.choice(choice, pool - 1, replace=False)
            rank = int((far[index, drawn] <= own[index]).sum())
            hits += [rank < top for top in tops]
    return tuple((hits / (len(items) * repeats)).tolist())


def paired_distance(texts: Float[np.ndarray, "n d"], items: Float[np.ndarray, "n d"]) -> float:
    """Return the mean distance between each item and its own text ("multimodal distance")."""
    _same(texts, items)
    return float(np.linalg.norm(np.asarray(texts, np.float64) - np.asarray(items, np.float64), axis=1).mean())


def diversity(items: Float[np.ndarray, "n d"]) -> float:
    """Return the mean distance between two different items, over all pairs (the paper draws 300 of them)."""
    if len(items) < 2:
        raise DataError(
            f"{len(items)} items have no diversity: measure at least two", code="empty", path="items", value=len(items)
        )
    return float(_distances(items, items).sum() / (len(items) * (len(items) - 1)))


def multimodality(items: Float[np.ndarray, "c k d"]) -> float:
    """Return the mean distance between two samples of one caption, over all pairs and captions."""
    if items.ndim != 3 or items.shape[0] < 1:
        raise DataError(
            f"items of shape {items.shape}: give [captions, samples of one caption, dimensions]",
            code="shape",
            path="items",
            value=items.shape,
        )
    return float(np.mean([diversity(samples) for samples in items]))


def _distances(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "n m"]:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.linalg.norm(one[:, None] - other[None], axis=-1)


def _same(texts: np.ndarray, items: np.ndarray) -> None:
    if texts.shape != items.shape or texts.ndim != 2 or not len(texts):
        raise DataError(
            f"texts of shape {texts.shape} and items of shape {items.shape}: give [n, d] of both",
            code="shape",
            path="texts",
            value=texts.shape,
        )
