"""Networks of conversion, against formulas: pooling, normalisation, styles, shared attention."""

import pytest
import torch
from converters import drawn
from refused import refused
from unisono.errors import RecipeError


def test_cells_are_the_means_of_the_frames_they_hold_and_each_frame_gets_its_own_back():
    from unisono_convert.networks.pooling import pooled, unpooled

    x = drawn(2, 11, 3)
    mask = torch.arange(11) < torch.tensor([11, 6])[:, None]
    cells, kept = pooled(x.masked_fill(~mask[..., None], torch.nan).nan_to_num(1e6), mask, 4)
    assert cells.shape == (2, 3, 3) and kept.tolist() == [[True] * 3, [True, True, False]]
    for row, length in enumerate((11, 6)):
        for cell in range(-(-length // 4)):
            torch.testing.assert_close(cells[row, cell], x[row, 4 * cell : min(4 * cell + 4, length)].mean(0))
    frames = unpooled(cells, 4, 11)
    assert frames.shape == x.shape
    assert all(torch.equal(frames[:, i], cells[:, i // 4]) for i in range(11))
    coarse, _ = pooled(frames, torch.ones(2, 11, dtype=torch.bool), 4)
    torch.testing.assert_close(coarse, cells)  # a round trip, the last, shorter cell among them


def test_a_recording_alone_and_in_a_batch_have_one_code_and_one_voice():
    from unisono_convert.networks.conformer import ConformerSizes
    from unisono_convert.pureformer.encoders import ContentEncoder, SpeakerEncoder, inside

    torch.manual_seed(0)
    sizes = ConformerSizes(dim=16, num_layers=2, num_heads=2, filter_dim=32, kernel_size=5, dropout=0.0)
    content, speaker = ContentEncoder(6, sizes, (2, 2), 4), SpeakerEncoder(6, sizes, 8)
    mel, lengths = drawn(3, 37, 6), torch.tensor([37, 18, 5])
    code, voice = content(mel, inside(lengths, 37)), speaker(mel, inside(lengths, 37))
    for row, length in enumerate(lengths.tolist()):
        own = mel[row : row + 1, :length]
        every = inside(torch.tensor([length]), length)
        alone = content(own, every)
        cells = -(-length // 4)
        assert alone.mean.shape[1] == cells and int(code.mask[row].sum()) == cells
        torch.testing.assert_close(code.mean[row, :cells], alone.mean[0], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(code.log_variance[row, :cells], alone.log_variance[0], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(voice[row], speaker(own, every)[0], atol=2e-5, rtol=1e-4)


def test_what_scales_and_shifts_channels_does_not_pass_the_normalisation_of_content():
    from unisono_convert.networks.conformer import ConformerSizes, ContentBlock

    torch.manual_seed(0)
    block = ContentBlock(ConformerSizes(dim=8, num_heads=2, filter_dim=16, kernel_size=3, dropout=0.0), 1)
    block.mixed = lambda x, mask: x  # what stands before the normalisation, left out
    x, mask = drawn(2, 20, 8), torch.ones(2, 20, dtype=torch.bool)
    scale, shift = torch.rand(8) + 0.5, drawn(8, seed=1)
    torch.testing.assert_close(block(x, mask)[0], block(x * scale + shift, mask)[0], atol=1e-4, rtol=1e-4)


def test_a_style_scales_the_weights_and_rows_keep_length_one():
    from unisono_convert.networks.styled import StyledLinear

    torch.manual_seed(0)
    layer, x, style = StyledLinear(5, 7, 3), drawn(2, 4, 5), drawn(2, 3, seed=1)
    found = layer(x, style)
    for row in range(2):
        scaled = layer.weight * layer.scale(style[row])[None]
        rows = scaled / scaled.norm(dim=1, keepdim=True)
        torch.testing.assert_close(found[row], x[row] @ rows.T + layer.bias)
    loud = layer(x, style * 0)
    layer.scale.bias.data *= 9  # a style that scales all channels alike changes nothing
    torch.testing.assert_close(layer(x, style * 0), loud)


def test_weights_of_attention_are_made_once_and_ignore_padding():
    from unisono_convert.networks.styled import AttentionWeights
    from unisono_convert.pureformer.decoder import DecoderSizes, StyleBlock

    torch.manual_seed(0)
    sizes = DecoderSizes(dim=16, num_heads=2, head_dim=8, filter_dim=32, kernel_size=5, dropout=0.0)
    block, calls = StyleBlock(sizes, 4), []
    block.weights.register_forward_hook(lambda module, given, made: calls.append(made))
    x, style = drawn(2, 9, 16), drawn(2, 4, seed=1)
    mask = torch.arange(9) < torch.tensor([9, 5])[:, None]
    found = block(x * mask[..., None], mask, style)
    assert len(calls) == 1 and isinstance(block.weights, AttentionWeights)
    torch.testing.assert_close(calls[0].sum(-1), torch.ones(2, 2, 9))
    assert not calls[0][1, :, :, 5:].any()
    alone = block(x[1:, :5], mask[1:, :5], style[1:])
    torch.testing.assert_close(found[1, :5], alone[0], atol=2e-5, rtol=1e-4)
    assert not found[1, 5:].any()


def test_the_decoder_hears_the_style():
    from unisono_convert.pureformer.decoder import Decoder, DecoderSizes

    torch.manual_seed(0)
    sizes = DecoderSizes(dim=16, num_layers=2, num_heads=2, head_dim=8, filter_dim=32, kernel_size=5, dropout=0.0)
    decoder, code = Decoder(6, sizes, 4, 3), drawn(1, 5, 4)
    mask = torch.ones(1, 18, dtype=torch.bool)
    one, other = (decoder(code, 4, mask, drawn(1, 3, seed=seed)) for seed in (1, 2))
    assert one.shape == (1, 18, 6) and (one - other).abs().mean() > 0.05 * one.abs().mean()


def test_sizes_that_cannot_be_are_refused():
    from unisono_convert.networks.conformer import ConformerSizes
    from unisono_convert.pureformer.sizes import ContentSizes, Objective

    with refused(RecipeError, "value", "dim", value=18):
        ConformerSizes(dim=18, num_heads=4)
    with refused(RecipeError, "value", "kernel_size", value=4):
        ConformerSizes(kernel_size=4)
    with refused(RecipeError, "value", "model.content.factors", value=[2, 2]):
        ContentSizes(factors=(2, 2))
    with refused(RecipeError, "range", "model.objective.margin", value=2.0):
        Objective(margin=2.0)


@pytest.mark.parametrize("free", [0.0, 0.3])
def test_divergence_is_that_of_torch_and_what_is_free_has_no_gradient(free):
    from unisono_convert.pureformer.encoders import Code
    from unisono_convert.pureformer.losses import free_divergence

    mean, log_variance = drawn(2, 3, 4).requires_grad_(), drawn(2, 3, 4, seed=1)
    code = Code(mean, log_variance, torch.ones(2, 3, dtype=torch.bool))
    normal = torch.distributions.Normal
    own = torch.distributions.kl_divergence(normal(mean, (0.5 * log_variance).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(code.divergence(), own)
    free_divergence(code.divergence(), free).sum().backward()
    assert torch.equal(mean.grad != 0, own > free)


def test_losses_of_voices_are_their_formulas():
    from torch.nn import functional as F
    from unisono_convert.pureformer.losses import angular_margin, triplet

    voices = F.normalize(drawn(3, 4, 5), dim=-1)
    distance = [(voices[0] - other).square().sum(-1) / 2 for other in voices[1:]]
    wanted = (distance[0] - distance[1] + 0.3).clamp(min=0)  # of unit vectors, half the squared distance is 1 − cos
    torch.testing.assert_close(triplet(voices[0], voices[1], voices[2], 0.3), wanted)
    cosines, speaker = F.normalize(drawn(4, 6), dim=-1), torch.tensor([0, 2, 5, 5])
    plain = F.cross_entropy(15 * cosines, speaker, reduction="none")
    torch.testing.assert_close(angular_margin(cosines, speaker, 0.0, 15.0), plain, atol=1e-4, rtol=1e-4)
    assert (angular_margin(cosines, speaker, 0.2, 15.0) > plain).all()
