"""Measures in a feature space against closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest
from refused import refused
from unisono.errors import DataError
from unisono.evaluation import (
    diversity,
    frechet_distance,
    gaussian_distance,
    multimodality,
    paired_distance,
    r_precision,
)

RNG = np.random.default_rng(3)


def cloud(mean: np.ndarray, covariance: np.ndarray, num: int) -> np.ndarray:
    """Vectors whose sample mean and (unbiased) sample covariance are exactly the given ones."""
    raw = RNG.normal(size=(num, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_commuting_gaussians_is_its_closed_form():
    # Diagonal covariances commute, and then tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) is Σ (σ₁ − σ₂)².
    one, other = np.array([0.5, 2.0, 1.0]), np.array([1.5, 0.25, 1.0])
    turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    mean, shift = RNG.normal(size=3), np.array([0.3, -0.4, 1.2])
    a = cloud(mean, turn @ np.diag(one**2) @ turn.T, 50)
    b = cloud(mean + shift, turn @ np.diag(other**2) @ turn.T, 80)
    expected = (shift**2).sum() + ((one - other) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_gaussians_that_do_not_commute():
    # tr (Σ₁Σ₂)^½ is the sum of the roots of Σ₁Σ₂'s eigenvalues, found without any symmetric root.
    one, other = (m @ m.T for m in RNG.normal(size=(2, 4, 4)))
    roots = np.sqrt(np.linalg.eigvals(one @ other).real).sum()
    expected = np.trace(one) + np.trace(other) - 2 * roots
    assert gaussian_distance(np.zeros(4), one, np.zeros(4), other) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_a_set_to_itself_is_nothing_even_with_fewer_vectors_than_dimensions():
    few = RNG.normal(size=(5, 12))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, few + 2) == pytest.approx(4 * 12, rel=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "code", "value"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "shape", (1, 3)),
        (np.zeros(3), np.zeros((4, 3)), "shape", (3,)),
        (np.zeros((4, 3)), np.zeros((4, 2)), "shape", (4, 2)),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "damaged", None),
    ],
)
def test_frechet_distance_refuses(one, other, code, value):
    with refused(DataError, code, value=value):
        frechet_distance(one, other)


def test_r_precision_with_a_pool_of_everything_is_brute_force():
    texts, items = RNG.normal(size=(2, 9, 4))
    items = texts + 0.8 * items
    ranks = []
    for i, item in enumerate(items):
        nearer = sorted(range(9), key=lambda j: math.dist(item, texts[j]))
        ranks.append(nearer.index(i))
    expected = tuple(sum(rank < top for rank in ranks) / 9 for top in (1, 2, 3))
    assert 0 < expected[0] < 1  # else nothing is tested
    assert r_precision(texts, items, pool=9, repeats=2) == pytest.approx(expected)


def test_r_precision_of_chance_is_top_over_pool():
    texts, items = RNG.normal(size=(2, 400, 8))
    top = r_precision(texts, items, pool=20, repeats=20)
    # 400 independent questions: a standard error of at most 0.018 for a rate of 3 in 20
    assert top == pytest.approx((0.05, 0.1, 0.15), abs=0.06)


def test_r_precision_never_takes_a_text_of_the_same_label_for_a_wrong_answer():
    texts = np.repeat(RNG.normal(size=(5, 3)), 4, axis=0)
    labels = [f"kind {i // 4}" for i in range(20)]
    assert r_precision(texts, texts, labels, pool=6) == (1.0, 1.0, 1.0)
    # Equal texts tie, and ties are misses: without labels the fourfold texts get in each other's way.
    assert r_precision(texts, texts, pool=20)[0] == 0.0


def test_the_other_texts_may_come_from_a_gallery():
    texts = np.eye(3)
    near, far = texts + 0.1, texts + 5.0
    own = ["a", "b", "c"]
    assert r_precision(texts, texts + 0.5, own, gallery=(far, own), pool=3)[0] == 1.0
    assert r_precision(texts, texts + 0.5, own, gallery=(near + 0.4, ["x", "y", "z"]), pool=4) == (0.0, 1.0, 1.0)
    with refused(DataError, "shape", "gallery", value=2, names="3 texts"):
        r_precision(texts, texts, own, gallery=(far, ["a", "b"]), pool=2)


def test_an_encoder_that_says_the_same_of_everything_finds_nothing():
    same = np.ones((40, 3))
    assert r_precision(same, same) == (0.0, 0.0, 0.0)


def test_r_precision_refuses_a_pool_that_cannot_be_filled():
    with refused(DataError, "limit", "pool", value=32, names=["31", "item 0 has 9"]):
        r_precision(np.eye(10), np.eye(10))
    with refused(DataError, "shape", "labels", value=2, names="10 items"):
        r_precision(np.eye(10), np.eye(10), ["a", "b"], pool=2)


def test_distances_are_means_over_pairs():
    items = RNG.normal(size=(6, 3))
    pairs = [math.dist(items[i], items[j]) for i, j in itertools.combinations(range(6), 2)]
    assert diversity(items) == pytest.approx(np.mean(pairs), rel=1e-12)
    split = items.reshape(2, 3, 3)
    assert multimodality(split) == pytest.approx((diversity(split[0]) + diversity(split[1])) / 2, rel=1e-12)
    assert paired_distance(items, items + np.array([3.0, 0.0, 4.0])) == pytest.approx(5, rel=1e-12)


@pytest.mark.parametrize("measure", [lambda: diversity(np.ones((1, 3))), lambda: multimodality(np.ones((2, 3)))])
def test_too_few_items_have_no_spread(measure):
    with pytest.raises(DataError):
        measure()
