"""Pieces that join to the whole, and windows that fade into one another."""

import pytest
import torch
from unisono_restore.overlap import CrossFade, OverlapSave

REACH = 5
WEIGHTS = torch.randn(1, 1, 2 * REACH + 1, generator=torch.Generator().manual_seed(0))


def smoothed(wave: torch.Tensor, start: int) -> torch.Tensor:
    """A filter that sees ``REACH`` samples on each side, and which of three phases a sample has."""
    place = (start + torch.arange(wave.shape[1])) % 3
    made = torch.nn.functional.conv1d(wave[:, None], WEIGHTS, padding=REACH)[:, 0]
    return made * (1 + place)


@pytest.mark.parametrize("size", [3, 12, 51])
@pytest.mark.parametrize("blocks", [[1] * 100, [100], [7] * 14 + [2], [99, 1]])
def test_overlap_save_is_the_whole(size, blocks):
    wave = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    pieces = list(OverlapSave(size, REACH, step=3)(wave.split(blocks, dim=1), smoothed))
    torch.testing.assert_close(torch.cat(pieces, dim=1), smoothed(wave, 0), atol=1e-5, rtol=0)
    assert all(piece.shape[1] == size for piece in pieces[:-1])


def test_overlap_save_with_too_little_context_is_not_the_whole():
    wave = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    pieces = list(OverlapSave(12, REACH - 1)([wave], smoothed))
    assert (torch.cat(pieces, dim=1) - smoothed(wave, 0)).abs().max() > 1e-3


def test_pieces_begin_on_the_grid_and_wait_no_longer_than_they_say():
    starts, given = [], []

    def blocks():
        for _ in range(200):
            given.append(1)
            yield torch.ones(1, 1)

    def function(wave, start):
        starts.append(start)
        assert wave.shape[1] <= divided.latency + divided.context + divided.step
        return wave

    divided = OverlapSave(size=20, context=7, step=5)
    pieces = divided(blocks(), function)
    next(pieces)
    assert len(given) == divided.latency == 27
    assert sum(piece.shape[1] for piece in pieces) == 180
    assert all(start % 5 == 0 for start in starts) and len(starts) == 10


@pytest.mark.parametrize("length", [1, 9, 10, 11, 17, 18, 19, 50, 93])
def test_windows_that_agree_fade_into_what_they_agree_on(length):
    wave = torch.randn(2, length, generator=torch.Generator().manual_seed(2))
    sizes = []

    def function(window, start):
        sizes.append(window.shape[1])
        torch.testing.assert_close(window, wave[:, start : start + window.shape[1]])
        return 2 * window

    made = torch.cat(list(CrossFade(10, 3)(wave.split(4, dim=1), function)), dim=1)
    torch.testing.assert_close(made, 2 * wave)
    assert set(sizes) == {min(length, 10)}  # the last one too


def test_windows_that_differ_fade_by_sine_squared():
    levels = iter([0.0, 1.0, 2.0])
    made = torch.cat(list(CrossFade(10, 4)([torch.ones(1, 22)], lambda w, _: torch.full_like(w, next(levels)))), dim=1)
    share = torch.sin(torch.pi / 2 * (torch.arange(4) + 0.5) / 4).square()
    expected = torch.cat([torch.zeros(6), share, torch.ones(2), 1 + share, torch.full((6,), 2.0)])
    torch.testing.assert_close(made[0], expected)


def test_nothing_gives_nothing():
    for divided in (OverlapSave(4, 2), CrossFade(4, 2)):
        assert list(divided([], smoothed)) == [] and list(divided([torch.zeros(1, 0)], smoothed)) == []


def test_sizes_that_do_not_fit_are_refused():
    for wrong in ((0, 1, 1), (5, 1, 2), (4, -1, 1)):
        with pytest.raises(ValueError, match="multiple"):
            OverlapSave(*wrong)
    for wrong in ((4, 3), (0, 0), (4, -1)):
        with pytest.raises(ValueError, match="half"):
            CrossFade(*wrong)
