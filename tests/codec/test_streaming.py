"""Streams: windows are what the whole is; codecs in pieces, whatever the pieces, in constant memory."""

import math
from typing import Any

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import RequestError
from unisono.nn.quantize import ResidualQuantizer
from unisono.recipe import Recipe
from unisono_codec.codecs.codec import Codec, CodecNet
from unisono_codec.codecs.streaming import windows
from unisono_codec.codecs.waveform import WaveformDecoder, WaveformEncoder, WaveformSizes
from unisono_codec.vocoders.data import make_tone

FACTS = Recipe.read("codec/rvq-tiny").build_data().describe()
# Of the peak. Float32 sums in another order, which the phases of high harmonics magnify.
TOLERANCE = 1e-3


def make_codec(recipe: str = "codec/rvq-tiny", *overrides: str) -> Codec:
    """A codec whose codebooks have seen sound, so that codes differ."""
    torch.manual_seed(0)
    codec = Recipe.read(recipe, list(overrides)).build_model(FACTS)
    codec.train()
    wave = make_wave(16)
    with torch.no_grad():
        z = codec.net.encoder(codec.net.encoder.read(wave))
        codec.net.quantizer(z)
    return codec.eval()


def make_wave(frames: int, more: int = 0, hop: int = 512) -> torch.Tensor:
    return torch.stack([make_tone(i, frames * hop + more, 22050) for i in range(2)])


@pytest.fixture(scope="module")
def codec() -> Codec:
    return make_codec()


# ---- windows -----------------------------------------------------------------------------------


def pieces(x: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    return list(x.split(sizes, dim=1))


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7] * 8 + [4], [40, 20], [1, 58, 1], [0, 30, 0, 30]])
@pytest.mark.parametrize(("left", "right", "unit", "block"), [(3, 3, 1, 4), (5, 0, 3, 1), (0, 2, 7, 2), (4, 1, 2, 50)])
def test_windows_are_the_whole(sizes, left, right, unit, block):
    """Of a filter that sees exactly so many frames, on whole numbers: equal, not nearly."""
    x = torch.randint(-9, 9, (2, 60), generator=torch.Generator().manual_seed(0)).double()
    taps = torch.arange(1, left + right + 2).double()[None, None]

    def function(x: torch.Tensor) -> torch.Tensor:
        frames = x.unflatten(1, (-1, unit)).sum(-1)
        seen = F.conv1d(F.pad(frames[:, None], (left, right)), taps)[:, 0]
        return torch.stack([seen, -seen], -1).flatten(1)  # two of each frame

    whole = function(F.pad(x, (0, -60 % unit)))
    made = list(windows(pieces(x, sizes), function, left, right, unit, block))
    torch.testing.assert_close(torch.cat(made, 1), whole, atol=0, rtol=0)
    assert all(piece.shape[1] == 2 * block for piece in made[:-1])


def test_windows_that_see_too_little_are_not_the_whole():
    x = torch.arange(60.0)[None]

    def function(x):
        return F.conv1d(F.pad(x[:, None], (3, 3)), torch.ones(1, 1, 7))[:, 0]

    whole = function(x)
    for left, right in ((2, 3), (3, 2)):
        assert not torch.equal(torch.cat(list(windows([x], function, left, right, block=4)), 1), whole)


def test_windows_hold_no_more_than_they_need():
    seen = []

    def function(x):
        seen.append(x.shape[1])
        return x

    assert sum(p.shape[1] for p in windows((torch.zeros(1, 10) for _ in range(100)), function, 5, 3, block=8)) == 1000
    assert max(seen) == 5 + 8 + 3


def test_blocks_stay_blocks_to_the_end():
    """What comes behind the last piece is handed on block by block too, however far a network sees ahead."""
    for cut in ([20], [7, 13], [1] * 20):
        pieces = torch.arange(20.0)[None].split(cut, 1)
        made = list(windows(pieces, lambda x: x, 2, 6, block=4))
        assert [piece.shape[1] for piece in made] == [4] * 5
        assert torch.equal(torch.cat(made, 1), torch.arange(20.0)[None])


def test_windows_refuse_what_changes_shape():
    with refused(RequestError, "shape", "chunks", value=(2, 4)):
        list(windows([torch.zeros(1, 4), torch.zeros(2, 4)], lambda x: x, 0, 0))
    with refused(RequestError, "range", "block", value=0, names="1"):
        list(windows([torch.zeros(1, 4)], lambda x: x, 0, 0, block=0))
    assert list(windows([], lambda x: x, 0, 0)) == []


# ---- codecs ------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("levels", [None, 1])
def test_tokens_of_a_stream_are_those_of_the_whole(codec, levels):
    wave = make_wave(90, 100)
    streamed = torch.cat(list(codec.encode_stream([wave], levels, block=16)), 1)
    whole = codec.encode(wave, levels=levels)
    assert streamed.shape == whole.shape == (2, 91, 2 if levels is None else 1)
    assert len(whole.unique()) > 3
    # A vector on the very border of two codes may fall to either side.
    assert (streamed != whole).float().mean() < 0.01


@torch.no_grad()
@pytest.mark.parametrize("head", ["harmonic", "vocos"])
def test_the_wave_of_a_stream_is_that_of_the_whole(head):
    codec = make_codec("codec/rvq-tiny", f"--model.frames.head={head}")
    tokens = codec.encode(make_wave(90))
    streamed = torch.cat(list(codec.decode_stream([tokens], block=16)), 1)
    whole = codec.decode(tokens)
    torch.testing.assert_close(streamed, whole, atol=TOLERANCE * float(whole.abs().max()), rtol=0)


@torch.no_grad()
def test_the_pieces_change_no_bit(codec):
    wave = make_wave(60, 33)
    once = torch.cat(list(codec.encode_stream([wave], block=8)), 1)
    heard = torch.cat(list(codec.decode_stream([once], block=8)), 1)
    for size in (100, 512, 5000):
        tokens = torch.cat(list(codec.encode_stream(wave.split(size, 1), block=8)), 1)
        assert torch.equal(tokens, once)
    for size in (1, 7, 50):
        assert torch.equal(torch.cat(list(codec.decode_stream(once.split(size, 1), block=8)), 1), heard)


@torch.no_grad()
def test_a_stream_speaks_before_its_end(codec):
    fed = []

    def chunks():
        for chunk in make_wave(100).split(512, dim=1):
            fed.append(chunk)
            yield chunk

    tokens = next(codec.encode_stream(chunks(), block=4))
    assert tokens.shape[1] == 4
    assert len(fed) == 4 + codec.net.encoder.lookahead < 100
    assert list(codec.encode_stream([])) == []
    assert list(codec.decode_stream([])) == []


# ---- over samples ------------------------------------------------------------------------------


class OverSamples(Codec):
    """A codec of strided convolutions, small, of sizes like the published ones."""

    def __init__(self, **sizes: Any):
        super().__init__()
        torch.manual_seed(0)
        sizes = WaveformSizes(channels=4, strides=(2, 3, 4), **sizes)
        quantizer = ResidualQuantizer(6, 8, num_levels=3)
        self.net = CodecNet(WaveformEncoder(sizes, 6), quantizer, WaveformDecoder(sizes, 6))
        self.sample_rate, self.hop_length = 22050, sizes.hop_length
        self.train()
        with torch.no_grad():
            quantizer(self.net.encoder(make_wave(40, hop=self.hop_length)))
        self.eval()


ENCODEC = {"activation": "elu", "residual_kernel": 3, "dilations": (1,), "compress": 2, "shortcut": True,
           "last_kernel": (7, 7), "tanh": False}  # fmt: skip
CAUSAL = {
    "EnCodec": OverSamples(**ENCODEC, causal=True, padding="reflect", lstm_layers=2),
    "DAC, causal": OverSamples(causal=True),
}
SEEING_AHEAD = {"EnCodec": OverSamples(**ENCODEC), "DAC": OverSamples(), "short": OverSamples(short_odd=True)}


@torch.no_grad()
@pytest.mark.parametrize("codec", CAUSAL.values(), ids=CAUSAL)
def test_a_causal_stream_is_the_whole_bit_for_bit(codec):
    wave = make_wave(70, 5, codec.hop_length)
    tokens = codec.encode(wave)
    assert tokens.shape == (2, 71, 3) and len(tokens.unique()) > 5
    heard = codec.decode(tokens)
    for size in (1, 100, 10_000):
        assert torch.equal(torch.cat(list(codec.encode_stream(wave.split(size, 1))), 1), tokens)
        assert torch.equal(torch.cat(list(codec.decode_stream(tokens.split(size, 1))), 1), heard)


@torch.no_grad()
@pytest.mark.parametrize("codec", CAUSAL.values(), ids=CAUSAL)
@pytest.mark.parametrize("block", [1, 3, 1000])
def test_a_causal_network_goes_on_where_it_stopped(codec, block):
    """Whatever the blocks, what was kept of the past stands for all of it; the oracle runs the network on the whole."""
    wave = make_wave(70, 0, codec.hop_length)
    z = codec.net.encoder(wave)
    tokens = codec.net.quantizer.tokens(z)
    streamed = torch.cat(list(codec.encode_stream([wave], block=block)), 1)
    assert (streamed != tokens).float().mean() < 0.01
    heard = torch.cat(list(codec.decode_stream([tokens], block=block)), 1)
    whole = codec.net.decoder(codec.embed(tokens))
    # Float32 sums in another order.
    torch.testing.assert_close(heard, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


@torch.no_grad()
def test_two_streams_of_one_codec_do_not_meet():
    codec = CAUSAL["EnCodec"]
    one, two = (wave[None] for wave in make_wave(64, 0, codec.hop_length))
    streams = codec.encode_stream([one]), codec.encode_stream([two])
    both = [next(stream) for _ in range(2) for stream in streams]
    assert torch.equal(torch.cat(both[::2], 1), codec.encode(one))
    assert torch.equal(torch.cat(both[1::2], 1), codec.encode(two))


@torch.no_grad()
@pytest.mark.parametrize("codec", CAUSAL.values(), ids=CAUSAL)
def test_a_causal_item_alone_is_the_item_in_a_batch(codec):
    wave = make_wave(50, 0, codec.hop_length)
    lengths = torch.tensor([50 * codec.hop_length, 700])
    together = codec.encode(wave, lengths)
    alone = codec.encode(wave[1:, :700])
    assert (together[1, : alone.shape[1]] != alone[0]).float().mean() < 0.02
    assert together[1, alone.shape[1] :].abs().sum() == 0
    heard = codec.decode(together, lengths)
    assert heard[1, 700:].abs().sum() == 0
    torch.testing.assert_close(heard[1, :700], codec.decode(together[1:, :30])[0, :700], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("codec", SEEING_AHEAD.values(), ids=SEEING_AHEAD)
def test_a_stream_that_sees_ahead_is_the_whole(codec):
    wave = make_wave(70, 5, codec.hop_length)
    tokens = codec.encode(wave)
    streamed = torch.cat(list(codec.encode_stream(wave.split(300, 1), block=7)), 1)
    assert (streamed != tokens).float().mean() < 0.01
    heard = torch.cat(list(codec.decode_stream(tokens.split(9, 1), block=7)), 1)
    whole = codec.decode(tokens)
    torch.testing.assert_close(heard, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


def test_an_lstm_that_sees_ahead_cannot_be_streamed():
    codec = OverSamples(**ENCODEC, lstm_layers=1)
    with refused(RequestError, "unsupported", "encode_stream"):
        codec.encode_stream([make_wave(9)])
    with refused(RequestError, "unsupported", "decode_stream"):
        list(codec.decode_stream([torch.zeros(1, 9, 3, dtype=torch.int64)]))


# ---- what is refused ---------------------------------------------------------------------------


def test_a_stream_leaves_gradients_to_others(codec):
    for _ in codec.decode_stream(codec.encode_stream([make_wave(60)], block=8), block=8):
        assert torch.is_grad_enabled()


def test_what_cannot_be_streamed_is_refused(codec):
    wave = make_wave(20)
    with refused(RequestError, "range", "levels", value=3, names=["1", "2"]):
        list(codec.encode_stream([wave], 3))
    wave[0, 7000] = math.nan
    with refused(RequestError, "value", "chunks"):
        list(codec.encode_stream([wave]))
    with refused(RequestError, "range", "tokens", value=(0, 8), names=["0", "8"]):
        list(codec.decode_stream([torch.tensor([[[0, 8]]])]))
