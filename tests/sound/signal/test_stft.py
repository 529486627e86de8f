"""The "same" transform is inverted exactly."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono_sound.signal import istft_same, stft_same
from unisono_sound.signal.stft import overlap_add


@settings(max_examples=25, deadline=None)
@given(
    n_fft=st.sampled_from([64, 100, 256]),
    parts=st.sampled_from([2, 3, 4, 5, 8]),
    num_frames=st.integers(9, 20),
    shorter=st.booleans(),
)
def test_round_trip(n_fft, parts, num_frames, shorter):
    hop = n_fft // parts
    window = torch.hann_window(n_fft - 2 * (n_fft // 10) * shorter, dtype=torch.float64)
    if shorter and parts < 4:
        window += 0.1  # a short Hann window with half overlap leaves samples that no frame hears
    wave = torch.randn(2, num_frames * hop, generator=torch.Generator().manual_seed(0)).double()
    spectrum = stft_same(wave, n_fft, hop, window)
    assert spectrum.shape == (2, num_frames, n_fft // 2 + 1)
    back = istft_same(spectrum, n_fft, hop, window)
    torch.testing.assert_close(back, wave, atol=1e-10, rtol=0)


def test_round_trip_in_float32_as_used():
    window = torch.hann_window(1024)
    wave = torch.randn(3, 40 * 256, generator=torch.Generator().manual_seed(1))
    back = istft_same(stft_same(wave, 1024, 256, window), 1024, 256, window)
    assert back.shape == wave.shape
    assert (back - wave).abs().max() < 5e-6  # about 10 units in the last place of values around 4


def test_stft_equals_librosa():
    wave = torch.randn(1, 20 * 64, generator=torch.Generator().manual_seed(2))
    theirs = librosa.stft(np.pad(wave[0].numpy(), 96, mode="reflect"), n_fft=256, hop_length=64, center=False)
    ours = stft_same(wave, 256, 64, torch.hann_window(256))[0].numpy()
    np.testing.assert_allclose(ours, theirs.T, atol=1e-4)


def test_one_frame():
    window = torch.hann_window(64)
    spectrum = stft_same(torch.ones(1, 16), 64, 16, window, pad_mode="constant")
    assert istft_same(spectrum, 64, 16, window).shape == (1, 16)


@settings(max_examples=20, deadline=None)
@given(num_frames=st.integers(1, 6), width=st.integers(1, 20), hop=st.integers(1, 20))
def test_overlap_add_by_brute_force(num_frames, width, hop):
    frames = torch.arange(2 * num_frames * width).reshape(2, num_frames, width).double()
    out = overlap_add(frames, hop)
    expected = torch.zeros_like(out)
    for i in range(num_frames):
        for j in range(width):
            expected[:, i * hop + j] += frames[:, i, j]
    assert torch.equal(out, expected)


def test_gradient():
    window = torch.hann_window(16, dtype=torch.float64)
    spectrum = torch.randn(1, 4, 9, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: istft_same(x, 16, 4, window), spectrum)


def test_hop_beyond_half_is_refused():
    with pytest.raises(ValueError, match="hop=33"):
        istft_same(torch.zeros(1, 2, 33, dtype=torch.complex64), 64, 33, torch.hann_window(64))
