"""LogMel against librosa, framing, and what a MelSpec refuses."""

import librosa
import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_sound.signal import LogMel, MelSpec, energy
from unisono_sound.signal.mel import mel_filters

SPECS = [
    MelSpec(),
    MelSpec(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, f_max=8000.0),
    MelSpec(sample_rate=44100, n_fft=2048, win_length=2048, hop_length=512, n_mels=128, f_min=40.0),
]


@pytest.mark.parametrize("spec", SPECS)
def test_filters_equal_librosa(spec):
    theirs = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.f_min, fmax=spec.f_max
    )
    # librosa rounds to float32 where we keep float64 until the end
    np.testing.assert_allclose(mel_filters(spec).numpy().T, theirs, atol=2e-7)


@pytest.mark.parametrize("spec", SPECS)
def test_log_mel_equals_librosa(spec):
    wave = torch.randn(1, spec.hop_length * 20 + 37, generator=torch.Generator().manual_seed(1))
    left, right = (spec.n_fft - spec.hop_length) // 2, -(-(spec.n_fft - spec.hop_length) // 2)
    padded = np.pad(wave[0].numpy(), (left, right), mode="reflect")
    magnitude = librosa.stft(
        padded,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        win_length=spec.win_length,
        center=False,
    )
    filters = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.f_min, fmax=spec.f_max
    )
    theirs = np.log(np.maximum(filters @ np.abs(magnitude), 1e-5)).T
    ours = LogMel(spec)(wave)[0].numpy()
    assert ours.shape == (20, spec.n_mels) == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-4)  # float32 sums in another order


@pytest.mark.parametrize("extra", [0, 1, 255])
def test_frames_are_samples_over_hop(extra):
    spec = MelSpec()
    wave = torch.zeros(2, 10 * 256 + extra)
    mel = LogMel(spec)(wave)
    assert mel.shape == (2, spec.frames(wave.shape[1]), 80) == (2, 10, 80)
    assert torch.equal(mel, torch.full_like(mel, np.log(1e-5)))


def test_an_impulse_shows_in_the_frame_it_is_centred_in():
    wave = torch.zeros(1, 20 * 256)
    wave[0, 7 * 256 + 128] = 1.0
    assert LogMel(MelSpec())(wave)[0].sum(-1).argmax() == 7


@pytest.mark.parametrize("spec", SPECS)
def test_a_crop_with_context_equals_the_whole(spec):
    log_mel, hop = LogMel(spec), spec.hop_length
    wave = torch.randn(1, 30 * hop, generator=torch.Generator().manual_seed(2))
    left, right = log_mel.context
    cropped = wave[:, 5 * hop - left : 15 * hop + right]
    torch.testing.assert_close(log_mel(cropped, pad_mode="none"), log_mel(wave)[:, 5:15])


def test_log_mel_has_no_state_and_ignores_autocast():
    log_mel = LogMel(MelSpec())
    wave = torch.randn(1, 2560, generator=torch.Generator().manual_seed(3))
    assert not log_mel.state_dict()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_mel(wave), log_mel(wave.float()))
        mel = log_mel(wave)
    assert mel.dtype == torch.float32
    assert torch.equal(mel, log_mel(wave))


def test_gradient_is_finite_in_silence():
    wave = torch.zeros(1, 2560, requires_grad=True)
    LogMel(MelSpec())(wave).sum().backward()
    assert wave.grad.isfinite().all()


def test_too_short_to_reflect_says_so():
    with pytest.raises(ValueError, match=r"300 samples is too short.*at least 385"):
        LogMel(MelSpec())(torch.zeros(1, 300))


def test_energy_is_the_norm_of_the_magnitudes():
    spec = MelSpec()
    wave = torch.randn(2560, generator=torch.Generator().manual_seed(4))
    magnitude = LogMel(spec).magnitude(wave[None])[0]
    torch.testing.assert_close(energy(wave, spec), magnitude.square().sum(-1).sqrt())


def test_spec_round_trip():
    assert MelSpec.from_dict(SPECS[1].to_dict()) == SPECS[1]


@pytest.mark.parametrize(
    ("fields", "code", "path", "named"),
    [
        ({"n_mel": 80}, "unknown", "n_mel", "did you mean 'n_mels'"),
        ({"f_max": 12000.0}, "range", "f_max", "11025"),
        ({"hop_length": 1000}, "range", "hop_length", "512"),
        ({"win_length": 2048}, "range", "win_length", "n_fft=1024"),
        ({"n_mels": 0}, "range", "n_mels", "1"),
    ],
)
def test_spec_refuses(fields, code, path, named):
    with refused(DataError, code, path, names=named):
        MelSpec.from_dict(fields)


def test_too_many_filters_are_refused():
    with refused(DataError, "range", "n_mels", value=400):
        LogMel(MelSpec(n_mels=400))


@pytest.mark.parametrize(
    "spec",
    [
        MelSpec(),
        MelSpec(24000, 1024, 1024, 256, 100, 0.0, 12000.0),
        MelSpec(48000, 2048, 2048, 512, 128, 20.0, 20000.0),
    ],
)
def test_filters_are_torchaudios(spec):
    """Ours are computed in float64: equal up to float32's rounding of frequencies."""
    functional = pytest.importorskip("torchaudio.functional")
    theirs = functional.melscale_fbanks(
        spec.n_fft // 2 + 1, spec.f_min, spec.f_max, spec.n_mels, spec.sample_rate, "slaney", "slaney"
    )
    ours = mel_filters(spec)
    assert (ours - theirs).abs().max() < 1e-5 * ours.max()
