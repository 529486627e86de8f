"""Groups of places: the published rule of nearness and repulsion, and sizes."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Layout, locality_aware
from unisono_image.anyorder.decoding import RowGroups
from unisono_image.anyorder.groups import ORDERS, PUBLISHED_SIZES, group_sizes, grouped_order, groups_of_row, nearness


def test_nearness_is_the_sum_of_inverse_distances():
    rng = random.Random(0)
    for _ in range(20):
        height, width = rng.randint(1, 5), rng.randint(1, 5)
        known = np.array([[rng.random() < 0.4 for _ in range(width)] for _ in range(height)])
        found = nearness(known)
        for row in range(height):
            for column in range(width):
                near = 0.0
                for r, c in np.argwhere(known):
                    if (r, c) != (row, column) and max(abs(r - row), abs(c - column)) == 1:
                        near += 1 / np.hypot(r - row, c - column)
                assert found[row, column] == pytest.approx(near)


@pytest.mark.parametrize("radius", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_place_of_a_group_was_the_right_one(radius, seed):
    """By brute force: it is the nearest that nothing forbids, or, when there is none, the farthest of the group."""
    size = 8
    sizes = group_sizes(64, 8)
    order = grouped_order(size, size, sizes, radius=radius, seed=seed)
    assert sorted(order) == list(range(64))
    place = [divmod(at, size) for at in range(64)]
    start, filled = 0, 0
    for count in sizes:
        taken, group = set(order[:start]), []
        known = np.zeros((size, size), dtype=bool)
        for at in taken:
            known[place[at]] = True
        near = nearness(known)
        for at in order[start : start + count]:
            left = [u for u in range(64) if u not in taken and u not in group]

            def free(u: int, group: list[int] = group) -> bool:
                return all(max(abs(place[u][0] - place[v][0]), abs(place[u][1] - place[v][1])) > radius for v in group)

            allowed = [u for u in left if near[place[u]] >= 1 and free(u)]
            if allowed:
                assert near[place[at]] == max(near[place[u]] for u in allowed)
                assert at in allowed
            elif group:
                filled += 1

                def apart(u: int, group: list[int] = group) -> float:
                    return min((place[u][0] - place[v][0]) ** 2 + (place[u][1] - place[v][1]) ** 2 for v in group)

                assert apart(at) == max(apart(u) for u in left)
            group.append(at)
        start += count
    assert filled or radius == 0


def test_orders_differ_by_seed_and_begin_anywhere():
    orders = [grouped_order(8, 8, group_sizes(64, 8), seed=seed) for seed in range(40)]
    assert len({order[0] for order in orders}) > 15
    assert len({tuple(order) for order in orders}) == 40
    assert grouped_order(8, 8, group_sizes(64, 8), seed=3) == orders[3]


def test_places_that_are_given_are_never_asked_for_and_are_near():
    known = [0, 1, 8, 9]
    order = grouped_order(8, 8, (1, *group_sizes(59, 8)), radius=1, known=known)
    assert sorted([*order, *known]) == list(range(64))
    assert order[0] in (2, 10, 16, 17, 18, 3, 11, 24, 25)  # beside what is given
    assert nearness(np.isin(np.arange(64), known).reshape(8, 8)).ravel()[order[0]] >= 1


def test_it_is_not_the_order_of_the_core():
    sizes = group_sizes(64, 8)
    ours = grouped_order(8, 8, sizes, seed=0)
    theirs = locality_aware(Layout.grid(8, 8, 2), sizes, ours[0]).argsort().tolist()
    assert ours != theirs


@pytest.mark.parametrize("steps", sorted(PUBLISHED_SIZES))
def test_published_sizes(steps):
    assert group_sizes(256, steps) == PUBLISHED_SIZES[steps]
    assert sum(PUBLISHED_SIZES[steps]) == 256
    if steps <= 64:
        scaled = group_sizes(64, steps)
        assert (len(scaled), sum(scaled), min(scaled)) == (steps, 64, 1)


def test_sizes_of_any_number_of_steps():
    for places in (1, 2, 7, 64, 100, 256, 1024):
        for steps in (1, 2, 3, 7, 8, 20, 64, 300):
            sizes = group_sizes(places, steps)
            assert sum(sizes) == places
            assert len(sizes) == min(steps, places)
            assert min(sizes) >= 1
    assert group_sizes(64, 64) == (1,) * 64
    assert all(a <= b + 1 for a, b in pairwise(group_sizes(256, 10)))  # a step never asks for much less than the last


def test_rows_of_one_seed_have_one_order_of_few():
    groups, rank = groups_of_row(8, 8, 8, seed=5)
    again, _ = groups_of_row(8, 8, 8, seed=5 + ORDERS)
    assert torch.equal(groups, again)
    assert torch.equal(
        groups[rank.argsort()], torch.repeat_interleave(torch.arange(8), torch.tensor(group_sizes(64, 8)))
    )
    other, _ = groups_of_row(8, 8, 8, seed=5, near=False)
    assert not torch.equal(groups, other)
    groups[0] = 99  # what is kept is not what is handed out
    assert int(groups_of_row(8, 8, 8, seed=5)[0].max()) == 7


def test_a_whole_grid_that_is_given_has_no_group():
    groups, rank = groups_of_row(2, 2, 3, known=range(4))
    assert groups.tolist() == rank.tolist() == [-1] * 4


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda: grouped_order(2, 2, (1, 2)), "sizes"),
        (lambda: grouped_order(2, 2, (0, 4)), "sizes"),
        (lambda: grouped_order(2, 2, (1, 3), known=[0]), "sizes"),
        (lambda: grouped_order(2, 2, (1, 3), radius=-1), "radius"),
        (lambda: group_sizes(4, 0), "num_steps"),
    ],
)
def test_wrong_groups_are_refused(call, path):
    with pytest.raises(UnisonoError) as caught:
        call()
    assert caught.value.path == path


def test_rows_of_a_batch_finish_at_their_own_groups():
    canvas = Canvas.blank(Layout.grid(2, 2, 3), [0, 1])
    groups = torch.tensor([[0, 1, 1, 2], [2, 0, 1, 1]])
    plan = RowGroups(groups)
    planned = plan(canvas, {})
    assert planned.count.tolist() == [1, 1]
    assert planned.window.tolist() == [[True, False, False, False], [False, True, False, False]]
    planned = plan.rows(torch.tensor([1]))(canvas.rows(torch.tensor([1])), {})
    assert planned.window.tolist() == [[False, True, False, False]]
