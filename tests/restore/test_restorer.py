"""What every restorer does with a request: rates, channels, lengths, strength, silence, files, refusals."""

from typing import ClassVar

import numpy as np
import pytest
import soundfile
import soxr
import torch
from refused import refused
from unisono.errors import CheckpointError, RequestError
from unisono.synthesis import Synthesizer
from unisono_restore.overlap import CrossFade, OverlapSave
from unisono_restore.restorer import Restorer
from unisono_restore.sounds import BLOCK_VALUES, sound_of_file
from unisono_sound.signal import write_audio

RATE = 16000


class Twice(Restorer):
    """Makes everything twice as loud, in pieces of a second."""

    divided: ClassVar = OverlapSave(RATE, 100)

    def pieces(self, streamed):
        return OverlapSave(1000, 100) if streamed else self.divided

    def restore(self, wave, known):
        self.seen = [*getattr(self, "seen", []), tuple(wave.shape)]
        return 2 * wave


@pytest.fixture
def model() -> Twice:
    made = Twice()
    made.build({"sample_rate": RATE})
    return made


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 192000])
@pytest.mark.parametrize("length", [100, 4801, 40000])
def test_any_rate_comes_out_at_the_models_and_as_long(model, rate, length):
    wave = noise(length)
    (made,) = model.synthesize([model.Request(samples=wave, sample_rate=rate)])
    assert made.sample_rate == RATE and made.waveform.dtype == np.float32
    assert made.waveform.shape == (1, round(length * RATE / rate))
    if rate == RATE:
        np.testing.assert_array_equal(made.waveform[0], 2 * wave)
    else:
        whole = soxr.resample(wave, rate, RATE, quality="HQ")
        same = min(len(whole), made.waveform.shape[1])
        np.testing.assert_allclose(made.waveform[0, :same], 2 * whole[:same], atol=2e-3)  # of 16-bit tables


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("rate", [8000, 22050])
def test_a_few_samples_at_another_rate_are_a_few(model, length, rate):
    (made,) = model.synthesize([model.Request(samples=[[0.1] * length] * 2, sample_rate=rate)])
    assert made.waveform.shape == (2, round(length * RATE / rate + 1e-9))


def test_channels_stay_apart_and_in_order(model):
    wave = noise(8, 20000)
    (made,) = model.synthesize([model.Request(samples=wave)])
    np.testing.assert_array_equal(made.waveform, 2 * wave)


def test_a_file_is_read_block_by_block_and_streamed(model, tmp_path):
    wave = noise(2, BLOCK_VALUES // 2 + 5000)
    soundfile.write(tmp_path / "long.wav", wave.T, RATE, subtype="FLOAT")
    path = str(tmp_path / "long.wav")
    assert len(list(sound_of_file(path).blocks())) == 2
    (made,) = model.synthesize([model.Request(audio=path)])
    np.testing.assert_array_equal(made.waveform, 2 * wave)
    assert max(shape[1] for shape in model.seen) < RATE + 2 * 100 + BLOCK_VALUES
    pieces = list(Synthesizer(model).stream(audio=path))
    np.testing.assert_array_equal(np.concatenate([piece.waveform for piece in pieces], axis=1), 2 * wave)
    assert {piece.waveform.shape[1] for piece in pieces[:-1]} == {1000}
    assert pieces[2].offset == 2000 / RATE and model.latency_seconds == 1100 / RATE


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_strength_is_a_share(model, strength):
    wave = noise(3000)
    (made,) = model.synthesize([model.Request(samples=wave, strength=strength)])
    np.testing.assert_allclose(made.waveform[0], (1 + strength) * wave, atol=1e-7)


def test_silence_stays_silent_whatever_the_network_says(model, monkeypatch):
    monkeypatch.setattr(model, "restore", lambda wave, known: wave + 1)
    (made,) = model.synthesize([model.Request(samples=[0.0] * 5000)])
    assert made.waveform.shape == (1, 5000) and not made.waveform.any()


def test_what_is_known_of_the_whole_is_known_to_every_piece(model, monkeypatch):
    wave = noise(3 * RATE)
    monkeypatch.setattr(model, "survey", lambda request, sound: max(abs(b).max() for b in sound.blocks()))
    monkeypatch.setattr(model, "restore", lambda wave, known: wave / float(known))
    (made,) = model.synthesize([model.Request(samples=wave)])
    np.testing.assert_allclose(made.waveform[0], wave / abs(wave).max(), atol=1e-6)


def test_windows_serve_as_pieces(model, monkeypatch):
    monkeypatch.setattr(model, "pieces", lambda streamed: CrossFade(5000, 500))
    wave = noise(12345)
    (made,) = model.synthesize([model.Request(samples=wave)])
    np.testing.assert_allclose(made.waveform[0], 2 * wave, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({}, "conflict", "audio"),
        ({"audio": "a.wav", "samples": [0.1]}, "conflict", "audio"),
        ({"audio": "a.wav", "sample_rate": 8000}, "conflict", "sample_rate"),
        ({"samples": [0.1], "sample_rate": 999}, "range", "sample_rate"),
        ({"samples": [0.1], "strength": 1.1}, "range", "strength"),
        ({"samples": [float("nan")]}, "range", "samples"),
        ({"sampels": [0.1]}, "unknown", "sampels"),
        ({"samples": "loud"}, "type", "samples"),
    ],
)
def test_a_wrong_request_is_one_sentence(fields, code, path):
    with refused(RequestError, code) as caught:
        Twice.Request.parse(**fields)
    assert path in caught.value.path


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"samples": []}, "empty", "samples"),
        ({"samples": [[], []]}, "empty", "samples"),
        ({"samples": [[0.1, 0.2], [0.1]]}, "shape", "samples"),
        ({"samples": [0.1] * 5, "sample_rate": 768000}, "range", "samples"),
        ({"audio": "nowhere.wav"}, "missing", "audio"),
    ],
)
def test_a_sound_that_cannot_be_restored_is_refused(model, fields, code, path):
    with refused(RequestError, code, path):
        model.synthesize([model.Request(**fields)])


@pytest.mark.parametrize("suffix", [".wav", ".rf64", ".w64", ".aiff", ".au", ".caf", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_cut_file_is_refused(model, tmp_path, suffix):
    if suffix == ".opus":
        write_audio(tmp_path / f"whole{suffix}", torch.from_numpy(noise(RATE)), RATE)
    else:
        soundfile.write(tmp_path / f"whole{suffix}", noise(RATE), RATE, format=suffix[1:].upper())
    model.synthesize([model.Request(audio=str(tmp_path / f"whole{suffix}"))])
    data = (tmp_path / f"whole{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) * 2 // 3])
    with refused(RequestError, "damaged", "audio") as caught:
        model.synthesize([model.Request(audio=str(tmp_path / f"cut{suffix}"))])
    assert caught.value.fault is not None and caught.value.fault.reason in ("truncated", "unreadable")  # flac says less
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    with refused(RequestError, "empty", "audio"):
        model.synthesize([model.Request(audio=str(tmp_path / f"empty{suffix}"))])


def test_a_file_with_nan_is_refused(model, tmp_path):
    wave = noise(3000)
    wave[1500] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, RATE, subtype="FLOAT")
    with refused(RequestError, "damaged", "audio"):
        model.synthesize([model.Request(audio=str(tmp_path / "nan.wav"))])


def test_a_start_from_another_rate_is_refused(model):
    model.check_source({"sample_rate": RATE})
    with refused(CheckpointError, "conflict", "run.init_from", value=8000):
        model.check_source({"sample_rate": 8000})
