"""Precision, recall and nearest neighbours against brute force and sets whose answer is known."""

import numpy as np
import pytest
from refused import refused
from unisono.errors import DataError
from unisono.evaluation import nearest, precision_recall


def brute(real: np.ndarray, made: np.ndarray, k: int) -> tuple[float, float]:
    """The definition, pair by pair."""

    def covered(points, centres):
        radii = [sorted(np.linalg.norm(c - o) for j, o in enumerate(centres) if j != i)[k - 1]
                 for i, c in enumerate(centres)]  # fmt: skip
        return np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points])

    return float(covered(made, real)), float(covered(real, made))


@pytest.mark.parametrize("block", [3, 1024])
@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_as_defined(monkeypatch, block, k):
    monkeypatch.setattr("unisono.evaluation.neighbours.BLOCK", block)
    generator = np.random.default_rng(0)
    real, made = generator.normal(size=(20, 4)), generator.normal(size=(14, 4)) + 0.8
    found = precision_recall(real, made, k)
    assert found == brute(real, made, k)
    assert 0 < found[0] < 1


def test_known_answers():
    generator = np.random.default_rng(1)
    real = generator.normal(size=(40, 3))
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 1000) == (0.0, 0.0)
    # One mode of two: all of it is real, half of what is real is there.
    two = np.concatenate([real, real + 1000])
    precision, recall = precision_recall(two, real)
    assert (precision, recall) == (1.0, 0.5)
    # Equal points have balls of no size, which hold them still.
    assert precision_recall(np.ones((6, 2)), np.ones((6, 2))) == (1.0, 1.0)


@pytest.mark.parametrize("block", [3, 1024])
def test_nearest_is_brute_force_and_a_copy_is_at_zero(monkeypatch, block):
    monkeypatch.setattr("unisono.evaluation.neighbours.BLOCK", block)
    generator = np.random.default_rng(2)
    known = generator.normal(size=(11, 5)) + 1e3  # far from 0, where differences of squares lose their digits
    queries = np.concatenate([generator.normal(size=(6, 5)) + 1e3, known[4:5]])
    index, distance = nearest(queries, known)
    pairs = np.linalg.norm(queries[:, None] - known, axis=-1)
    np.testing.assert_array_equal(index, pairs.argmin(1))
    np.testing.assert_allclose(distance, pairs.min(1), rtol=1e-12)
    assert (index[-1], distance[-1]) == (4, 0)


@pytest.mark.parametrize(
    ("real", "made", "code", "value"),
    [
        (np.zeros((3, 2)), np.zeros((9, 2)), "range", 3),
        (np.zeros((9, 2)), np.zeros((9, 3)), "shape", (9, 3)),
        (np.zeros((9, 2)), np.full((9, 2), np.nan), "damaged", None),
        (np.zeros((0, 2)), np.zeros((9, 2)), "shape", (0, 2)),
    ],
)
def test_sets_that_cannot_be_measured(real, made, code, value):
    with refused(DataError, code, value=value):
        precision_recall(real, made)
