"""Alignment by CTC: the best path against enumeration, borders against their definition, and what is refused."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import RequestError
from unisono_asr.align import UnitPath, best_path, check_fit, fit_of
from unisono_asr.borders import silences, unit_spans
from unisono_sound.measure import unit_error_rate


def log_probs(steps, size, seed=0):
    return torch.randn(steps, size, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(-1)


def collapsed(path):
    return [unit for unit, _ in itertools.groupby(path) if unit]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(3, 6))
def test_the_path_is_the_likeliest_of_all_that_spell_the_text(seed, units, steps):
    needed = len(units) + sum(a == b for a, b in itertools.pairwise(units))
    if needed > steps:
        return
    rows = log_probs(steps, 4, seed)
    best = max(
        (path for path in itertools.product(range(4), repeat=steps) if collapsed(path) == units),
        key=lambda path: sum(float(rows[t, unit]) for t, unit in enumerate(path)),
    )
    found = best_path(rows, units)
    runs = [(unit, list(run)) for unit, run in itertools.groupby(range(steps), key=lambda t: best[t])]
    wanted = [(run[0], run[-1] + 1) for unit, run in runs if unit]
    assert list(zip(found.first.tolist(), found.last.tolist(), strict=True)) == wanted
    lead = [
        np.mean([float(rows[t, unit] - rows[t].max()) for t in range(first, last)])
        for unit, (first, last) in zip(units, wanted, strict=True)
    ]
    assert found.scores == pytest.approx(np.exp(lead), rel=1e-5)


def test_a_text_that_is_certain_has_scores_of_1():
    rows = torch.full((6, 3), -20.0)
    for step, unit in enumerate([0, 1, 1, 0, 2, 0]):
        rows[step, unit] = 0.0
    found = best_path(rows, [1, 2])
    assert (found.first.tolist(), found.last.tolist(), found.scores.tolist()) == ([1, 4], [3, 5], [1, 1])


@pytest.mark.parametrize(("units", "steps"), [([1, 2, 3], 2), ([1, 1], 2)])
def test_a_text_longer_than_the_sound_is_refused(units, steps):
    with refused(RequestError, "limit", "text", value=len(units), names=str(steps)):
        best_path(log_probs(steps, 4), units)


def test_no_text_and_too_much_of_both_are_refused():
    with refused(RequestError, "empty", "text"):
        best_path(log_probs(4, 3), [])
    with refused(RequestError, "limit", "audio", value=60_000):
        best_path(torch.zeros(1, 3).expand(60_000, 3), [1, 2] * 15_000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=9), st.lists(st.integers(1, 4), max_size=9))
def test_fit_is_what_edits_leave_of_the_longer_one(said, heard):
    wanted = 1 - unit_error_rate(said, heard).errors / max(len(said), len(heard), 1)
    assert fit_of(said, heard) == pytest.approx(wanted) == pytest.approx(fit_of(heard, said))


def test_a_text_of_another_sound_is_said_to_be_one():
    check_fit(0.5, 0.5)
    with refused(RequestError, "conflict", "text", value=0.25, names=["0.250", "0.5"]):
        check_fit(0.25, 0.5)
    with refused(RequestError, "conflict", "text"):
        check_fit(float("nan"), 0.5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_a_border_is_the_best_of_all_places_and_between_steps_where_both_are_as_likely(seed, steps):
    """Two units, the first step the one's peak, the last the other's: every way to share out the steps between."""
    rows = log_probs(steps, 3, seed).numpy().astype(float)
    path = UnitPath(np.array([0, steps - 1]), np.array([1, steps]), np.ones(2))
    spans = unit_spans(path, rows, [1, 2], [0, 0], np.arange(steps) * 0.04, steps * 0.04, np.zeros((0, 2)))
    totals = [rows[1:cut, 1].sum() + rows[cut:-1, 2].sum() for cut in range(1, steps)]
    cut = 1 + int(np.argmax(totals))
    assert (cut - 1) * 0.04 - 1e-9 <= spans[0, 1] <= cut * 0.04 + 1e-9
    assert spans[0, 1] == spans[1, 0]
    before, after = rows[cut - 1, 1] - rows[cut - 1, 2], rows[cut, 1] - rows[cut, 2]
    if before > 0 > after:
        share = spans[0, 1] / 0.04 - (cut - 1)
        assert before + share * (after - before) == pytest.approx(0, abs=1e-6)


def test_silence_between_words_is_neithers_and_within_a_word_it_is():
    rows = log_probs(30, 4).numpy()
    path = UnitPath(np.array([5, 10, 25]), np.array([6, 11, 26]), np.ones(3))
    quiet = np.array([[0.0, 0.17], [0.24, 0.36], [0.5, 0.9], [1.1, 1.2]])
    spans = unit_spans(path, rows, [1, 2, 3], [0, 0, 1], np.arange(30) * 0.04, 1.2, quiet)
    assert spans[0, 0] == pytest.approx(0.17) and spans[2, 1] == pytest.approx(1.1)
    assert spans[0, 1] == spans[1, 0]  # a stop that closes
    assert (spans[1, 1], spans[2, 0]) == (pytest.approx(0.5), pytest.approx(0.9))


def test_silences_are_found_to_a_step():
    rate = 8000
    wave = np.concatenate([np.zeros(1600), np.full(800, 0.1), np.full(400, 1e-5), np.full(800, 0.1), np.zeros(2400)])
    assert silences(wave, rate) == pytest.approx(np.array([[0, 0.2], [0.45, 0.75]]))
    assert silences(wave, rate, shortest=0.05)[1] == pytest.approx(np.array([0.3, 0.35]))
    assert silences(np.zeros(800), rate).tolist() == [[0.0, 0.1]]
    assert len(silences(np.full(800, 0.1), rate)) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 3), min_size=1, max_size=6))
def test_spans_follow_one_another_within_the_sound(seed, units):
    rows = log_probs(20, 4, seed)
    found = best_path(rows, units)
    quiet = silences(np.random.default_rng(seed).normal(size=8000) * (np.arange(8000) % 2000 > 900), 10_000)
    spans = unit_spans(
        found, rows.numpy(), units, [i // 2 for i in range(len(units))], np.arange(20) * 0.04, 0.8, quiet
    )
    flat = spans.reshape(-1)
    assert (np.diff(flat) >= 0).all() and flat[0] >= 0 and flat[-1] <= 0.8
