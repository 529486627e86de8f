"""The least-squares inverse of a mel: it must give the same mel again, and nothing negative."""

import pytest
import torch
from unisono_sound.signal import LogMel, MelInverse, MelSpec

SPECS = [
    MelSpec(),
    MelSpec(n_fft=256, win_length=256, hop_length=64, n_mels=20),
    MelSpec(sample_rate=24000, n_mels=100, f_max=12000.0),
    MelSpec(f_min=50.0, f_max=7600.0),
]


def make_mel(spec: MelSpec) -> torch.Tensor:
    """The mel of a gliding buzz with noise [1, t, m]: harmonics, a silence, and a broad floor."""
    generator = torch.Generator().manual_seed(0)
    seconds = torch.arange(spec.sample_rate // 2) / spec.sample_rate
    phase = 2 * torch.pi * (120 * seconds + 60 * seconds.square())
    wave = 0.1 * sum(torch.sin(k * phase) / k for k in range(1, 20))
    wave = wave + 0.003 * torch.randn(len(wave), generator=generator)
    wave[len(wave) // 2 : len(wave) // 2 + 4 * spec.n_fft] = 0
    return LogMel(spec)(wave[None])


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.sample_rate}-{s.n_fft}-{s.n_mels}")
def test_the_inverse_has_the_mel_that_it_was_made_from(spec):
    mel = make_mel(spec)
    magnitude = MelInverse(spec)(mel)
    assert magnitude.shape == (1, mel.shape[1], spec.n_fft // 2 + 1)
    assert magnitude.isfinite().all()
    assert (magnitude >= 0).all()
    error = (LogMel(spec).from_magnitude(magnitude) - mel).abs()
    # Sixteen updates, not the limit: 0.05 is 0.4 dB on average; 1 dB at the 95th percentile.
    assert error.mean() < 0.05
    assert error.flatten().kthvalue(int(0.95 * error.numel())).values < 0.12


def test_more_updates_come_nearer():
    spec = MelSpec()
    mel = make_mel(spec)
    target = mel.exp()
    filters = MelInverse(spec).filters
    distances = [(MelInverse(spec, n)(mel) @ filters - target).norm() for n in (0, 1, 4, 16, 64)]
    assert distances == sorted(distances, reverse=True)  # Lee and Seung: never farther
    assert distances[-1] < 0.2 * distances[0]


def test_a_scaled_mel_gives_scaled_magnitudes():
    spec = MelSpec()
    mel = make_mel(spec)
    inverse = MelInverse(spec)
    # The problem is homogeneous, and so is every update; single precision.
    torch.testing.assert_close(inverse(mel + 1.5), inverse(mel) * torch.tensor(1.5).exp(), rtol=1e-3, atol=1e-6)


def test_frames_do_not_mix_and_batches_may_have_any_shape():
    spec = MelSpec()
    mel = make_mel(spec)[0, :6]
    inverse = MelInverse(spec)
    torch.testing.assert_close(inverse(mel[2:3]), inverse(mel)[2:3], rtol=1e-4, atol=1e-7)
    assert inverse(mel.reshape(2, 3, -1)).shape == (2, 3, spec.n_fft // 2 + 1)


def test_beyond_the_filters_the_level_goes_on():
    spec = MelSpec(f_min=200.0, f_max=7000.0)
    magnitude = MelInverse(spec)(torch.zeros(1, 1, spec.n_mels))[0, 0]
    hz = torch.linspace(0, spec.sample_rate / 2, len(magnitude))
    inside = magnitude[(hz > 250) & (hz < 6800)]
    for outside in (magnitude[hz < 150], magnitude[hz > 7200]):
        assert (outside > 0).all()
        assert outside.max() < 20 * inside.median()


def test_autocast_changes_nothing():
    spec = MelSpec()
    mel = make_mel(spec)
    inverse = MelInverse(spec)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(inverse(mel), inverse(mel.clone()), rtol=0, atol=0)
        assert inverse(mel).dtype == torch.float32
