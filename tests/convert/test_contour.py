"""The contour of pitch that a decoder may be told: its level is free, and it is heard."""

import numpy as np
import torch
from converters import buzz, drawn, make_converter
from unisono import Synthesizer
from unisono_convert.pureformer.contour import SPREAD, contour_of


def test_a_contour_keeps_how_pitch_moves_and_not_where_it_lies():
    hertz = torch.tensor([[0.0, 100.0, 0.0, 121.0, 0.0, 0.0], [90.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    mask = torch.arange(6) < torch.tensor([5, 2])[:, None]
    found = contour_of(hertz, mask)
    torch.testing.assert_close(found, contour_of(hertz * 1.7, mask))
    half = float(np.log(1.21)) / 2 / SPREAD
    torch.testing.assert_close(found[0, :, 0], torch.tensor([-half, -half, 0.0, half, half, 0.0]), atol=1e-5, rtol=1e-5)
    assert found[0, :, 1].tolist() == [0, 1, 0, 1, 0, 0]
    torch.testing.assert_close(found[0, :5], contour_of(hertz[:1, :5], mask[:1, :5])[0])
    assert not contour_of(torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)).any()


def test_a_decoder_that_is_told_hears_it_alone_and_in_a_batch():
    model = make_converter("convert/pureformer-tiny", "--model.told_pitch=true")
    mask = torch.arange(12) < torch.tensor([12, 7])[:, None]
    code, voice = drawn(2, 3, 8), torch.nn.functional.normalize(drawn(2, 8, seed=1), dim=-1)
    hertz = 100 * (0.1 * drawn(2, 12, seed=2)).exp()
    made = model.decode(code, mask, voice, hertz)
    alone = model.decode(code[1:, :2], mask[1:, :7], voice[1:], hertz[1:, :7])
    torch.testing.assert_close(made[1, :7], alone[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(made, model.decode(code, mask, voice, 2 * hertz), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(made, model.decode(code, mask, voice, hertz.flip(1)), atol=1e-3)


def test_a_model_that_is_told_converts():
    model = Synthesizer(make_converter("convert/pureformer-tiny", "--model.told_pitch=true"))
    made = model(samples=buzz(0.377), speaker="bob")
    assert made.waveform.shape == (1, len(buzz(0.377))) and np.abs(made.waveform).max() > 0
