"""Mixing: shares in every batch and in the long run, each group dealt out evenly, the same on any number of ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.data.mixing import MixedBatchSampler
from unisono.errors import DataError

GROUPS = torch.tensor([0] * 50 + [1] * 7 + [2] * 23)
NAMES = ["big", "small", "middle"]


def sampler(weights, batch_size=8, seed=1, groups=GROUPS):
    return MixedBatchSampler(torch.arange(len(groups)) % 11, NAMES, groups, weights, batch_size, seed)


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.floats(0, 10), min_size=3, max_size=3).filter(lambda w: sum(w) > 1e-3),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**40),
)
def test_every_batch_has_its_shares_to_within_one_item(weights, batch_size, seed):
    mixed = sampler(dict(zip(NAMES, weights, strict=True)), batch_size, seed)
    counts = mixed.counts(np.arange(500))
    wanted = np.array(weights) / sum(weights) * batch_size
    assert (counts.sum(1) == batch_size).all() and (counts >= 0).all()
    assert (abs(counts - wanted) <= 1 + 1e-9).all()
    assert (abs(counts.mean(0) - wanted) < 0.02).all()


def test_batches_hold_what_counts_say_and_groups_deal_evenly():
    mixed = sampler({"big": 1, "small": 2, "middle": 1})
    shown = torch.zeros(len(GROUPS), dtype=torch.int64)
    for epoch in range(20):
        table = mixed.batches(epoch).table
        steps = np.arange(epoch * len(mixed), (epoch + 1) * len(mixed))
        found = [np.bincount(GROUPS[batch].numpy(), minlength=3).tolist() for batch in table]
        assert found == mixed.counts(steps).tolist()
        shown += torch.bincount(table.flatten(), minlength=len(GROUPS))
    for number in range(3):
        own = shown[number == GROUPS]
        assert own.max() - own.min() <= 1  # nothing comes again before all of its group came
    assert shown[GROUPS == 1].sum() == pytest.approx(20 * 80 / 2, abs=2)


def test_a_plan_is_a_function_of_seed_and_epoch():
    weights = {"big": [[0, 1], [10, 0]], "small": 1, "middle": [[5, 0], [6, 3]]}
    assert torch.equal(sampler(weights).batches(3).table, sampler(weights).batches(3).table)
    assert not torch.equal(sampler(weights).batches(3).table, sampler(weights, seed=2).batches(3).table)


def test_a_curriculum_goes_in_straight_lines_between_its_points():
    mixed = sampler({"big": [[0, 1], [100, 0]], "small": [[0, 0], [100, 1]], "middle": 0}, 10)
    for step, share in ((0, 1.0), (25, 0.75), (100, 0.0), (1000, 0.0)):
        assert mixed.shares(np.array([step])).tolist() == [[share, 1 - share, 0]]
    assert mixed.counts(np.array([0])).tolist() == [[10, 0, 0]]
    assert mixed.counts(np.array([500])).tolist() == [[0, 10, 0]]


def test_sizes_are_similar_within_a_batch():
    groups = torch.zeros(3200, dtype=torch.int64)
    sizes = torch.randint(1, 1000, (3200,), generator=torch.Generator().manual_seed(0))
    mixed = MixedBatchSampler(sizes, ["one"], groups, {"one": 1}, 10, 0)
    table = sizes[mixed.batches(0).table]
    spread = (table.max(1).values - table.min(1).values).float().mean()
    assert spread < 60  # of 32 batches sorted: 1000 / 32 each, against some 820 unsorted


@pytest.mark.parametrize(
    ("weights", "code", "path"),
    [
        ({"big": 1, "small": 1, "middle": 1, "huge": 1}, "unknown", "run.mixing.huge"),
        ({"big": 1, "small": 1}, "missing", "run.mixing.middle"),
        ({"big": 1, "small": -1, "middle": 1}, "range", "run.mixing.small"),
        ({"big": 0, "small": 0, "middle": 0}, "value", "run.mixing"),
        ({"big": [[0, 1], [5, 0]], "small": 0, "middle": 0}, "value", "run.mixing"),
        ({"big": [[5, 1], [0, 0]], "small": 1, "middle": 1}, "value", "run.mixing.big"),
        ({"big": [[0.5, 1]], "small": 1, "middle": 1}, "value", "run.mixing.big"),
        ({"big": [], "small": 1, "middle": 1}, "type", "run.mixing.big"),
        ({"big": "much", "small": 1, "middle": 1}, "type", "run.mixing.big"),
        ({"big": float("nan"), "small": 1, "middle": 1}, "type", "run.mixing.big"),
    ],
)
def test_weights_that_mean_nothing(weights, code, path):
    with refused(DataError, code, path):
        sampler(weights)
