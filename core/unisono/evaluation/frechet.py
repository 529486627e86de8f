"""Fréchet distance: between two sets of feature vectors; the "FID" of whichever network made them.

Heusel et al., "GANs trained by a two time-scale update rule" (arXiv:1706.08500), eq. 6: each set is taken as a
Gaussian, and ``d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)``. Differences: the root's trace is that of the
symmetric ``(Σ₁^½ Σ₂ Σ₁^½)^½``, which has the same eigenvalues and needs neither a complex root nor a fudge
on the diagonal, so that sets of fewer vectors than dimensions are measured as they are.

Shapes: n vectors, d dimensions.
"""

import numpy as np
from jaxtyping import Float

from unisono.errors import DataError


def frechet_distance(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"]) -> float:
    """Return the squared Fréchet distance between the Gaussians of two sets of at least two vectors.

    It is biased upwards for few vectors: compare only sets of the same sizes. Raises ``DataError`` for sets that
    are too small, of another width, or not finite.
    """
    sets = [np.asarray(features, dtype=np.float64) for features in (one, other)]
    for features in sets:
        if features.ndim != 2 or len(features) < 2:
            raise DataError(
                f"features of shape {features.shape}: a Fréchet distance needs two vectors or more, [n, d]",
                code="shape",
                value=features.shape,
            )
        if features.shape[1] != sets[0].shape[1]:
            raise DataError(
                f"features of {sets[0].shape[1]} and {features.shape[1]} dimensions cannot be compared",
                code="shape",
                value=features.shape,
            )
        if not np.isfinite(features).all():
            raise DataError(
                "features that are not finite have no Fréchet distance: look for the item that gave them",
                code="damaged",
            )
    moments = [(features.mean(0), np.cov(features, rowvar=False).reshape(2 * features.shape[1:])) for features in sets]
    return gaussian_distance(*moments[0], *moments[1])


def gaussian_distance(
    mean: Float[np.ndarray, " d"],
    covariance: Float[np.ndarray, "d d"],
    other_mean: Float[np.ndarray, " d"],
    other_covariance: Float[np.ndarray, "d d"],
) -> float:
    """Return the squared Fréchet (Wasserstein-2) distance between two Gaussians; never below 0."""
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(min=0)).sum()
    shift = float(((mean - other_mean) ** 2).sum())
    return max(shift + float(np.trace(covariance) + np.trace(other_covariance) - 2 * shared), 0.0)
