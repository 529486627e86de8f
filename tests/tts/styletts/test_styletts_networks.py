"""Networks of StyleTTS: against the same layers without masks, and padding that must change nothing."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from unisono_tts.styletts.blocks import Recurrence, ResidualBlock, RisingBlock, StyledBlock, pair_means, within
from unisono_tts.styletts.decoder import CurveEncoder, Decoder
from unisono_tts.styletts.pictures import MelDiscriminator, StyleEncoder, pooled, with_mask
from unisono_tts.styletts.prosody import ProsodyPredictor, StyledLayerNorm
from unisono_tts.styletts.sizes import StyleSizes
from unisono_tts.styletts.text import TextEncoder

SIZES = StyleSizes(
    dim=12, decoder_dim=20, style_dim=6, picture_dim=4, residual_dim=3, text_layers=2, prosody_layers=2
)  # fmt: skip
# Sums of another shape are added in another order, in single precision.
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind, *args, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return kind(*args, **kwargs).eval()


def everywhere(x):
    return torch.ones(len(x), x.shape[2], dtype=torch.bool)


def conv(layer, x):
    """A layer's weight, normalised as its parametrisation says, without any mask."""
    options = {"padding": layer.padding, "stride": layer.stride, "groups": layer.groups}
    function = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d}[nn.Conv2d if layer.weight.ndim == 4 else nn.Conv1d]
    return function(x, layer.weight, layer.bias, **options)


def test_a_styled_block_is_the_published_one():
    block, x, style = made(StyledBlock, 5, 7, 6), noise(2, 5, 11), noise(2, 6, seed=1)
    y = x
    for norm, layer in zip(block.norms, block.convs, strict=True):
        scale, shift = norm.affine(style)[..., None].chunk(2, dim=1)
        y = conv(layer, F.leaky_relu((1 + scale) * F.instance_norm(y) + shift, 0.2))
    wanted = (conv(block.skip, x) + y) / math.sqrt(2)
    torch.testing.assert_close(block(x, style, everywhere(x)), wanted, **CLOSE)


def test_a_rising_block_doubles_by_repetition_and_by_a_transposed_convolution():
    block, x, style = made(RisingBlock, 5, 7, 6), noise(2, 5, 11), noise(2, 6, seed=1)

    def normed(norm, y):
        scale, shift = norm.affine(style)[..., None].chunk(2, dim=1)
        return F.leaky_relu((1 + scale) * F.instance_norm(y) + shift, 0.2)

    y = F.conv_transpose1d(
        normed(block.norms[0], x), block.rise.weight, block.rise.bias, 2, padding=1, output_padding=1, groups=5
    )
    y = conv(block.convs[1], normed(block.norms[1], conv(block.convs[0], y)))
    wanted = (conv(block.skip, F.interpolate(x, scale_factor=2, mode="nearest")) + y) / math.sqrt(2)
    fine = torch.ones(2, 22, dtype=torch.bool)
    torch.testing.assert_close(block(x, style, everywhere(x), fine), wanted, **CLOSE)


@pytest.mark.parametrize("frames", [80, 96, 83])
def test_a_style_is_that_of_the_published_layers_on_one_whole_recording(frames):
    """The last convolution is padded in time here; all else is as published, an odd frame doubled for the average."""
    encoder, mel = made(StyleEncoder, 4, 12, 80, 6), noise(1, frames, 80)
    x = conv(encoder.trunk.into, mel[:, None])
    for block in encoder.trunk.blocks:
        y = conv(block.halve, conv(block.first, F.leaky_relu(x, 0.2)))
        y = conv(block.second, F.leaky_relu(y, 0.2))
        x = x if isinstance(block.skip, nn.Identity) else conv(block.skip, x)
        x = torch.cat([x, x[:, :, -1:]], dim=2) if x.shape[2] % 2 else x
        x = (F.avg_pool2d(x, 2) + y) / math.sqrt(2)
    x = conv(encoder.trunk.last, F.leaky_relu(x, 0.2))
    assert x.shape[3] == 1  # 80 bins are five rows after four halvings, which the kernel covers
    wanted = encoder.out(F.leaky_relu(x.mean((2, 3)), 0.2))
    torch.testing.assert_close(encoder(mel, torch.tensor([frames])), wanted, **CLOSE)


def test_spectral_norms_hold_the_largest_singular_value_at_one():
    encoder = made(StyleEncoder, 4, 12, 80, 6).train()
    for _ in range(40):  # a power iteration each
        encoder(noise(1, 16, 80), torch.tensor([16]))
    encoder.eval()
    for layer in (encoder.trunk.into, encoder.trunk.blocks[0].second, encoder.trunk.last):
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1, abs=0.02)


def padded(x, extra, junk=1e3):
    """Append time steps (axis 1) of what must not count."""
    return torch.cat([x, torch.full((len(x), extra, *x.shape[2:]), junk)], dim=1)


@pytest.mark.parametrize("frames", [1, 7, 16, 53])
def test_padding_changes_no_style_and_no_judgement(frames):
    encoder, judge = made(StyleEncoder, 4, 12, 80, 6), made(MelDiscriminator, 4, 12, 80)
    mel, lengths = noise(2, frames, 80), torch.tensor([frames, frames])
    more = padded(mel, 37)
    torch.testing.assert_close(encoder(more, lengths), encoder(mel, lengths), **CLOSE)
    (short,), (long,) = (
        judge(with_mask(mel, within(lengths, frames))),
        judge(with_mask(more, within(lengths, frames + 37))),
    )
    torch.testing.assert_close(long.scores, short.scores, **CLOSE)


def test_clips_of_any_length_have_a_style_that_depends_on_them():
    """Published training leaves clips below 80 frames out, in silence."""
    encoder = made(StyleEncoder, 4, 12, 80, 6)
    for frames in (1, 2, 15, 79):
        mel = noise(2, frames, 80).requires_grad_()
        style = encoder(mel, torch.tensor([frames] * 2))
        assert style.isfinite().all() and (style[0] - style[1]).abs().max() > 1e-5
        style.sum().backward()
        assert mel.grad is not None and (mel.grad.abs().sum(2) > 0).all()


@pytest.mark.parametrize("frames", [8, 9])
def test_pooling_is_the_mean_of_what_is_valid(frames):
    x, lengths = noise(1, 2, 10, 5), torch.tensor([frames])
    mask = within(lengths, 10)
    found = pooled(x, mask)
    for row in range((frames + 1) // 2):
        for column in range(3):
            square = x[:, :, 2 * row : min(2 * row + 2, frames), 2 * column : 2 * column + 2]
            torch.testing.assert_close(found[:, :, row, column], square.mean((2, 3)))
    pairs = pair_means(x[..., 0], mask)
    for row in range((frames + 1) // 2):
        torch.testing.assert_close(pairs[:, :, row], x[:, :, 2 * row : min(2 * row + 2, frames), 0].mean(2))


def test_recurrence_is_an_lstm_over_each_item_by_itself():
    layer, x, lengths = made(Recurrence, 5, 8), noise(3, 9, 5), torch.tensor([9, 1, 4])
    read = layer(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        wanted, _ = layer.lstm(x[row : row + 1, :length])
        torch.testing.assert_close(read[row : row + 1, :length], wanted)
        assert not read[row, length:].any()


def test_a_layer_norm_by_style_with_zero_affine_is_layer_norm():
    norm, x = made(StyledLayerNorm, 8, 6), noise(2, 3, 8)
    nn.init.zeros_(norm.affine.weight)
    nn.init.zeros_(norm.affine.bias)
    torch.testing.assert_close(norm(x, noise(2, 6)), F.layer_norm(x, (8,)))


def test_padding_changes_no_text():
    encoder = made(TextEncoder, 20, SIZES)
    symbols, lengths = torch.tensor([[3, 9, 4, 1]]), torch.tensor([4])
    long = torch.cat([symbols, torch.full((1, 5), 7)], dim=1)
    torch.testing.assert_close(encoder(long, lengths)[:, :4], encoder(symbols, lengths), **CLOSE)
    assert not encoder(long, lengths)[:, 4:].any()


def test_texts_beyond_512_symbols_are_read():
    """Published training has no room for more."""
    encoder = made(TextEncoder, 20, SIZES)
    symbols = torch.arange(1300)[None] % 20
    read = encoder(symbols, torch.tensor([1300]))
    assert read.shape == (1, 1300, 12) and read.isfinite().all() and (read[0, -1] != 0).any()


@pytest.mark.parametrize("frames", [1, 2, 9, 20])
def test_padding_changes_no_mel_and_the_true_length_comes_back(frames):
    decoder = made(Decoder, 10, SIZES)
    pairs, lengths = (frames + 1) // 2, torch.tensor([frames])
    text, style = noise(1, pairs, 12), noise(1, 6, seed=5)
    pitch, energy = noise(1, 2 * pairs, seed=2), noise(1, 2 * pairs, seed=3)
    mel = decoder(text, pitch, energy, style, lengths)
    assert mel.shape == (1, 2 * pairs, 10) and not mel[:, frames:].any() and mel[:, :frames].any(2).all()
    junk = pitch.clone()
    junk[:, frames:] = 1e3
    long = decoder(padded(text, 6), padded(junk, 12), padded(energy, 12), style, lengths)
    torch.testing.assert_close(long[:, :frames], mel[:, :frames], **CLOSE)
    assert not long[:, frames:].any()


def test_the_curves_keep_their_level():
    """Instance normalisation, as published, would take a shift of the whole curve away."""
    encoder, curve = made(CurveEncoder, 4), noise(1, 12)
    mask = torch.ones(1, 12, dtype=torch.bool)
    assert (encoder(curve + 1, mask) - encoder(curve, mask)).abs().min() > 0.05


def test_a_style_changes_the_mel_and_the_prosody():
    decoder, prosody = made(Decoder, 10, SIZES), made(ProsodyPredictor, SIZES)
    text, curves, lengths = noise(2, 5, 12)[:1].repeat(2, 1, 1), noise(1, 10).repeat(2, 1), torch.tensor([10, 10])
    style = noise(2, 6)
    mel = decoder(text, curves, curves, style, lengths)
    assert (mel[0] - mel[1]).abs().max() > 1e-3
    encoded = prosody.encode(text, style, torch.tensor([5, 5]))
    assert (encoded[0, :, :12] - encoded[1, :, :12]).abs().max() > 1e-3
    torch.testing.assert_close(encoded[:, :, 12:], style[:, None].expand(-1, 5, -1))


@pytest.mark.parametrize("frames", [1, 6, 9])
def test_padding_changes_no_prosody(frames):
    prosody, style = made(ProsodyPredictor, SIZES), noise(1, 6)
    text, lengths = noise(1, 5, 12), torch.tensor([5])
    encoded, longer = prosody.encode(text, style, lengths), prosody.encode(padded(text, 4), style, lengths)
    torch.testing.assert_close(longer[:, :5], encoded, **CLOSE)
    durations = prosody.durations(encoded, lengths)
    torch.testing.assert_close(prosody.durations(longer, lengths)[:, :5], durations, **CLOSE)
    on_frames, length = noise(1, (frames + 1) // 2, 18), torch.tensor([frames])
    for one, other in zip(
        prosody.curves(on_frames, style, length), prosody.curves(padded(on_frames, 7), style, length), strict=True
    ):
        torch.testing.assert_close(other[:, :frames], one[:, :frames], **CLOSE)
        assert not other[:, frames:].any()


def test_residual_blocks_end_at_unit_variance_of_their_parts():
    block, x = made(ResidualBlock, 6, 6, dropout=0.0), noise(1, 6, 30)
    y = x
    for norm, layer in zip(block.norms, block.convs, strict=True):
        y = conv(layer, F.leaky_relu(F.instance_norm(y), 0.2))
        assert norm.weight is not None
    torch.testing.assert_close(block(x, everywhere(x)), (x + y) / math.sqrt(2), **CLOSE)
