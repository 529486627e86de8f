"""Action bins: each is read back as itself, and numbers that never change divide nothing by 0."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_control.models.bins import ActionBins


@settings(deadline=None, max_examples=40)
@given(
    st.floats(-100, 100, width=32),
    st.floats(0.125, 100, width=32),
    st.sampled_from([2, 7, 64, 256]),
)
def test_encoding_what_was_decoded_is_the_bin_itself(low, width, bins):
    made = ActionBins((low, -1.0), (low + width, 1.0), bins)
    tokens = torch.arange(bins)[:, None].expand(bins, 2)
    assert torch.equal(made.encode(made.decode(tokens)), tokens)


def test_bins_are_of_equal_width_and_read_as_their_middles():
    made = ActionBins((0.0,), (1.0,), 4)
    actions = torch.tensor([[0.0], [0.24], [0.26], [0.5], [0.99], [1.0]])
    assert made.encode(actions).flatten().tolist() == [0, 0, 1, 2, 3, 3]
    assert made.decode(torch.arange(4)[:, None]).flatten().tolist() == [0.125, 0.375, 0.625, 0.875]


def test_what_is_beyond_the_percentiles_is_cut():
    made = ActionBins((-1.0,), (1.0,), 8)
    assert made.encode(torch.tensor([[-50.0], [50.0]])).flatten().tolist() == [0, 7]
    error = (made.decode(made.encode(torch.linspace(-1, 1, 101)[:, None])) - torch.linspace(-1, 1, 101)[:, None]).abs()
    assert float(error.max()) <= 1 / 8 + 1e-6


def test_a_number_that_never_changes_is_one_bin_and_read_as_itself():
    made = ActionBins((0.3, 0.0), (0.3, 1.0), 16)
    tokens = made.encode(torch.tensor([[0.3, 0.5], [9.0, 0.5], [-9.0, 0.5]]))
    assert tokens[:, 0].tolist() == [0, 0, 0]
    for token in (0, 15):
        assert made.decode(torch.tensor([token, 0]))[0] == np.float32(0.3)


@pytest.mark.parametrize("token", [-1, 16, 64])
def test_bins_that_there_are_not_are_refused(token):
    with refused(RequestError, "range", "tokens", value=token, names=["15", str(token)]):
        ActionBins((0.0,), (1.0,), 16).decode(torch.tensor([[3], [token]]))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_actions_that_are_no_numbers_are_refused(number):
    with refused(DataError, "value", "actions"):
        ActionBins((0.0,), (1.0,), 16).encode(torch.tensor([[number]]))


def test_other_counts_of_numbers_are_refused():
    with refused(DataError, "shape", "actions", value=3):
        ActionBins((0.0,), (1.0,), 16).encode(torch.zeros(2, 3))
    with refused(DataError, "range", "bins", value=1):
        ActionBins((0.0,), (1.0,), 1)
