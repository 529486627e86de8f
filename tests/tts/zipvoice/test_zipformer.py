"""The Zipformer: its parts against loops and closed forms, and an item alone against in a padded batch."""

import math

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono_tts.zipvoice.attention import AttentionWeights, NonlinearSum, WeightedSum, by_distance, distance_code
from unisono_tts.zipvoice.layer import Convolution, FeedForward, Layer
from unisono_tts.zipvoice.parts import BiasNorm, Bypass, FewerFrames, mask_of, swoosh_l, swoosh_r
from unisono_tts.zipvoice.sizes import FieldSizes, Infilling, LayerSizes, ReaderSizes
from unisono_tts.zipvoice.zipformer import make_field, make_reader

LENGTHS = torch.tensor([13, 6, 1])
SMALL = {"dim": 8, "feed_dim": 12, "num_heads": 2, "query_dim": 4, "value_dim": 3, "position_dim": 2, "code_dim": 6}
SIZES = LayerSizes(**SMALL)
FIELD = FieldSizes(**SMALL, layers=(1, 2, 1), rates=(1, 4, 1), kernels=(5, 3, 5), time_dim=8, dropout=0.0)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def stirred(module):
    """All parameters large enough to be seen, in double precision."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


def test_swoosh_is_as_published():
    x = torch.linspace(-6, 6, 25, dtype=torch.float64)
    torch.testing.assert_close(swoosh_l(x), torch.log1p(torch.exp(x - 4)) - 0.08 * x - 0.035)
    torch.testing.assert_close(swoosh_r(x), torch.log1p(torch.exp(x - 1)) - 0.08 * x - 0.313261687)
    assert abs(float(swoosh_r(torch.zeros(())))) < 1e-6  # the constant is chosen so


def test_bias_norm_divides_by_the_distance_from_the_bias():
    norm = BiasNorm(4)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 0.0, -1.0, 2.0]))
        norm.log_scale.fill_(0.5)
    x = torch.randn(2, 3, 4)
    bias = norm.bias.tolist()
    for vector, normed in zip(x.flatten(0, 1), norm(x).detach().flatten(0, 1), strict=True):
        rms = math.sqrt(sum((v - b) ** 2 for v, b in zip(vector.tolist(), bias, strict=True)) / 4)
        torch.testing.assert_close(normed, vector * math.exp(0.5) / rms)


def test_a_bypass_begins_half_way():
    before, behind = torch.randn(1, 2, 3), torch.randn(1, 2, 3)
    torch.testing.assert_close(Bypass(3)(before, behind), (before + behind) / 2)


@pytest.mark.parametrize("rate", [2, 3, 4])
def test_fewer_frames_are_weighted_sums_and_an_item_s_last_frame_fills_its_group(rate):
    fewer = FewerFrames(rate)
    torch.nn.init.normal_(fewer.logits)
    x = torch.randn(3, 13, 5)
    groups, lengths = fewer(x, LENGTHS)
    assert lengths.tolist() == [math.ceil(length / rate) for length in LENGTHS.tolist()]
    weights = fewer.logits.softmax(0)
    for row, length in enumerate(LENGTHS.tolist()):
        for group in range(int(lengths[row])):
            places = [min(group * rate + k, length - 1) for k in range(rate)]
            wanted = sum(weights[k] * x[row, place] for k, place in enumerate(places))
            torch.testing.assert_close(groups[row, group], wanted)
    back = fewer.back(groups, 13)
    assert all(torch.equal(back[:, t], groups[:, t // rate]) for t in range(13))


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_scores_of_distances_are_those_of_queries_and_keys(frames):
    p, code = torch.randn(2, 3, frames, 4), torch.randn(2 * frames - 1, 3, 4)
    laid = by_distance(p, code)
    for query in range(frames):
        for key in range(frames):
            wanted = (p[:, :, query] * code[key - query + frames - 1]).sum(-1)
            torch.testing.assert_close(laid[..., query, key], wanted)


def test_codes_tell_near_distances_apart_and_far_ones_hardly():
    code = distance_code(1000, 48)
    assert code.shape == (1999, 48) and torch.equal(code[:, -1], torch.ones(1999))
    zero = 999
    torch.testing.assert_close(code[zero, :-1:2], torch.ones(24))  # cosines of 0
    torch.testing.assert_close(code[zero + 5, 1:-1:2], -code[zero - 5, 1:-1:2])  # sines
    near, far = (code[zero + 1] - code[zero]).norm(), (code[-1] - code[-2]).norm()
    assert near > 0.5 > 20 * far
    assert torch.equal(distance_code(10, 48), code[zero - 9 : zero + 10])  # of the distance alone


def test_weights_sum_to_one_over_what_is_there():
    weights = stirred(AttentionWeights(SIZES))(torch.randn(3, 13, 8).double(), mask_of(LENGTHS, 13))
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 13).double())
    for row, length in enumerate(LENGTHS.tolist()):
        assert not weights[row, ..., length:].any()


def test_weights_are_softmax_of_products_and_distances():
    module = stirred(AttentionWeights(SIZES))
    x = torch.randn(1, 5, 8).double()
    q, k, p = module.project(x)[0].reshape(5, 2, 10).split([4, 4, 2], -1)
    code = module.positions(distance_code(5, 6).double()).reshape(9, 2, 2)
    for head in range(2):
        scores = torch.stack(
            [
                torch.stack(
                    [q[i, head] @ k[j, head] / 2 + p[i, head] @ code[j - i + 4, head] for j in range(5)]
                ).softmax(0)
                for i in range(5)
            ]
        )
        torch.testing.assert_close(
            module(x, torch.ones(1, 5, dtype=torch.bool))[0, head], scores, atol=1e-6, rtol=0
        )  # the softmax is in single precision


def test_sums_read_the_weights():
    x, weights = torch.randn(1, 3, 8).double(), torch.eye(3).double().expand(1, 2, 3, 3)
    plain, nonlinear = stirred(WeightedSum(SIZES)), stirred(NonlinearSum(SIZES))
    torch.testing.assert_close(plain(x, weights), plain.out(plain.values(x)))  # each frame sees itself
    squashed, value, gate = nonlinear.project(x).chunk(3, -1)
    torch.testing.assert_close(nonlinear(x, weights), nonlinear.out(value * squashed.tanh() * gate))


def test_dropped_channels_are_dropped_at_all_frames():
    feed = FeedForward(8, 40, 0.5).train()
    feed.feed_out = torch.nn.Identity()
    hidden = feed(torch.randn(2, 9, 8))
    dropped = (hidden == 0).all(1)
    assert 0 < int(dropped.sum()) < dropped.numel() and ((hidden == 0).any(1) == dropped).all()


def test_a_convolution_reads_no_padding():
    conv = stirred(Convolution(8, 5))
    x = torch.randn(1, 9, 8).double()
    spoilt = torch.cat([x[:, :6], x[:, 6:] + 99], 1)
    mask = torch.arange(9)[None] < 6
    assert torch.equal(conv(x, mask)[:, :6], conv(spoilt, mask)[:, :6])


def test_the_time_reaches_a_layer():
    layer, x, mask = stirred(Layer(SIZES, 3)), torch.randn(1, 5, 8).double(), torch.ones(1, 5, dtype=torch.bool)
    zero = torch.zeros(1, 8).double()
    assert torch.equal(layer(x, mask, zero), layer(x, mask, None))
    assert (layer(x, mask, zero + 1) - layer(x, mask, None)).abs().max() > 1e-3


@pytest.mark.parametrize("what", ["field", "reader"])
def test_alone_is_in_a_batch_for_every_length(what):
    if what == "field":
        net, time = stirred(make_field(6, 4, FIELD)), torch.tensor([1.0, 0.4, 0.0]).double()
    else:
        net, time = stirred(make_reader(6, 4, ReaderSizes(**SMALL, num_layers=2, kernel_size=5))), None
    x = torch.randn(3, 13, 6).double()
    together = net(x, LENGTHS, time)
    assert together.shape == (3, 13, 4) and not together[~mask_of(LENGTHS, 13)].any()
    for row, length in enumerate(LENGTHS.tolist()):
        own = None if time is None else time[row : row + 1]
        alone = net(x[row : row + 1, :length], LENGTHS[row : row + 1], own)
        # The softmax is in single precision.
        torch.testing.assert_close(together[row : row + 1, :length], alone, atol=1e-5, rtol=1e-5)
        more = F.pad(x[row : row + 1, :length], (0, 0, 0, 30), value=9.0)
        padded = net(more, LENGTHS[row : row + 1], own)[:, :length]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


def test_the_published_model_has_the_published_size():
    """123 M with 100 mels: a layer's parameters by hand."""
    size = FieldSizes()
    d, f, heads = size.dim, size.feed_dim, size.num_heads
    attention = (d + 1) * heads * 68 + 48 * heads * 4
    sums = 2 * ((d + 1) * heads * 12 + (heads * 12 + 1) * d)
    nonlinear = (d + 1) * 3 * (3 * d // 4) + (3 * d // 4 + 1) * d
    feeds = sum((d + 1) * h + (h + 1) * d for h in (3 * f // 4, f, 5 * f // 4))
    same = attention + sums + nonlinear + feeds + 2 * ((d + 1) * 2 * d + (d + 1) * d + d) + 3 * d + 1
    layers = [same + 2 * d * kernel for kernel in (31, 15, 7, 15, 31)]
    stacks = sum(count * layer for count, layer in zip((2, 2, 4, 4, 4), layers, strict=True))
    times = (192 + 1) * 384 + (384 + 1) * 192 + 5 * (192 + 1) * d
    fewer = 3 * d + 2 + 4 + 2
    made = make_field(300, 100, size)
    assert sum(p.numel() for p in made.parameters()) == stacks + times + fewer + 301 * d + (d + 1) * 100
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(118.5e6, rel=0.01)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: FieldSizes(dim=30), "shape"),
        (lambda: FieldSizes(layers=(1, 1)), "shape"),
        (lambda: FieldSizes(kernels=(31, 15, 8, 15, 31)), "value"),
        (lambda: Infilling(least_masked=0.0), "range"),
        (lambda: Infilling(least_masked=0.9, most_masked=0.8), "range"),
        (lambda: Infilling(drop_text=1.5), "range"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, code):
    with refused(RecipeError, code):
        make()
