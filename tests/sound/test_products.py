"""Transforms as products: against FFTs, for sizes of all kinds of factors."""

import pytest
import torch
from unisono_sound.signal import LogMel, MelInverse, MelSpec, istft_same, stft_same
from unisono_sound.signal.products import ProductInverse, ProductLogMel, ProductMelInverse, ProductTransform, columns

SIZES = [(64, 64, 16), (60, 48, 16), (62, 62, 20), (62, 50, 31), (13, 13, 4), (1024, 1024, 256)]
"""n_fft, width of the window, hop: powers of two, other factors, primes, and hops that do not divide."""


@pytest.mark.parametrize(("n_fft", "width", "hop"), SIZES)
def test_products_are_the_transforms(n_fft, width, hop):
    torch.manual_seed(n_fft)
    window, wave = torch.hann_window(width), torch.randn(2, hop * 23)
    order, sign, share = columns(n_fft)
    assert sorted(set(order.tolist())) == list(range(n_fft // 2 + 1))
    torch.testing.assert_close(
        torch.zeros(n_fft // 2 + 1).index_add(0, order, share), torch.ones(n_fft // 2 + 1), rtol=0, atol=1e-6
    )
    real, imaginary = ProductTransform(n_fft, hop, window)(wave)
    wanted = stft_same(wave, n_fft, hop, window, "constant")[..., order]
    limit = 1e-6 * float(wanted.abs().max())
    torch.testing.assert_close(real, wanted.real, rtol=0, atol=limit)
    torch.testing.assert_close(imaginary, wanted.imag * sign, rtol=0, atol=limit)
    spectrum = torch.randn(2, 23, n_fft // 2 + 1, dtype=torch.complex64)  # no wave's: the least-squares answer
    if n_fft % 2 == 0:
        made = ProductInverse(n_fft, hop, window)(spectrum.real[..., order], spectrum.imag[..., order] * sign)
        wanted = istft_same(spectrum, n_fft, hop, window)
        torch.testing.assert_close(made, wanted, rtol=0, atol=2e-6 * float(wanted.abs().max()))


def test_an_inverse_undoes_its_transform():
    window, wave = torch.hann_window(64), torch.randn(1, 16 * 9)
    made = ProductInverse(64, 16, window)(*ProductTransform(64, 16, window)(wave))
    torch.testing.assert_close(made, wave, rtol=0, atol=1e-6)


@pytest.mark.parametrize("win_length", [1024, 800])
def test_log_mels_and_their_inverse_are_the_same(win_length):
    torch.manual_seed(0)
    spec = MelSpec(win_length=win_length)
    wave = 0.1 * torch.randn(1, 256 * 30)
    mel = LogMel(spec)(wave, pad_mode="constant")
    torch.testing.assert_close(ProductLogMel(LogMel(spec))(wave), mel, rtol=0, atol=1e-4)
    order, _, _ = columns(spec.n_fft)
    magnitude, envelope = ProductMelInverse(MelInverse(spec, 8), spec.n_fft)(mel)
    torch.testing.assert_close(magnitude, MelInverse(spec, 8)(mel)[..., order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(envelope, MelInverse(spec, 0)(mel)[..., order], rtol=1e-4, atol=1e-6)
