"""What is held out depends on names alone: not on the order, nor on what else there is."""

from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.data import derive_seed, hold_out
from unisono.errors import DataError

SIZES = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 5), min_size=2, max_size=12)


@settings(max_examples=50, deadline=None)
@given(sizes=SIZES, wanted=st.integers(0, 30), order=st.randoms(use_true_random=False))
def test_the_split_is_order_free_and_holds_what_is_wanted(sizes, wanted, order):
    try:
        held = hold_out(sizes, wanted)
    except DataError:
        held = hold_out(sizes, wanted, may_take_all=True)
        assert held == set(sizes)
        return
    names = list(sizes)
    order.shuffle(names)
    assert hold_out({name: sizes[name] for name in names}, wanted) == held
    have = sum(sizes[name] for name in held)
    assert have >= wanted and len(held) < len(sizes)
    if held:  # none is held out that was not needed
        last = max(held, key=lambda name: (derive_seed("split", name), name))
        assert have - sizes[last] < wanted


def test_a_corpus_that_grows_keeps_its_split():
    before = hold_out({f"clip{i}": 1 for i in range(40)}, 8)
    after = hold_out({f"clip{i}": 1 for i in range(50)}, 8)
    assert len(before & after) >= 5 and len(before) == len(after) == 8


def test_a_seed_draws_another_split_and_none_is_the_corpus_own():
    sizes = {f"clip{i}": 1 for i in range(40)}
    splits = [hold_out(sizes, 8, seed=seed) for seed in (None, 0, 1, 0)]
    assert splits[1] == splits[3] and len({frozenset(split) for split in splits}) == 3


def test_ranks_may_be_given_and_ties_go_by_name():
    assert hold_out({"b": 2, "a": 1, "c": 9}, 3, rank=lambda name: 0) == {"a", "b"}
    assert hold_out({b"\x02": 2, b"\x01": 1, b"\x03": 9}, 1, rank=bytes) == {b"\x01"}


def test_nothing_left_to_train_on_is_said():
    with refused(DataError, "empty", "val_size", value=3, names="of 2 groups"):
        hold_out({"a": 2, "b": 2}, 3)
    assert hold_out({"a": 2, "b": 2}, 0) == hold_out({}, 4) == set()
