"""The picture of a sound: what is in it, and that any sound has one."""

import numpy as np
import pytest
from unisono import Audio, Segment
from unisono.media import Curve
from unisono_sound.signal import LogMel, MelSpec


def make_audio(samples: int = 22050, rate: int = 22050) -> Audio:
    wave = 0.3 * np.sin(np.arange(samples) * 0.05).astype(np.float32)[None]
    seconds = samples / rate
    segments = (
        Segment("<start>", 0, seconds / 4),
        Segment("ɑː", seconds / 4, seconds),
        Segment("ah", seconds / 4, seconds, "word"),
    )
    times = np.linspace(0, seconds, 4)
    curves = {
        "pitch": Curve(times, np.full(4, 120.0), "Hz"),
        "energy": Curve(times, np.full(4, -3.0), "dB"),
    }
    return Audio(wave, rate, segments, curves)


def test_a_figure_shows_spectrogram_borders_labels_and_curves():
    audio = make_audio()
    axes = audio.plot().axes
    (image,) = axes[0].images
    mel = LogMel(MelSpec())(__import__("torch").from_numpy(audio.waveform))[0].T
    np.testing.assert_allclose(image.get_array(), mel, atol=1e-5)
    assert image.get_extent()[1] == pytest.approx(mel.shape[1] * 256 / 22050)
    assert {text.get_text() for text in axes[0].texts} == {"start", "ɑː", "ah"}
    borders = sorted(float(line.get_xdata()[0]) for line in axes[0].lines)
    assert borders == pytest.approx([0, 0.25])
    drawn = {axis.get_ylabel(): axis.lines[0].get_ydata() for axis in axes[1:]}
    assert drawn.keys() == {"pitch, Hz", "energy, dB"}
    np.testing.assert_array_equal(drawn["pitch, Hz"], audio.curves["pitch"].values)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("samples", [1, 300, 5000])
def test_any_sound_can_be_drawn_and_written(tmp_path, samples, rate):
    figure = make_audio(samples, rate).plot()
    figure.savefig(tmp_path / "x.png", dpi=30)
    assert (tmp_path / "x.png").stat().st_size > 0


def test_a_bare_stereo_sound_is_drawn():
    audio = Audio(np.zeros((2, 4000), np.float32), 16000)
    assert len(audio.plot().axes) == 1


def test_drawing_leaves_no_figure_behind():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    make_audio().plot()
    assert pyplot.get_fignums() == before
