"""Infilling: what is hidden, guidance, and frames that are known."""

import pytest
import torch
from unisono_tts.zipvoice.infilling import Canvas, hidden
from unisono_tts.zipvoice.lengths import pace_of


def canvas(guidance: float = 1.0, known: int = 3, rows: int = 2, frames: int = 8) -> Canvas:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([frames, frames - 2])[:rows]
    inside = torch.arange(frames) < lengths[:, None]
    masked = inside & (torch.arange(frames) >= known)
    text, mel, start = (torch.randn(rows, frames, 4, generator=generator) * inside[..., None] for _ in range(3))
    mel = torch.where(masked[..., None], 0.0, mel)
    return Canvas(text, mel, masked, lengths, start, torch.full((rows,), guidance))


def net(x, lengths, time):
    """A field that depends on everything, and on no row but its own."""
    state, text, mel = x.chunk(3, -1)
    return torch.tanh(2 * text) * state + mel.sum(1, keepdim=True) + time[:, None, None]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999999, 1.0])
def test_one_stretch_is_hidden(share, place):
    lengths = torch.tensor([20, 7, 1])
    masked = hidden(lengths, torch.full((3,), share), torch.full((3,), place), 22)
    for row, length in enumerate(lengths.tolist()):
        count = max(int(share * length), 1)
        assert int(masked[row].sum()) == count and not masked[row, length:].any()
        first = int(masked[row].nonzero()[0])
        assert masked[row, first : first + count].all()
        if share < 1:
            assert first == min(int(place * (length - count + 1)), length - count)


def test_every_stretch_is_as_likely():
    places = torch.rand(6000, generator=torch.Generator().manual_seed(0))
    masked = hidden(torch.full((6000,), 10), torch.full((6000,), 0.71), places, 10)
    starts = masked.int().argmax(1).bincount(minlength=4)
    assert len(starts) == 4 and starts.min() > 1350  # of 1,500 each; five standard deviations are 168


def test_guidance_of_one_is_unguided():
    one = canvas(1.0)
    x, t, row = torch.randn(2, 8, 4), torch.tensor([0.8, 0.2]), torch.tensor([0, 1])
    plain = net(torch.cat([x, one.text, one.mel], -1), one.lengths, t)
    assert torch.equal(one.velocity(net, x, t, row)[one.masked], plain[one.masked])


@pytest.mark.parametrize("time", [1.0, 0.5, 0.49, 0.0])
def test_guidance_is_the_published_one(time):
    """(1 + w)·c − w·u with w = scale − 1: from the noise to the middle twice that w, and the sound told to both."""
    given = canvas(1.8)
    x, t, row = torch.randn(2, 8, 4), torch.full((2,), time), torch.tensor([0, 1])
    w, late = 0.8, time < 0.5
    told = net(torch.cat([x, given.text, given.mel], -1), given.lengths, t)
    bare = net(torch.cat([x, 0 * given.text, 0 * given.mel if late else given.mel], -1), given.lengths, t)
    w = w if late else 2 * w
    wanted = (1 + w) * told - w * bare
    torch.testing.assert_close(given.velocity(net, x, t, row)[given.masked], wanted[given.masked], atol=1e-5, rtol=1e-5)


def test_rows_of_any_order_are_those_of_their_items():
    given = canvas(1.8)
    x, t = torch.randn(3, 8, 4), torch.tensor([0.9, 0.1, 0.6])
    row = torch.tensor([1, 0, 1])
    together = given.velocity(net, x, t, row)
    for place in range(3):
        one = slice(place, place + 1)
        torch.testing.assert_close(together[one], given.velocity(net, x[one], t[one], row[one]))


def test_known_frames_walk_straight_to_themselves_and_stay_to_the_bit():
    given = canvas(1.5)
    velocity = given.velocity(net, torch.randn(2, 8, 4), torch.tensor([0.7, 0.3]), torch.tensor([0, 1]))
    known = ~given.masked & (torch.arange(8) < given.lengths[:, None])
    assert torch.equal(velocity[known], (given.start - given.mel)[known])
    filled = given.finished(torch.randn(2, 8, 4))
    assert torch.equal(filled[known], given.mel[known])
    assert not filled[1, 6:].any()


@pytest.mark.parametrize(("frames", "pace"), [(60, 1.0), (30, 0.5), (90, 1.5), (10, 0.5), (1000, 2.0)])
def test_a_prompt_s_pace_is_bounded(frames, pace):
    assert pace_of(torch.tensor([10.0, 20.0, 30.0]), frames) == pytest.approx(pace)
    assert pace_of(torch.zeros(3), frames) == 2.0
