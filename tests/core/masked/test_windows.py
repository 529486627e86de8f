"""Windows over what is long, and many long things filled in step."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from unisono.masked import cut, in_step


@pytest.mark.parametrize(("length", "limit"), [(10, 16), (64, 64), (65, 64), (200, 64), (1000, 64), (97, 32)])
def test_windows_cover_all_and_overlap(length, limit):
    windows = cut(0, length, limit, limit // 4)
    assert windows[0][0] == 0 and windows[-1][1] == length
    assert all(0 < stop - start <= limit for start, stop in windows)
    for (_, stop), (start, _) in pairwise(windows):
        assert stop - start == limit // 4


@pytest.mark.parametrize("length", [1, 11, 12, 13, 14, 21, 22, 100, 1000])
def test_windows_cover_a_span_and_overlap(length):
    found = cut(5, 5 + length, 12, 3)
    assert found[0][0] == 5 and found[-1][1] == 5 + length
    assert all(stop - start <= 12 for start, stop in found)
    assert all(later[0] == earlier[1] - 3 for earlier, later in pairwise(found))


@dataclass
class Piece:
    owner: int
    start: int
    stop: int
    kind: tuple


def run_of(owner, sizes, kind, got):
    for size in sizes:
        filled = yield Piece(owner, 0, size, kind)
        got.append((owner, size, filled.tolist()))


def test_runs_go_on_in_step_and_share_what_is_of_one_kind():
    got, calls = [], []

    def fill(pieces):
        calls.append([(p.owner, p.stop) for p in pieces])
        assert len({p.kind for p in pieces}) == 1
        return [torch.tensor([p.owner, p.stop]) for p in pieces]

    runs = [
        run_of(owner, sizes, kind, got)
        for owner, (sizes, kind) in enumerate([([3, 1], ("a",)), ([2], ("b",)), ([1, 1, 1], ("a",)), ([], ("a",))])
    ]
    rounds = [len(got) for _ in in_step(runs, fill, rows_at_once=8)]
    assert rounds == [3, 5, 6]  # of the first round three are waiting, of the second two, of the third one
    assert calls == [[(2, 1), (0, 3)], [(1, 2)], [(0, 1), (2, 1)], [(2, 1)]]
    assert all(filled == [owner, size] for owner, size, filled in got)


def test_no_more_rows_at_once_than_are_allowed():
    sizes = []

    def fill(pieces):
        sizes.append(len(pieces))
        return [torch.zeros(1) for _ in pieces]

    runs = [run_of(owner, [1, 1], ("a",), []) for owner in range(7)]
    assert len(list(in_step(runs, fill, rows_at_once=3))) == 2
    assert sizes == [3, 3, 1] * 2


@pytest.mark.parametrize("length", [*range(13, 50), 100, 1000])
def test_windows_are_as_few_as_can_be_and_nearly_one_length(length):
    found = cut(0, length, 12, 3)
    assert 9 * (len(found) - 1) + 3 < length <= 9 * len(found) + 3  # one less would not reach the end
    sizes = [stop - start for start, stop in found]
    assert max(sizes) - min(sizes) <= 1
