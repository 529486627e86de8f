"""Reading what people have, and refusing what cannot be trusted."""

import struct

import numpy as np
import pytest
import soundfile
import torch
from unisono.errors import DataError
from unisono_sound.signal import MelSpec, pitch, probe_audio, read_audio, resample, write_audio


def sine(hz=440.0, seconds=0.5, rate=22050):
    return (0.5 * torch.sin(2 * torch.pi * hz * torch.arange(int(seconds * rate)) / rate)).float()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_formats_round_trip(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_audio(path, sine(), 22050)
    wave, rate = read_audio(path)
    assert rate == (48000 if suffix == "opus" else 22050) and wave.dtype == torch.float32 and wave.ndim == 1
    lossless = suffix in ("wav", "flac")
    # 16 bits; a lossy codec may shift and pad, so its spectrum is compared instead
    if lossless:
        torch.testing.assert_close(wave, sine(), atol=2 / 32768, rtol=0)
    hz = np.abs(np.fft.rfft(wave.numpy())).argmax() * rate / len(wave)
    assert abs(hz - 440) < 4


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
def test_any_rate_is_resampled(tmp_path, rate):
    path = tmp_path / "a.wav"
    write_audio(path, sine(rate=rate, seconds=1.0), rate)
    wave, new_rate = read_audio(path, sample_rate=22050)
    assert new_rate == 22050
    assert abs(len(wave) - 22050) <= 1
    middle = slice(2000, 20000)
    torch.testing.assert_close(wave[middle], sine(seconds=1.0)[middle], atol=2e-3, rtol=0)


def test_stereo_44100_is_mixed_down(tmp_path):
    path = tmp_path / "stereo.wav"
    left, right = sine(440, rate=44100), sine(880, rate=44100)
    write_audio(path, torch.stack([left, right]), 44100)
    assert probe_audio(path).num_channels == 2
    assert probe_audio(path).seconds == pytest.approx(0.5)
    wave, _ = read_audio(path)
    torch.testing.assert_close(wave, (left + right) / 2, atol=2 / 32768, rtol=0)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_sample_formats(tmp_path, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, sine().numpy(), 22050, subtype=subtype)
    wave, _ = read_audio(path)
    torch.testing.assert_close(wave, sine(), atol=1 / 100, rtol=0)


def test_truncated_wav(tmp_path):
    path = tmp_path / "cut.wav"
    write_audio(path, sine(), 22050)
    path.write_bytes(path.read_bytes()[:9000])
    for read in (read_audio, probe_audio):
        with pytest.raises(DataError, match=r"cut\.wav: truncated.*promises 22050 bytes.*copy it"):
            read(path)


def test_truncated_flac(tmp_path):
    path = tmp_path / "cut.flac"
    write_audio(path, torch.randn(20000, generator=torch.Generator().manual_seed(0)) / 5, 22050)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"cut\.flac"):
        read_audio(path)


def test_truncated_in_the_header(tmp_path):
    path = tmp_path / "head.wav"
    write_audio(path, sine(), 22050)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match=r"head\.wav: cannot be read as audio"):
        read_audio(path)


def test_a_piped_wav_of_unknown_length_is_fine(tmp_path):
    path = tmp_path / "pipe.wav"
    write_audio(path, sine(), 22050)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert len(read_audio(path)[0]) == len(sine())


@pytest.mark.parametrize("content", ["header", "nothing"])
def test_zero_length(tmp_path, content):
    path = tmp_path / "zero.wav"
    if content == "header":
        soundfile.write(path, np.zeros(0), 22050)
    else:
        path.touch()
    for read in (read_audio, probe_audio):
        with pytest.raises(DataError, match=r"zero\.wav: (holds no samples|is empty)"):
            read(path)


def test_not_audio_and_missing_and_folder(tmp_path):
    (tmp_path / "text.wav").write_text("not sound at all, but long enough to look at")
    with pytest.raises(DataError, match=r"text\.wav: cannot be read as audio.*convert"):
        read_audio(tmp_path / "text.wav")
    with pytest.raises(DataError, match=r"none\.wav: no such audio file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(DataError, match="no such audio file"):
        read_audio(tmp_path)


def test_non_finite_samples(tmp_path):
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.0, np.nan, 0.1]), 22050, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN"):
        read_audio(path)
    with pytest.raises(DataError, match="nothing was written"):
        write_audio(tmp_path / "out.wav", torch.tensor([0.0, float("nan")]), 22050)
    assert not (tmp_path / "out.wav").exists()


def test_writing_elsewhere(tmp_path):
    with pytest.raises(DataError, match=r"'\.xyz'; use one of"):
        write_audio(tmp_path / "a.xyz", sine(), 22050)
    with pytest.raises(DataError, match="cannot be written"):
        write_audio(tmp_path / "no" / "a.wav", sine(), 22050)


def test_writing_clips_beyond_one(tmp_path):
    write_audio(tmp_path / "a.wav", torch.tensor([2.0, -2.0, 0.5]), 22050)
    wave, _ = read_audio(tmp_path / "a.wav")
    torch.testing.assert_close(wave, torch.tensor([1.0, -1.0, 0.5]), atol=1e-4, rtol=0)


def test_same_rate_is_untouched():
    wave = sine()
    assert resample(wave, 22050, 22050) is wave


def glide(start, stop, seconds, rate, harmonics=10):
    progress = torch.linspace(0, 1, int(seconds * rate), dtype=torch.float64)
    hz = start * (stop / start) ** progress
    phase = 2 * torch.pi * hz.cumsum(0) / rate
    wave = sum(torch.sin(k * phase) / k for k in range(1, harmonics + 1))
    return (0.3 * wave / wave.abs().max()).float(), hz


@pytest.mark.parametrize(("start", "stop"), [(90, 180), (300, 120), (220, 220), (150, 450)])
@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_pitch_of_a_glide(start, stop, rate):
    pytest.importorskip("swift_f0")
    spec = MelSpec(sample_rate=rate, n_fft=1024, hop_length=256, f_max=8000.0)
    wave, hz = glide(start, stop, 1.5, rate)
    measured = pitch(wave, spec)
    assert measured.shape == (spec.frames(len(wave)),)
    true = hz[(torch.arange(len(measured)) + 0.5).mul(256).long()]
    inner = slice(8, -8)  # at the very ends the detector sees half a window of nothing
    assert (measured[inner] > 0).all()
    # 1 % is a sixth of a semitone; an offset of one frame would show in the steep glides
    assert ((measured[inner] / true[inner] - 1).abs() < 0.01).all()


def test_pitch_of_silence_and_of_sound_between_silences():
    pytest.importorskip("swift_f0")
    spec = MelSpec()
    assert pitch(torch.zeros(22050), spec).eq(0).all()
    wave, _ = glide(200, 200, 0.5, 22050)
    quiet = torch.zeros(11025)
    measured = pitch(torch.cat([quiet, wave, quiet]), spec)
    voiced = measured > 0
    assert voiced[48:80].all() and not voiced[:38].any() and not voiced[-38:].any()


def test_pitch_without_the_extra(monkeypatch):
    import sys

    from unisono.errors import MissingExtra
    from unisono_sound.signal import pitch as _  # noqa: F401

    detector = sys.modules["unisono_sound.signal.pitch"]._detector
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    with pytest.raises(MissingExtra, match=r'pip install "unisono\[tts\]"'):
        detector.__wrapped__()
