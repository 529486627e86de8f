"""Networks over samples: what they see, what they keep, alone and in a batch; published sizes are in test_imported."""

import pytest
import torch
from refused import refused
from unisono.errors import RecipeError
from unisono_codec.codecs.waveform import Snake, WaveformDecoder, WaveformEncoder, WaveformSizes

DAC = dict(channels=4, strides=(2, 5, 3), decoder_channels=32)
ENCODEC = dict(
    channels=4,
    strides=(2, 5, 3),
    activation="elu",
    last_kernel=(7, 7),
    residual_kernel=3,
    dilations=(1, 2),
    compress=2,
    shortcut=True,
    causal=True,
    tanh=False,
)
KINDS = {
    "dac": DAC,
    "odd ends": {**DAC, "short_odd": True},
    "causal": ENCODEC,
    "reflected": {**ENCODEC, "padding": "reflect"},
    "with memory": {**ENCODEC, "padding": "reflect", "lstm_layers": 1},
}
HOP = 30


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def nets(kind):
    sizes = WaveformSizes(**KINDS[kind])
    assert sizes.hop_length == HOP
    return WaveformEncoder(sizes, 6).eval(), WaveformDecoder(sizes, 6).eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_whole_frames_come_and_go(kind):
    encoder, decoder = nets(kind)
    for frames in (1, 2, 9):
        z = encoder(torch.randn(2, frames * HOP))
        assert z.shape == (2, frames, 6)
        wave = decoder(z)
        assert wave.shape == (2, frames * HOP) and wave.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_alone_as_in_a_padded_batch_whatever_stands_beyond(kind):
    encoder, decoder = nets(kind)
    frames = torch.tensor([9, 1, 4])
    mask = torch.arange(9) < frames[:, None]
    wave = torch.randn(3, 9 * HOP)
    z = encoder(wave, mask)
    vectors = torch.randn(3, 9, 6)
    sound = decoder(vectors, mask)
    for row, count in enumerate(frames.tolist()):
        own = encoder(wave[row : row + 1, : count * HOP])
        torch.testing.assert_close(z[row, :count], own[0], atol=1e-5, rtol=1e-4)
        own = decoder(vectors[row : row + 1, :count])
        torch.testing.assert_close(sound[row, : count * HOP], own[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["causal", "with memory"])
@torch.no_grad()
def test_causal_means_that_a_prefix_has_a_prefix(kind):
    encoder, decoder = nets(kind)
    wave, vectors = torch.randn(1, 20 * HOP), torch.randn(1, 20, 6)
    whole, sound = encoder(wave), decoder(vectors)
    for frames in (8, 13):
        torch.testing.assert_close(encoder(wave[:, : frames * HOP]), whole[:, :frames], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(decoder(vectors[:, :frames]), sound[:, : frames * HOP], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["dac", "causal"])
def test_the_context_is_what_gradients_reach(kind):
    encoder, decoder = nets(kind)
    wave = torch.randn(1, 61 * HOP, requires_grad=True)
    encoder(wave)[0, 30].sum().backward()
    reached = wave.grad[0].nonzero()[:, 0]
    first, last = int(reached.min()), int(reached.max())
    assert (30 - encoder.context) * HOP <= first < (30 - encoder.context + 1) * HOP + HOP
    assert last < (31 + encoder.lookahead) * HOP
    z = torch.randn(1, 61, 6, requires_grad=True)
    decoder(z)[0, 30 * HOP : 31 * HOP].sum().backward()
    reached = z.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert 30 - decoder.context <= int(reached.min()) <= 30 - decoder.context + 2
    assert 30 + decoder.lookahead - 2 <= int(reached.max()) <= 30 + decoder.lookahead
    if kind == "causal":
        assert encoder.lookahead == decoder.lookahead == 0


def test_snake_by_hand():
    snake = Snake(2)
    with torch.no_grad():
        snake.alpha[1] = 3.0
    x = torch.tensor([[[0.5, -2.0], [0.5, -2.0]]])
    expected = torch.stack([x[0, 0] + torch.sin(x[0, 0]) ** 2, x[0, 1] + torch.sin(3 * x[0, 1]) ** 2 / 3])
    torch.testing.assert_close(snake(x)[0], expected)


@pytest.mark.parametrize(
    ("change", "code", "path", "named"),
    [
        ({"strides": ()}, "range", "strides", "2"),
        ({"strides": (2, 1)}, "range", "strides", "[2, 1]"),
        ({"padding": "reflect"}, "conflict", "padding", "causal"),
        ({"kernel": 6}, "value", "kernel", "odd"),
        ({"decoder_channels": 12}, "value", "decoder_channels", "multiple of 8"),
    ],
)
def test_limits_are_named(change, code, path, named):
    with refused(RecipeError, code, f"model.waveform.{path}", names=named):
        WaveformSizes(**{**DAC, **change})
