"""Sound that is wrong or odd, to each restorer: silence, clipping, offsets, 10 ms, channels, rates, NaN, languages."""

from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from unisono.assemble import attach_components
from unisono.errors import RequestError
from unisono.export import load
from unisono.recipe import Recipe
from unisono.synthesis import Synthesizer

RATE = 8000
NAMES = ("ap-bwe", "mp-senet", "miipher")
SHIPPED = Path(__file__).parents[2] / "checkpoints" / "restore-16k"


@pytest.fixture(scope="module", params=NAMES)
def restore(request) -> Synthesizer:
    recipe = Recipe.read(f"restore/{request.param}-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    torch.manual_seed(0)
    model = recipe.build_model(data.describe()).eval()
    attach_components(model, recipe.components)
    assert model.sample_rate == RATE
    return Synthesizer(model)


def noise(*shape: int) -> np.ndarray:
    return (0.05 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def ask(restore: Synthesizer, samples: np.ndarray, rate: int = RATE) -> np.ndarray:
    made = restore(samples=samples, sample_rate=rate)
    assert made.sample_rate == RATE and np.isfinite(made.waveform).all()
    return made.waveform


@pytest.mark.parametrize("length", [1, 80, 801])
def test_silence_and_10_ms_keep_their_length(restore, length):
    silent = ask(restore, np.zeros(length, np.float32))
    assert silent.shape == (1, length) and not silent.any()
    assert ask(restore, noise(length)).shape == (1, length)


def test_eight_channels_at_192_khz_keep_their_order(restore):
    waves = np.stack([np.sin(np.arange(19_200) / 192_000 * 2 * np.pi * 300 * (k + 1)) * 0.1 for k in range(8)])
    waves[5] = 0
    made = ask(restore, waves.astype(np.float32), 192_000)
    assert made.shape == (8, 800)
    assert [k for k in range(8) if not made[k].any()] == [5]
    for k in (0, 7):
        alone = ask(restore, waves[k].astype(np.float32), 192_000)[0]
        np.testing.assert_allclose(made[k], alone, atol=2e-3 * np.abs(alone).max())


def test_clipped_sound_and_an_offset_stay_finite_and_as_loud(restore):
    for wave in (np.clip(50 * noise(4000), -1, 1), noise(4000) + 0.3, np.full(4000, 0.3, np.float32)):
        made = ask(restore, wave)
        assert made.shape == (1, 4000) and np.square(made).mean() < 100 * np.square(wave).mean()


def test_nan_and_infinity_are_refused(restore):
    for value in (np.nan, np.inf):
        with refused(RequestError, "range", "samples"):
            restore(samples=np.append(noise(100), value))


def test_another_language_is_sound_as_any_other():
    """The shipped model heard English: of German and Japanese, too, it keeps what was there, and fills what was not."""
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
    import soxr
    from unisono_sound.text.espeak import espeak

    model = load(SHIPPED)
    for text, language in (("Zwölf Boxkämpfer jagen Viktor.", "de"), ("こんにちは、さようなら。", "ja")):
        spoken = espeak().speak(text, language)
        narrow = soxr.resample(spoken.waveform, spoken.sample_rate, 8000, quality="HQ")
        wide = soxr.resample(narrow, 8000, 16000, quality="HQ")
        made = model(samples=narrow, sample_rate=8000).waveform[0]
        assert len(made) == 2 * len(narrow)
        length = min(len(wide), len(made))
        window = np.hanning(length)
        was, is_ = (np.abs(np.fft.rfft(wave[:length] * window)) for wave in (wide, made))
        hz = np.fft.rfftfreq(length, 1 / 16000)
        low = hz < 3600
        assert np.abs(is_ - was)[low].max() < 1e-3 * was.max()
        assert np.square(is_[hz > 4200]).sum() > 100 * np.square(was[hz > 4200]).sum()
    with refused(RequestError, "unknown", "language"):
        model(samples=[0.1] * 100, language="de")
