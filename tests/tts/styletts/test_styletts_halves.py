"""Half the frame rate, clips and stretching: against loops and torch's own interpolation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from unisono.duration import Alignment
from unisono_tts.styletts.clips import Clips, draw_stretch, stretched
from unisono_tts.styletts.halves import distance_to_path, in_pairs, pair_shares

DURATIONS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=3)


def alignment_of(rows):
    size = max(map(len, rows))
    rows = [row if any(row) else [1, *row[1:]] for row in rows]
    durations = torch.tensor([row + [0] * (size - len(row)) for row in rows])
    return Alignment.from_durations(durations, torch.tensor([len(row) for row in rows])), rows


@settings(deadline=None)
@given(DURATIONS)
def test_a_pair_of_frames_has_each_symbol_by_its_share(rows):
    alignment, rows = alignment_of(rows)
    halves = in_pairs(alignment)
    matrix = halves.matrix()
    for row, durations in enumerate(rows):
        frames = [symbol for symbol, count in enumerate(durations) for _ in range(count)]
        length = len(frames)
        assert int(halves.tgt_lengths[row]) == (length + 1) // 2
        if length % 2:
            frames.append(len(durations) - 1)  # the last symbol fills the pair
        for pair in range(len(frames) // 2):
            wanted = torch.zeros(matrix.shape[2], dtype=torch.float64)
            for symbol in frames[2 * pair : 2 * pair + 2]:
                wanted[symbol] += 0.5
            torch.testing.assert_close(matrix[row, pair], wanted)
        assert not matrix[row, len(frames) // 2 :].any()


@settings(deadline=None)
@given(DURATIONS)
def test_a_posterior_of_the_hard_path_is_the_path(rows):
    alignment, rows = alignment_of(rows)
    hard = alignment.matrix()
    shares = pair_shares(hard, alignment.tgt_lengths)
    even = [row for row, durations in enumerate(rows) if sum(durations) % 2 == 0 or durations[-1] > 0]
    torch.testing.assert_close(shares[even], in_pairs(alignment).matrix()[even])
    assert not distance_to_path(hard, alignment).any()


def test_the_distance_to_the_path_is_a_mean_over_an_items_own_symbols():
    alignment = Alignment.from_durations(torch.tensor([[1, 1, 0], [1, 0, 0]]), torch.tensor([2, 1]))
    soft = torch.tensor([[[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(distance_to_path(soft, alignment)[0], torch.tensor([0.25, 0.5]))
    assert float(distance_to_path(soft, alignment)[1, 0]) == 0


def test_the_share_of_pairs_hands_gradients_to_frames_within():
    soft = torch.rand(1, 5, 3, requires_grad=True)
    pair_shares(soft, torch.tensor([3])).sum().backward()
    torch.testing.assert_close(soft.grad[0, :, 0], torch.tensor([0.5, 0.5, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize("factor", [0.75, 0.9, 1.0, 1.25])
@pytest.mark.parametrize("length", [1, 2, 31])
def test_stretching_is_linear_interpolation_of_each_item(length, factor):
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(2, 40, 3, generator=generator)
    lengths = torch.tensor([length, 40])
    wanted = (lengths * factor).round().long().clamp(min=1)
    found = stretched(x, lengths, wanted)
    for row in range(2):
        own = x[row : row + 1, : lengths[row]].mT
        oracle = F.interpolate(own, size=int(wanted[row]), mode="linear", align_corners=False)
        torch.testing.assert_close(found[row : row + 1, : wanted[row]].mT, oracle, atol=1e-5, rtol=1e-5)
        assert not found[row, wanted[row] :].any()


def test_stretches_are_within_a_quarter_and_each_items_own():
    seeds = list(range(500))
    drawn = draw_stretch(seeds, 0.25)
    assert drawn.min() > 0.75 and drawn.max() < 1.25 and abs(float(drawn.mean()) - 1) < 0.01
    assert torch.equal(draw_stretch(seeds[7:9], 0.25), drawn[7:9])
    assert not (draw_stretch(seeds, 0.0) - 1).any()


def test_clips_begin_at_pairs_and_short_items_are_taken_whole():
    lengths = torch.tensor([100, 101, 30, 64])
    x = torch.arange(101.0).repeat(4, 1)[..., None]
    starts = []
    for seed in range(200):
        clips = Clips.drawn(lengths, 64, [seed] * 4)
        assert clips.lengths.tolist() == [64, 64, 30, 64]
        taken = clips.frames(x)[..., 0]
        for row, (start, length) in enumerate(zip(clips.starts.tolist(), clips.lengths.tolist(), strict=True)):
            assert torch.equal(taken[row, :length], x[row, 2 * start : 2 * start + length, 0])
            assert not taken[row, length:].any()
        halves = clips.pairs(x[:, :51])[..., 0]
        assert torch.equal(halves[0], x[0, clips.starts[0] : clips.starts[0] + 32, 0])
        starts.append(clips.starts.tolist())
    first = {row[0] for row in starts}
    assert first == set(range(19))  # up to frames 36 to 100
    assert {row[2] for row in starts} == {0} == {row[3] for row in starts}


def test_whole_clips_are_padded_to_an_even_size():
    clips = Clips.whole(torch.tensor([7, 4]))
    assert clips.size == 8 and clips.mask.sum(1).tolist() == [7, 4]
    x = torch.ones(2, 7, 2)
    assert clips.frames(x).shape == (2, 8, 2) and clips.frames(x).sum((1, 2)).tolist() == [14, 8]
