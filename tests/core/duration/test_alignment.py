"""Alignment: expanding, pooling and time, against loops over single items."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.duration import Alignment, box, gaussian
from unisono.errors import UnisonoError


@st.composite
def batches(draw):
    """Ragged batches of whole durations, zeros and empty items among them."""
    rows = draw(st.lists(st.lists(st.integers(0, 5), min_size=0, max_size=7), min_size=1, max_size=4))
    lengths = torch.tensor([len(row) for row in rows])
    durations = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.int64)
    for i, row in enumerate(rows):
        durations[i, : len(row)] = torch.tensor(row)
    return durations, lengths


def example():
    durations = torch.tensor([[2, 0, 3, 1], [4, 1, 9, 9]])
    return Alignment.from_durations(durations, torch.tensor([4, 2]))


@given(batches(), st.sampled_from([(), (3,), (2, 3, 1)]))
@settings(max_examples=40, deadline=None)
def test_expand_is_repeat_interleave_and_pool_its_inverse(batch, trailing):
    durations, lengths = batch
    alignment = Alignment.from_durations(durations, lengths)
    x = torch.randn(*durations.shape, *trailing)
    y = alignment.expand(x)
    assert y.shape == (len(x), alignment.num_frames, *trailing)
    assert torch.equal(alignment.tgt_lengths, durations.sum(1))
    for row in range(len(x)):
        expected = x[row].repeat_interleave(durations[row], dim=0)
        assert torch.equal(y[row, : len(expected)], expected)
        assert not y[row, len(expected) :].any()
    present = durations > 0
    for reduce in ("mean", "max", "last", "softmax"):
        weight = torch.randn(y.shape[:2]) if reduce == "softmax" else None
        pooled = alignment.pool(y, reduce, weight, fill=-7.0)
        # A mean of up to 5 equal float32 numbers.
        torch.testing.assert_close(pooled[present], x[present], rtol=1e-6, atol=1e-6)
        assert (pooled[~present] == -7).all()


@given(batches())
@settings(max_examples=40, deadline=None)
def test_matrix_sums_to_the_mask_and_to_the_durations(batch):
    durations, lengths = batch
    for values in (durations, durations.double()):
        alignment = Alignment.from_durations(values, lengths)
        matrix = alignment.matrix()
        assert torch.equal(matrix.sum(2), alignment.tgt_mask.double())
        assert torch.equal(matrix.sum(1), durations.double())


def test_pool_reductions_against_loops():
    alignment, g = example(), torch.Generator().manual_seed(0)
    y = torch.randn(2, 6, 3, generator=g) * (torch.rand(2, 6, 3, generator=g) > 0.3)
    weight = torch.rand(2, 6, generator=g)
    reduced = {
        "mean": alignment.pool(y),
        "sum": alignment.pool(y, "sum"),
        "max": alignment.pool(y, "max"),
        "last": alignment.pool(y, "last"),
        "nonzero_mean": alignment.pool(y, "nonzero_mean"),
        "softmax": alignment.pool(y, "softmax", weight),
        "weighted": alignment.pool(y, "mean", weight),
    }
    for row, token in [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1)]:
        start, end = int(alignment.starts[row, token]), int(alignment.ends[row, token])
        part, w = y[row, start:end], weight[row, start:end, None]
        expected = {
            "mean": part.mean(0),
            "sum": part.sum(0),
            "max": part.amax(0),
            "last": part[-1],
            "nonzero_mean": part.sum(0) / (part != 0).sum(0).clamp(min=1),
            "softmax": (w.softmax(0) * part).sum(0),
            "weighted": (w * part).sum(0) / w.sum(0),
        }
        for name, value in expected.items():
            torch.testing.assert_close(reduced[name][row, token], value)


def test_padded_frames_never_leak():
    alignment = example()
    y = torch.randn(2, 6, 3)
    dirty = y.clone()
    dirty[1, 5:] = torch.nan
    for reduce in ("mean", "sum", "max", "last", "nonzero_mean"):
        assert torch.equal(alignment.pool(dirty, reduce), alignment.pool(y, reduce))
    weight = torch.randn(2, 6)
    assert torch.equal(
        alignment.pool(dirty, "softmax", weight.masked_fill(~alignment.tgt_mask, torch.nan)),
        alignment.pool(y, "softmax", weight),
    )


@pytest.mark.parametrize("kind", ["hard", "box", "soft"])
def test_padding_and_company_change_nothing(kind):
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([5, 3, 1])
    durations = torch.randint(0, 4, (3, 5), generator=g) + 1
    x = torch.randn(3, 5, 4, generator=g)

    def make(durations, lengths, x):
        if kind == "hard":
            alignment = Alignment.from_durations(durations, lengths)
        elif kind == "box":
            alignment = box(x, durations * 0.7, lengths)[1]
        else:
            alignment = gaussian(x, durations, lengths, sigma=2.0)[1]
        return alignment, alignment.expand(x)

    alignment, y = make(durations, lengths, x)
    more = torch.nn.functional.pad(x, (0, 0, 0, 2), value=9.0)
    _, padded = make(torch.nn.functional.pad(durations, (0, 2), value=5), lengths, more)
    assert torch.equal(padded, y) if kind == "hard" else torch.allclose(padded, y, atol=1e-6)
    for row in range(3):
        n = int(lengths[row])
        one, alone = make(durations[row : row + 1, :n], lengths[row : row + 1], x[row : row + 1, :n])
        t = int(alignment.tgt_lengths[row])
        assert one.num_frames == t
        assert torch.equal(alone[0], y[row, :t]) if kind == "hard" else True
        torch.testing.assert_close(alone[0], y[row, :t], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_payload_takes_the_same_tokens(dtype):
    durations = torch.randint(0, 4, (2, 3500), generator=torch.Generator().manual_seed(1))
    alignment = Alignment.from_durations(durations)
    assert alignment.num_frames > 5000
    # Numbers that half precision holds exactly, so that any wrong token shows.
    x = (torch.arange(3500) % 256).float().expand(2, -1)
    assert torch.equal(alignment.expand(x.to(dtype)).float(), alignment.expand(x))
    assert torch.equal(alignment.pool(alignment.expand(x.to(dtype))).float(), x * (durations > 0))
    fractional = Alignment.from_durations(durations.to(dtype), tgt_lengths=alignment.tgt_lengths)
    assert torch.equal(fractional.ends, alignment.ends.double())
    assert torch.equal(fractional.expand(x.to(dtype)).float(), alignment.expand(x))


def test_index_and_uniform():
    alignment = example()
    again = Alignment.from_index(alignment.index, alignment.src_lengths, alignment.tgt_lengths)
    assert torch.equal(again.durations, alignment.durations)
    even = Alignment.uniform(torch.tensor([3, 4]), torch.tensor([8, 4]), num_tokens=5)
    assert even.durations.tolist() == [[2, 3, 3, 0, 0], [1, 1, 1, 1, 0]]
    with refused(UnisonoError, "value", "index", names=["item 0", "frame 2"]):
        Alignment.from_index(torch.tensor([[0, 1, 0]]), torch.tensor([2]))
    with refused(UnisonoError, "range", "index", value=2, names=["frame 1", "item 0", "token 2"]):
        Alignment.from_index(torch.tensor([[0, 2]]), torch.tensor([2]))
    with refused(UnisonoError, "empty", "src_lengths", value=0, names=["item 0", "3 frames"]):
        Alignment.uniform(torch.tensor([0]), torch.tensor([3]))


@pytest.mark.parametrize("kind", ["hard", "box", "soft"])
def test_window_is_a_slice(kind):
    alignment, x = example(), torch.randn(2, 4, 3)
    if kind == "box":
        alignment = Alignment.from_durations(alignment.durations * 1.3, alignment.src_lengths)
    elif kind == "soft":
        alignment = gaussian(x, alignment.durations, alignment.src_lengths)[1]
    y = alignment.expand(x, fill=3.0)
    for start, stop in [(0, 2), (1, 5), (4, 4), (0, y.shape[1])]:
        window = alignment.expand_window(x, start, stop, fill=3.0)
        torch.testing.assert_close(window, y[:, start:stop], rtol=1e-6, atol=1e-6)
    with refused(UnisonoError, "range", "window", value=(0, 99), names=f"{alignment.num_frames} frames"):
        alignment.expand_window(x, 0, 99)


def test_expand2d():
    alignment, x = example(), torch.randn(2, 4, 4, 2)
    y = alignment.expand2d(x)
    for row in range(2):
        index = torch.arange(4).repeat_interleave(alignment.durations[row])
        expected = x[row][index][:, index]
        assert torch.equal(y[row, : len(index), : len(index)], expected)
        assert not y[row, len(index) :].any() and not y[row, :, len(index) :].any()
    filled = alignment.expand2d(x, fill=-7.0)
    outside = ~(alignment.tgt_mask[:, :, None] & alignment.tgt_mask[:, None])
    assert outside.any() and (filled[outside] == -7).all() and torch.equal(filled[~outside], y[~outside])


def test_fractional_durations_fill_their_last_frame():
    durations = torch.tensor([[1.2, 0.9], [1.25, 0.75], [1.5, 0.5 + 1e-9], [0.0, 0.0]])
    assert Alignment.from_durations(durations, torch.tensor([2] * 4)).tgt_lengths.tolist() == [3, 2, 2, 0]


def test_positions():
    alignment = example()
    kinds = ("fraction", "elapsed", "remaining", "log_duration", "centre_distance", "absolute")
    p = alignment.positions(kinds)
    assert p.shape == (2, 6, 6)
    expected = torch.tensor([0.5 / 3, 0.5, 2.5, 4.0, -1.0, 2.5])
    expected[3] = expected[3].log()
    torch.testing.assert_close(p[0, 2], expected)
    assert not p[1, 5:].any()
    same = Alignment.from_durations(alignment.durations.double(), alignment.src_lengths)
    torch.testing.assert_close(same.positions(kinds), p)
    with refused(UnisonoError, "unknown", "kinds", value="half", names="fraction"):
        alignment.positions(("half",))


@pytest.mark.parametrize("kind", ["hard", "box", "soft"])
def test_crop_is_a_slice_and_associates(kind):
    alignment, x = example(), torch.randn(2, 4, 3)
    if kind == "box":
        alignment = Alignment.from_durations(alignment.durations * 1.5, alignment.src_lengths)
    elif kind == "soft":
        alignment = gaussian(x, alignment.durations, alignment.src_lengths)[1]
    y = alignment.expand(x)
    start = torch.tensor([1, 2])
    cropped = alignment.crop(start, 3)
    for row in range(2):
        expected = y[row, start[row] : start[row] + 3]
        torch.testing.assert_close(cropped.expand(x)[row, : len(expected)], expected)
    twice, once = alignment.crop(1, 4).crop(1, 2), alignment.crop(2, 2)
    torch.testing.assert_close(twice.durations, once.durations)
    assert torch.equal(twice.tgt_lengths, once.tgt_lengths)
    torch.testing.assert_close(twice.expand(x), once.expand(x))
    with refused(UnisonoError, "range", "start", value=[-1, -1], names="at least 0"):
        alignment.crop(-1, 2)


def test_compose_associates_and_commutes_with_crop():
    phones = Alignment.from_durations(torch.tensor([[2, 1, 3, 0, 4], [1, 2, 9, 9, 9]]), torch.tensor([5, 2]))
    words = Alignment.from_durations(torch.tensor([[2, 2, 1], [1, 1, 0]]), torch.tensor([3, 2]))
    phrases = Alignment.from_durations(torch.tensor([[1, 2], [2, 0]]), torch.tensor([2, 1]))
    left = phrases.compose(words).compose(phones)
    right = phrases.compose(words.compose(phones))
    assert left.durations.tolist() == right.durations.tolist() == [[3, 7], [3, 0]]
    assert torch.equal(left.tgt_lengths, phones.tgt_lengths)
    a, b = words.compose(phones.crop(1, 5)), words.compose(phones).crop(1, 5)
    assert torch.equal(a.durations, b.durations)
    # Through matrices, the same.
    soft = Alignment.from_weights(words.matrix(), words.durations, words.src_lengths, words.tgt_lengths)
    x = torch.randn(2, 3, 4)
    expected = words.compose(phones).expand(x)
    torch.testing.assert_close(soft.compose(phones).expand(x), expected)
    torch.testing.assert_close(phones.expand(torch.nn.functional.pad(words.expand(x), (0, 0, 0, 0))), expected)
    with refused(UnisonoError, "shape", "finer", value=[3, 2]):
        phones.compose(words)


def test_word_times_rise_and_end_with_the_audio():
    phones = Alignment.from_durations(torch.tensor([[2, 1, 3, 0, 4], [1, 2, 9, 9, 9]]), torch.tensor([5, 2]))
    groups = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 7, 7, 7]])
    times = phones.word_times(groups, sample_rate=22050, hop_length=256)
    assert times.shape == (2, 3, 2) and times.dtype == torch.float64
    assert (times[..., 1] >= times[..., 0]).all()
    assert torch.equal(times[:, 1:, 0], times[:, :-1, 1])
    assert torch.equal(times[:, -1, 1], phones.tgt_lengths.double() * 256 / 22050)
    assert phones.coarsen(groups).durations.tolist() == [[3, 3, 4], [1, 2, 0]]
    with refused(UnisonoError, "shape", "groups", value=(2, 3)):
        phones.coarsen(groups[:, :3])


def test_empty_batch_empty_utterance_and_no_tokens():
    for shape in [(0, 0), (0, 3), (2, 0), (2, 3)]:
        alignment = Alignment.from_durations(torch.zeros(shape, dtype=torch.int64))
        x = torch.randn(*shape, 2)
        y = alignment.expand(x)
        assert y.shape == (shape[0], 0, 2)
        for reduce in ("mean", "max", "last"):
            assert alignment.pool(y, reduce).shape == x.shape
        assert alignment.positions().shape == (shape[0], 0, 2)


def test_refusals():
    with refused(UnisonoError, "range", "durations", value=-1, names=["-1", "token 1", "item 0"]):
        Alignment.from_durations(torch.tensor([[1, -1]]))
    with refused(UnisonoError, "range", "durations", names=["nan", "token 0", "item 1"]):
        Alignment.from_durations(torch.tensor([[1.0], [torch.nan]]))
    with refused(UnisonoError, "conflict", "tgt_lengths", value=4, names=["3 frames", "4"]):
        Alignment.from_durations(torch.tensor([[1, 2]]), tgt_lengths=torch.tensor([4]))
    with refused(UnisonoError, "range", "lengths", value=[3], names="0 to 2"):
        Alignment.from_durations(torch.tensor([[1, 2]]), torch.tensor([3]))
    alignment = example()
    with refused(UnisonoError, "shape", "x", value=(2, 5), names="4 tokens"):
        alignment.expand(torch.zeros(2, 5))
    with refused(UnisonoError, "unknown", "reduce", value="median", names="nonzero_mean"):
        alignment.pool(torch.zeros(2, 6), "median")
    with refused(UnisonoError, "missing", "weight", names="softmax"):
        alignment.pool(torch.zeros(2, 6), "softmax")
    fractional = Alignment.from_durations(torch.tensor([[1.5, 0.5]]))
    with refused(UnisonoError, "unsupported", "reduce", value="max", names="max"):
        fractional.pool(torch.zeros(1, 2), "max")
    with refused(UnisonoError, "unsupported", "x", value=torch.int64, names="float"):
        fractional.expand(torch.zeros(1, 2, dtype=torch.int64))


def test_gradients_of_gather_and_pool():
    alignment = example()
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 6, requires_grad=True, dtype=torch.float64)
    assert torch.autograd.gradcheck(alignment.expand, x)
    for reduce in ("mean", "sum", "max", "last"):
        assert torch.autograd.gradcheck(lambda v, r=reduce: alignment.pool(v, r), y)
    assert torch.autograd.gradcheck(lambda v, s: alignment.pool(v, "softmax", s), (y, w))
