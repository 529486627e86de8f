"""Evaluation of conversion: the baseline against formulas, correlations, a report of a small corpus."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from converters import MEL, buzz, drawn, make_converter
from refused import refused
from unisono import Synthesizer
from unisono.errors import DataError, RequestError
from unisono_convert.corpus.facts import ChannelSpread, Spread
from unisono_sound.measure import HAS_RESEMBLYZER, Listener, track_pitch
from unisono_sound.signal import LogMel, MelSpec

RATE, HOP = 16000, 160
SPEECH = MelSpec(sample_rate=RATE, n_fft=1024, win_length=1024, hop_length=HOP, n_mels=40, f_max=8000.0)


def test_statistics_become_the_targets():
    from unisono_convert.measure.transfer import moved_mel, moved_pitch

    mel = drawn(400, 3) * torch.tensor([1.0, 2.0, 0.5]) + 4
    own = ChannelSpread(tuple(mel.mean(0).tolist()), tuple(mel.std(0, correction=0).tolist()))
    found = moved_mel(mel, own, ChannelSpread((1.0, 2.0, 3.0), (0.1, 0.2, 0.3)))
    torch.testing.assert_close(found.mean(0), torch.tensor([1.0, 2.0, 3.0]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.std(0, correction=0), torch.tensor([0.1, 0.2, 0.3]), atol=1e-4, rtol=1e-4)
    hertz = np.array([100.0, 0.0, 120.0])
    moved = moved_pitch(hertz, Spread(np.log(100), 0.1), Spread(np.log(200), 0.2))
    assert moved[0] == pytest.approx(200) and moved[1] == 0
    assert np.log(moved[2] / 200) == pytest.approx(2 * np.log(1.2))


@pytest.mark.parametrize("wanted", [90.0, 120.0, 180.0])
def test_psola_changes_the_pitch_and_nothing_else(wanted):
    from unisono_convert.measure.psola import with_pitch

    time = np.arange(RATE) / RATE
    wave = (sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20)) * 0.2).astype(np.float32)
    flat = np.full(RATE // HOP, 120.0)
    made = with_pitch(wave, flat, np.full_like(flat, wanted), RATE, HOP)
    assert made.shape == wave.shape and np.isfinite(made).all()
    heard = track_pitch(made, RATE, HOP)[10:-10]
    assert np.median(heard[heard > 0]) == pytest.approx(wanted, rel=0.02)
    if wanted == 120:  # laid again where it was, but for parts of a period
        one, other = (LogMel(SPEECH)(torch.from_numpy(sound)[None])[0, 10:-10] for sound in (made, wave))
        assert (one - other).abs().mean() < 0.2


def test_psola_leaves_what_has_no_voice():
    from unisono_convert.measure.psola import with_pitch

    noise = drawn(RATE // 4).numpy() * 0.1
    silent = np.zeros(len(noise) // HOP)
    made = with_pitch(noise, silent, silent, RATE, HOP)
    np.testing.assert_allclose(made[200:-200], noise[200:-200], atol=1e-6)


def test_melody_is_the_correlation_where_both_have_a_voice():
    from unisono_convert.measure.marks import melody

    one = np.exp(drawn(50).numpy() * 0.1) * 100
    assert melody(one, one**1.0 * 2) == pytest.approx(1)
    gaps = np.where(np.arange(50) % 3, one * 1.5, 0)
    assert melody(one, gaps) == pytest.approx(1)
    assert melody(one, 1e4 / one) == pytest.approx(-1)
    assert melody(one, np.zeros(50)) is None and melody(one, np.full(50, 90.0)) is None


class Ear:
    """Hears everything as what its loudness says: a listener by its protocol."""

    speakers, words = ("ann", "bob"), ("one", "two")

    def hear(self, waves, sample_rate):
        heard = SimpleNamespace(vector=np.array([1.0, 0.0]), speaker="bob", word="one")
        return [heard for _ in waves]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    rows = ["audio,text,speaker"]
    for name, hertz in (("ann", 210.0), ("bob", 110.0), ("eve", 300.0)):
        for word in ("one", "two"):
            soundfile.write(root / f"{name}-{word}.wav", buzz(0.5, hertz).numpy(), 8000)
            rows.append(f"{name}-{word}.wav,{word},{name}")
    (root / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return root / "list.csv"


HELD = [f"{name}-{word}" for name in ("ann", "bob") for word in ("one", "two")]


def test_a_report_has_all_systems_and_asks_the_listener(corpus):
    from unisono_convert.measure.evaluate import evaluate

    model = make_converter(held_out=HELD, held_out_speakers=["eve"])
    assert isinstance(Ear(), Listener)
    model.attach("listener", Ear())
    report = evaluate(Synthesizer(model), str(corpus), limit=3, progress=False)
    assert report.systems == ["recording", "vocoded", "transfer", "converted", "by prompt", "strangers"]
    assert not report.failures and report.facts["strangers"] == "eve"
    rows = {row.measure: row.values for section in report.sections for row in section.rows}
    into_bob = 100 * 2 / 3  # of three recordings two are ann's
    assert rows["heard as the target"]["converted"] == pytest.approx(into_bob)
    assert rows["heard as the source"]["recording"] == pytest.approx(100 - into_bob)
    assert 0 < rows["word heard right"]["transfer"] < 100
    assert rows["nearness to the target"]["converted"] == pytest.approx(1)
    assert report.facts["recordings"] == 3 and report.facts["pairs of speakers"] == 2
    assert rows["real-time factor, median"]["converted"] > 0


def test_without_a_listener_it_is_said_what_is_not_measured(corpus):
    from unisono_convert.measure.evaluate import evaluate

    report = evaluate(Synthesizer(make_converter(held_out=HELD)), str(corpus), limit=1, progress=False)
    assert not [row for section in report.sections for row in section.rows if row.measure == "word heard right"]
    assert report.facts["listener"].startswith("none") and "resemblyzer" in report.facts
    assert HAS_RESEMBLYZER or report.facts["resemblyzer"].startswith("not measured")


def test_corpora_that_were_trained_on_and_models_without_names_are_refused(corpus):
    from unisono_convert.measure.evaluate import evaluate

    with refused(DataError, "empty", "data"):
        evaluate(Synthesizer(make_converter()), str(corpus), progress=False)
    nameless = make_converter(speakers=[], pitch={}, voices={})
    with refused(RequestError, "unsupported", "speaker"):
        evaluate(Synthesizer(nameless), str(corpus), progress=False)


def test_mel_of_the_tests_is_the_one_of_the_facts():
    assert make_converter().mel_spec.to_dict() == MEL
