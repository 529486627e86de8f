"""Rounding: what holds for every method, speed, total and minimum."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.duration import durations_from_log, log_durations, round_durations
from unisono.errors import UnisonoError

lists = st.lists(st.floats(0, 40, width=32), min_size=1, max_size=30)
speeds = st.sampled_from([0.25, 0.5, 1.0, 1.7, 4.0])


@given(lists, speeds, st.sampled_from([1, 2, 4, 7]), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_total_identities(values, speed, multiple_of, padding):
    d = torch.tensor([values + [9.0] * padding])
    lengths = torch.tensor([len(values)])
    exact = sum(float(v) for v in d[0, : len(values)].double()) / speed
    for method in ("cumulative", "nearest", "ceil", "floor"):
        n = round_durations(d, lengths, method=method, speed=speed, multiple_of=multiple_of)
        assert n.dtype == torch.int64 and n.min() >= 0
        assert not n[0, len(values) :].any()
        total = int(n.sum())
        assert total % multiple_of == 0 and total > 0
        if exact < 1:
            continue
        filled = total - (multiple_of - 1)
        slack = 1e-6
        bounds = {
            "cumulative": (exact - 0.5, exact + 0.5),
            "nearest": (exact - len(values) / 2, exact + len(values) / 2),
            "ceil": (exact, exact + len(values)),
            "floor": (exact - len(values), exact),
        }[method]
        assert total >= bounds[0] - slack and filled <= max(bounds[1] + slack, 1)
        if method == "cumulative" and multiple_of == 1:
            assert ((n - d.double() / speed)[0, : len(values)].abs() < 1 + slack).all()


@given(lists, st.integers(0, 3), st.integers(0, 200))
@settings(max_examples=150, deadline=None)
def test_exact_totals_and_minimum(values, min_frames, total):
    d, s = torch.tensor([values]), len(values)
    if total < min_frames * s:
        with refused(UnisonoError, "range", "total", value=total, names=f"{s} tokens of at least {min_frames}"):
            round_durations(d, total=total, min_frames=min_frames)
    else:
        n = round_durations(d, total=total, min_frames=min_frames)
        assert int(n.sum()) == total and int(n.min()) >= min_frames
    n = round_durations(d, min_frames=min_frames)
    exact = float(d.double().sum())
    assert int(n.min()) >= min_frames
    assert abs(int(n.sum()) - max(exact, min_frames * s, 1)) <= 0.5 + 1e-6 or int(n.sum()) == 1


def test_drift_over_many_tokens():
    d = torch.rand(1, 10_000, generator=torch.Generator().manual_seed(0)) * 8
    exact = float(d.double().sum())
    assert abs(int(round_durations(d).sum()) - exact) <= 0.5
    # Half a frame per token: the bias that the default avoids.
    assert int(round_durations(d, method="ceil").sum()) - exact == pytest.approx(5000, abs=100)


def test_ceil_is_the_rule_of_vits():
    w = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) * 6
    assert torch.equal(round_durations(w, method="ceil", speed=0.8), (w / 0.8).ceil().long())


def test_one_prediction_alone_and_in_a_batch():
    d = torch.rand(4, 9) * 5
    lengths = torch.tensor([9, 5, 1, 7])
    for options in ({}, {"min_frames": 1}, {"multiple_of": 4}, {"method": "ceil", "min_frames": 1}):
        together = round_durations(d, lengths, **options)
        for row, n in enumerate(lengths.tolist()):
            alone = round_durations(d[row : row + 1, :n], **options)
            assert torch.equal(together[row, :n], alone[0])
            assert not together[row, n:].any()


def test_speeds():
    d = torch.full((2, 4), 6.0)
    assert round_durations(d, speed=2.0).tolist() == [[3] * 4] * 2
    assert round_durations(d, speed=torch.tensor([1.0, 3.0])).tolist() == [[6] * 4, [2] * 4]
    per_token = torch.tensor([[1.0, 2.0, 3.0, 6.0]] * 2)
    assert round_durations(d, speed=per_token).tolist() == [[6, 3, 2, 1]] * 2
    pauses = torch.tensor([[False, True, False, True]] * 2)
    mixed = round_durations(d, speed=2.0, pause_speed=0.5, pauses=pauses)
    assert mixed.tolist() == [[3, 12, 3, 12]] * 2
    filled = round_durations(d, pauses=pauses & torch.tensor([1, 1, 1, 0]).bool(), multiple_of=5)
    assert filled.tolist() == [[6, 7, 6, 6]] * 2
    for speed in (0.0, -1.0, float("nan"), float("inf")):
        with refused(UnisonoError, "range", "speed", names="above 0"):
            round_durations(d, speed=speed)


def test_the_filler_of_a_batch_goes_to_each_ones_own_last_pause():
    d = torch.full((3, 4), 3.0)
    lengths = torch.tensor([4, 3, 2])
    pauses = torch.tensor([[0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]).bool()  # rows 1 and 2 are marked on padding too
    filled = round_durations(d, lengths, pauses=pauses, multiple_of=7)
    assert filled.tolist() == [[3, 5, 3, 3], [3, 8, 3, 0], [3, 4, 0, 0]]
    without = round_durations(d, lengths, multiple_of=7)
    assert without.tolist() == [[3, 3, 3, 5], [3, 3, 8, 0], [3, 4, 0, 0]]


def test_all_zero_prediction_gets_one_frame_and_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        n = round_durations(torch.tensor([[0.0, 0.1], [3.0, 0.0]]))
    assert n.tolist() == [[1, 0], [3, 0]]
    assert "items [0]" in caplog.text


def test_empty():
    assert round_durations(torch.zeros(0, 3)).shape == (0, 3)
    assert round_durations(torch.zeros(2, 0)).shape == (2, 0)
    assert round_durations(torch.ones(2, 3), torch.tensor([0, 3])).sum(1).tolist() == [0, 3]


def test_refusals():
    d = torch.ones(1, 3)
    with refused(UnisonoError, "unknown", "method", value="round", names="cumulative"):
        round_durations(d, method="round")
    with refused(UnisonoError, "range", "durations", names=["nan", "token 1", "item 0"]):
        round_durations(torch.tensor([[1.0, torch.nan]]))
    with refused(UnisonoError, "conflict", "total", value=5, names="cumulative"):
        round_durations(d, total=5, method="ceil")
    with refused(UnisonoError, "value", "total", value=[5], names="multiple_of=4"):
        round_durations(d, total=5, multiple_of=4)
    with refused(UnisonoError, "range", "min_frames", value=-1, names="at least 0"):
        round_durations(d, min_frames=-1)


def test_log_durations_and_back():
    d = torch.tensor([0, 1, 2, 75, 5000])
    torch.testing.assert_close(durations_from_log(log_durations(d)), d.float())
    assert durations_from_log(torch.tensor([-3.0, 50.0]), max_frames=75.0).tolist() == [0.0, 75.0]
    with refused(UnisonoError, "range", "max_frames", value=0.0):
        durations_from_log(torch.zeros(1), max_frames=0.0)
