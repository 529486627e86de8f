"""Encoders: padding, shifts, chunks, and the parts against their definitions."""

import math

import pytest
import torch
from recognisers import drawn
from refused import refused
from torch.nn import functional as F
from unisono.errors import RecipeError, UnisonoError
from unisono.nn.fft import position_code
from unisono_asr.networks.attention import RelativeAttention, distances, shifted
from unisono_asr.networks.branchformer import Branchformer, Chunks, EncoderSizes
from unisono_asr.networks.convolution import ConvolutionalGate, TimeConvolution
from unisono_asr.networks.encoder import Encoder, EncoderStream, in_chunks
from unisono_asr.networks.merge import Depthwise, Fixed, Learned
from unisono_asr.networks.subsampling import Subsampling

TINY = {"dim": 16, "num_blocks": 2, "num_heads": 2, "gate_dim": 32, "kernel_size": 5, "feed_dim": 32, "merge_kernel": 5}
KINDS = [
    ("e-branchformer", "depthwise"),
    ("branchformer", "concat"),
    ("branchformer", "learned"),
    ("branchformer", "fixed"),
]


def make(block="e-branchformer", merge="depthwise", mels=20, seed=0, **changes):
    torch.manual_seed(seed)
    encoder = Encoder(mels, EncoderSizes(block=block, merge=merge, **TINY | changes)).eval()
    for module in encoder.modules():  # gates that are not the constant they begin as
        if isinstance(module, TimeConvolution):
            torch.nn.init.normal_(module.conv.weight, std=0.3)
    return encoder


@pytest.mark.parametrize("block, merge", KINDS)
def test_alone_is_in_a_batch_and_with_ten_seconds_of_padding(block, merge):
    encoder, lengths = make(block, merge), [37, 64, 50, 1]
    mels = [drawn(length, 20, seed=length) for length in lengths]
    alone = [encoder(mel[None], torch.tensor([len(mel)]))[0][0] for mel in mels]
    for padding in (0, 1000):
        batch = torch.full((4, 64 + padding, 20), 7.0)  # what pads is no zero
        for row, mel in enumerate(mels):
            batch[row, : len(mel)] = mel
        together, steps = encoder(batch, torch.tensor(lengths))
        assert steps.tolist() == [10, 16, 13, 1]
        for row, own in enumerate(alone):
            assert (together[row, : len(own)] - own).abs().max() < 2e-5
            assert not together[row, len(own) :].any()


@pytest.mark.parametrize("block, merge", [kind for kind in KINDS if kind[1] != "learned"])
def test_four_frames_later_is_one_step_later(block, merge):
    """But for what the beginning of a recording shows the convolutions; attention sees the same things at the same
    distances."""
    encoder, mel = make(block, merge, num_blocks=1), drawn(200, 20)
    near = encoder(mel[None], torch.tensor([200]))[0][0]
    late = encoder(F.pad(mel, (0, 0, 4, 0))[None], torch.tensor([204]))[0][0]
    middle = slice(10, 45)
    shift = (late[1:][middle] - near[middle]).abs().mean()
    assert shift < 0.1 * (late[:-1][middle] - near[middle]).abs().mean()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 13])
def test_subsampling_is_two_padded_convolutions(length):
    torch.manual_seed(0)
    layer, mel = Subsampling(20, 6, 8), drawn(1, length, 20)
    with torch.no_grad():
        x = F.relu(F.conv2d(F.pad(mel[:, None], (0, 0, 1, 1)), layer.first.weight, layer.first.bias, stride=2))
        x = F.relu(F.conv2d(F.pad(x, (0, 0, 1, 1)), layer.second.weight, layer.second.bias, stride=2))
        expected = layer.out(x.transpose(1, 2).flatten(2))
        found, steps = layer(mel, torch.tensor([length]))
    assert int(steps) == found.shape[1] == expected.shape[1] == math.ceil(length / 4)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("num_queries, num_keys", [(1, 1), (1, 4), (3, 3), (3, 5), (5, 5)])
def test_scores_by_distance_are_those_of_each_pair(num_queries, num_keys):
    far = num_queries + num_keys - 1
    scores = drawn(2, 3, num_queries, far)
    found = shifted(scores, num_keys)
    for i in range(num_queries):
        for j in range(num_keys):
            distance = (num_keys - num_queries + i) - j
            assert torch.equal(found[..., i, j], scores[..., i, num_keys - 1 - distance])
    codes = distances(num_queries, num_keys, 8, torch.device("cpu"))
    assert torch.equal(codes, position_code(torch.arange(num_keys - 1, -num_queries, -1), 8))


def test_attention_is_its_formula():
    torch.manual_seed(0)
    layer, x = RelativeAttention(8, 2, 0.0).eval(), drawn(1, 5, 8)
    with torch.no_grad():
        q, (k, v) = layer.query(x)[0], layer.key_value(x)[0].chunk(2, -1)
        heads = []
        for h in range(2):
            own = slice(4 * h, 4 * h + 4)
            score = torch.zeros(5, 5)
            for i in range(5):
                for j in range(5):
                    r = layer.place(position_code(torch.tensor([i - j]), 8))[0, own]
                    by_content = (q[i, own] + layer.content_bias[h, 0]) @ k[j, own]
                    score[i, j] = (by_content + (q[i, own] + layer.place_bias[h, 0]) @ r) / 2
            score[:, 4] = -torch.inf
            heads.append(score.softmax(-1) @ v[:, own])
        expected = layer.out(torch.cat(heads, -1))
        seen = torch.tensor([[[True, True, True, True, False]]])
        found = layer(x, distances(5, 5, 8, x.device), seen)[0]
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_merge_without_the_gates_half_is_a_block_of_attention():
    torch.manual_seed(0)
    sizes = EncoderSizes(block="branchformer", merge="concat", **TINY)
    block, x = Branchformer(sizes).eval(), drawn(2, 6, 16)
    mask, places = torch.ones(2, 6, dtype=torch.bool), distances(6, 6, 16, x.device)
    with torch.no_grad():
        block.merge.out.weight[:, 16:] = 0
        attended = block.attention(block.far_norm(x), places, mask[:, None])
        expected = block.norm(x + F.linear(attended, block.merge.out.weight[:, :16], block.merge.out.bias))
        assert torch.allclose(block(x, mask, places, mask[:, None]), expected, atol=1e-6)


def test_a_gate_begins_as_a_plain_layer():
    torch.manual_seed(0)
    gate, x = ConvolutionalGate(8, 12, 5, 0.0, causal=False), drawn(1, 9, 8)
    with torch.no_grad():
        expected = gate.out(F.gelu(gate.inside(x))[..., :6])
        assert torch.allclose(gate(x, torch.ones(1, 9, dtype=torch.bool)), expected, atol=1e-4)


def test_a_learned_merge_weighs_by_what_is_kept():
    torch.manual_seed(0)
    merge, near, far = Learned(8, 0.0).eval(), drawn(1, 5, 8), drawn(1, 5, 8, seed=1)
    short, whole = torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool)
    short[:, 3:] = False
    with torch.no_grad():
        cut = merge(near[:, :3], far[:, :3], whole[:, :3], None)
        assert torch.allclose(merge(near, far, short, None)[:, :3], cut, atol=1e-6)
        merge.out.weight.copy_(torch.eye(8))
        merge.out.bias.zero_()
        share = ((merge(near, far, whole, None) - far) / (near - far)).flatten()
    assert torch.allclose(share, share[0].expand(40), atol=1e-3) and 0 < float(share[0]) < 1


def test_branch_dropout_leaves_attention_out():
    torch.manual_seed(0)
    merge, near = Learned(8, 1.0).train(), drawn(1, 5, 8)
    one, other = (merge(near, drawn(1, 5, 8, seed=seed), torch.ones(1, 5, dtype=torch.bool), None) for seed in (1, 2))
    assert torch.equal(one, other)


def test_a_fixed_merge_is_a_mean():
    merge, near, far = Fixed(8, 0.25), drawn(1, 5, 8), drawn(1, 5, 8, seed=1)
    assert torch.allclose(merge(near, far, None, None), merge.out(0.25 * near + 0.75 * far))


def test_a_depthwise_merge_adds_the_neighbours():
    merge, near, far = Depthwise(4, 3, causal=False), drawn(1, 5, 4), drawn(1, 5, 4, seed=1)
    mask = torch.ones(1, 5, dtype=torch.bool)
    with torch.no_grad():
        merge.conv.conv.weight.zero_()
        merge.conv.conv.bias.zero_()
        merge.conv.conv.weight[:, :, 0] = 1.0  # what was one step before
        both = torch.cat([far, near], -1)
        assert torch.allclose(merge(near, far, mask, None), merge.out(both + F.pad(both, (0, 0, 1, -1))), atol=1e-6)


CHUNKED = [("e-branchformer", "depthwise"), ("branchformer", "concat"), ("branchformer", "fixed")]


@pytest.mark.parametrize("block, merge", CHUNKED)
@pytest.mark.parametrize("pieces", [(61,), (1,) * 61, (7, 30, 3, 21)])
def test_a_stream_is_the_whole(block, merge, pieces):
    encoder, mel = make(block, merge, chunks=Chunks(steps=3, left=2)), drawn(61, 20)
    stream = EncoderStream(encoder)
    with torch.no_grad():
        whole = encoder(mel[None], torch.tensor([61]))[0][0]
        joined = torch.cat([*(stream.push(piece) for piece in mel.split(pieces)), stream.flush()])
    assert joined.shape == whole.shape == (16, 16)
    assert (joined - whole).abs().max() < 1e-5


def test_a_stream_gives_a_chunk_as_soon_as_it_is_over():
    stream = EncoderStream(make(chunks=Chunks(steps=3, left=1)))
    given = [len(stream.push(drawn(1, 20))) for _ in range(25)]
    assert [frame + 1 for frame, steps in enumerate(given) if steps] == [12, 24] and max(given) == 3


def test_chunks_see_themselves_and_some_before():
    assert in_chunks(5, 2, 1, torch.device("cpu")).int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


def test_nothing_later_than_its_chunk_reaches_a_step():
    encoder, mel = make(chunks=Chunks(steps=2, left=8)), drawn(1, 48, 20).requires_grad_()
    encoder(mel, torch.tensor([48]))[0][0, 3].square().sum().backward()
    reached = mel.grad[0].abs().sum(1) > 0
    assert reached[:16].all() and not reached[16:].any()


def test_streams_need_chunks():
    with refused(UnisonoError, "unsupported", "model.encoder.chunks.steps"):
        EncoderStream(make())
    with refused(UnisonoError, "state", "flush"):
        EncoderStream(make(chunks=Chunks(steps=2))).flush()


@pytest.mark.parametrize(
    "change, code, name",
    [
        ({"dim": 30, "num_heads": 4}, "value", "dim"),
        ({"num_blocks": 0}, "range", "num_blocks"),
        ({"gate_dim": 31}, "value", "gate_dim"),
        ({"kernel_size": 4}, "value", "kernel_size"),
        ({"dropout": 1.5}, "range", "dropout"),
        ({"merge": "concat"}, "conflict", "merge"),
        ({"block": "branchformer", "merge": "depthwise"}, "conflict", "merge"),
        ({"block": "branchformer", "merge": "learned", "chunks": Chunks(steps=4)}, "conflict", "merge"),
        ({"chunks": Chunks(steps=-1)}, "range", "chunks"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, code, name):
    with refused(RecipeError, code, f"model.encoder.{name}"):
        EncoderSizes(**change)
