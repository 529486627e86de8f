"""Batching: kinds in the order of their first item, chunks that are filled, and progress as its contract has it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono.batching import Progress, chunks, grouped

WORDS = ["pear", "fig", "plum", "apple", "date"]


def test_items_of_a_kind_stand_together_in_their_order():
    assert grouped(WORDS, lambda word: word[0]) == [["pear", "plum"], ["fig"], ["apple"], ["date"]]
    assert grouped([], lambda word: word) == []


def test_with_a_size_short_ones_come_first_and_equals_as_they_came():
    assert grouped(WORDS, lambda word: "p" in word, len) == [["fig", "date"], ["pear", "plum", "apple"]]


def test_chunks_are_filled_and_a_function_is_asked_with_all_items():
    assert list(chunks(WORDS, 2)) == [["pear", "fig"], ["plum", "apple"], ["date"]]
    assert list(chunks([], 2)) == []
    asked = []

    def fit(items):
        asked.append(list(items))
        return 12 // max(map(len, items))  # as many as their longest allows

    assert list(chunks(WORDS, fit)) == [["pear", "fig"], ["plum", "apple"], ["date"]]
    assert asked == [WORDS]
    assert list(chunks(WORDS[:2], lambda items: 0)) == [["pear"], ["fig"]]  # at least one at once


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 12), max_size=12), st.integers(0, 9), st.booleans())
def test_progress_only_grows_and_ends_with_all_of_it_once(steps, total, by_amount):
    told: list[tuple[int, int]] = []
    progress = Progress(lambda done, of: told.append((done, of)), total)
    for step in steps:
        progress.advance(abs(step)) if by_amount else progress.to(step)
    progress.finish()
    progress.finish()
    counts = [done for done, _ in told]
    assert all(of == total for _, of in told)
    assert counts == sorted(set(counts)) and counts[-1:] == [total] and max(counts) <= total


def test_progress_counts_what_is_done_beyond_what_was_told():
    told: list[tuple[int, int]] = []
    progress = Progress(lambda done, of: told.append((done, of)), 10)
    progress.advance()
    progress.advance(3)
    progress.to(2)  # no more than before
    progress.to(25)
    assert (progress.done, told) == (10, [(1, 10), (4, 10), (10, 10)])
    silent = Progress(None, 4)
    silent.to(9)
    silent.finish()
    assert silent.done == 4


@pytest.mark.parametrize("total", [0, 3])
def test_what_takes_no_step_is_told_of_at_its_end(total):
    told: list[tuple[int, int]] = []
    Progress(lambda done, of: told.append((done, of)), total).finish()
    assert told == [(total, total)]
