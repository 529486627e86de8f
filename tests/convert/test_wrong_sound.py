"""Sound that is wrong or odd, as a source and as a prompt: cut files of every container, NaN, offsets, rates."""

import numpy as np
import pytest
import soundfile
import torch
from converters import buzz, make_converter
from refused import refused
from unisono import Synthesizer
from unisono.errors import RequestError
from unisono_sound.signal import write_audio

RATE = 8000
CONTAINERS = [".wav", ".rf64", ".w64", ".aiff", ".au", ".caf", ".flac", ".ogg", ".opus", ".mp3"]


@pytest.fixture(scope="module")
def convert() -> Synthesizer:
    return Synthesizer(make_converter())


def both(path) -> list[dict]:
    """Requests in which a file is the source, and the prompt."""
    return [{"audio": str(path), "speaker": "ann"}, {"samples": buzz(), "prompt": str(path)}]


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_cut_or_empty_file_is_refused_by_its_field(convert, tmp_path, suffix):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    if suffix == ".opus":
        write_audio(whole, torch.from_numpy(noise).float(), RATE)
    else:
        soundfile.write(whole, noise, RATE, format=suffix[1:].upper())
    data = whole.read_bytes()
    for content, code in ((data[: len(data) * 2 // 3], "damaged"), (b"", "empty")):
        cut.write_bytes(content)
        for fields in both(cut):
            with refused(RequestError, code, "prompt" if "prompt" in fields else "audio"):
                convert(**fields)


def test_a_file_with_nan_is_refused_by_its_field(convert, tmp_path):
    wave = buzz(1.0).numpy()
    wave[3000] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, RATE, subtype="FLOAT")
    for fields in both(tmp_path / "nan.wav"):
        with refused(RequestError, "damaged", "prompt" if "prompt" in fields else "audio"):
            convert(**fields)


def test_eight_channels_at_192_khz_are_one_voice_of_their_length(convert, tmp_path):
    wave = buzz(0.4, rate=192_000)
    soundfile.write(tmp_path / "wide.wav", wave[:, None].repeat(1, 8).numpy(), 192_000, subtype="FLOAT")
    made = convert(str(tmp_path / "wide.wav"), prompt=str(tmp_path / "wide.wav"))
    assert made.sample_rate == 192_000 and made.waveform.shape == (1, len(wave))
    alone = convert(samples=wave, sample_rate=192_000, prompt_samples=wave, prompt_rate=192_000)
    np.testing.assert_allclose(made.waveform, alone.waveform, atol=1e-4 * np.abs(alone.waveform).max())


@pytest.mark.parametrize("change", [lambda wave: (30 * wave).clamp(-1, 1), lambda wave: wave + 0.3])
def test_clipped_sound_and_an_offset_are_heard(convert, change):
    wave = change(buzz(1.0))
    made = convert(samples=wave, speaker="bob").waveform[0]
    assert made.shape == wave.shape and np.isfinite(made).all() and np.abs(made).max() > 1e-3
    assert np.abs(made).max() < 10
    assert np.isfinite(convert(samples=buzz(), prompt_samples=wave).waveform).all()


def test_an_offset_is_no_prompt(convert):
    with refused(RequestError, "empty", "prompt_samples"):
        convert(samples=buzz(), prompt_samples=[0.3] * RATE)


def test_another_language_is_sound_as_any_other(convert):
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
    from unisono_sound.text.espeak import espeak

    spoken = espeak().speak("Eins, zwei, drei.", "de")
    made = convert(samples=spoken.waveform, sample_rate=spoken.sample_rate, speaker="ann")
    assert made.sample_rate == spoken.sample_rate and made.waveform.shape == (1, len(spoken.waveform))
    assert np.isfinite(made.waveform).all() and made.waveform.any()
    with refused(RequestError, "unknown", "language"):
        convert(samples=spoken.waveform, speaker="ann", language="de")
