"""rANS: every message comes back, in nearly as few bits as the histogram allows; a damaged one is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import DataError
from unisono_codec.files.rans import MAX_CODES, ONE, CodeTable, decode, encode


@st.composite
def messages(draw):
    """A table of any counts, and codes that need not follow it."""
    size = draw(st.integers(1, 40))
    books = draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(0, 2**40), min_size=books * size, max_size=books * size))
    levels = draw(st.integers(1, books))
    frames = draw(st.integers(0, 60))
    codes = draw(st.lists(st.integers(0, size - 1), min_size=frames * levels, max_size=frames * levels))
    return CodeTable.of_counts(np.array(counts).reshape(books, size)), np.array(codes, int).reshape(frames, levels)


@settings(max_examples=60, deadline=None)
@given(messages())
def test_every_message_comes_back(message):
    table, codes = message
    written = encode(codes, table)
    np.testing.assert_array_equal(decode(written, *codes.shape, table), codes)
    # 32 bits of state, and at most 16 that are not full.
    assert len(written) * 8 <= table.bits(codes) + 48


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=300))
def test_a_table_is_whole_and_nowhere_zero(counts):
    table = CodeTable.of_counts(np.array([counts]))
    assert table.frequencies.sum() == ONE
    assert table.frequencies.min() >= 1
    assert table.frequencies.argmax() in np.flatnonzero(np.array(counts) == max(counts))


def test_codes_that_follow_their_table_take_their_entropy():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(64, 0.3), 3)
    codes = np.stack([rng.choice(64, 20_000, p=p) for p in shares], axis=1)
    counts = np.stack([np.bincount(column, minlength=64) for column in codes.T])
    seen = counts / counts.sum(1, keepdims=True)
    entropy = -(seen * np.log2(seen, where=seen > 0, out=np.zeros_like(seen))).sum() * len(codes)
    written = len(encode(codes, CodeTable.of_counts(counts))) * 8
    # 0.2 %: what frequencies lose that are whole numbers of 2^16.
    assert entropy < written < 1.002 * entropy + 48


def test_the_bytes_are_the_same_on_every_machine():
    table = CodeTable.of_counts(np.array([[5, 1, 0, 10], [1, 1, 1, 1]]))
    assert table.frequencies.tolist() == [[20479, 4096, 1, 40960], [16384] * 4]
    codes = np.array([[0, 3], [3, 2], [2, 1], [1, 0], [3, 3]])
    assert encode(codes, table).hex() == "8c260200ffffff4f"


@pytest.mark.parametrize("codes", [[[0, 1, 2, 3, 4] * 4], [[4] * 20], [[0] * 20]])
def test_a_message_that_is_cut_or_longer_is_refused(codes):
    table = CodeTable.of_counts(np.array([[1, 2, 3, 4, 50]]))
    codes = np.array(codes).T
    message = encode(codes, table)
    wrong = [message[:n] for n in range(len(message))] + [message + b"\0\0", message[:4] + b"\0\0" + message[4:]]
    for damaged in wrong:
        with refused(DataError, "damaged", "message"):
            decode(damaged, *codes.shape, table)


def test_what_cannot_be_a_table_is_refused():
    with pytest.raises(ValueError, match="-1"):
        CodeTable.of_counts(np.array([[1, -1]]))
    with pytest.raises(ValueError, match=f"1 to {MAX_CODES}"):
        CodeTable.of_counts(np.ones((1, MAX_CODES + 1), int))


def test_a_codebook_without_a_count_is_even():
    assert CodeTable.of_counts(np.array([[0, 0, 0, 0], [0, 9, 0, 0]])).frequencies.tolist()[0] == [ONE // 4] * 4


def test_a_message_of_more_codes_than_are_asked_for_is_refused():
    """One code of 256 even ones is eight bits of state, and no word beside it."""
    table = CodeTable.of_counts(np.ones((1, 256), int))
    message = encode(np.array([[5]]), table)
    assert len(message) == 4 and decode(message, 1, 1, table).tolist() == [[5]]
    with refused(DataError, "damaged", "message"):
        decode(message, 0, 1, table)
