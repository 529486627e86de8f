"""Reports on an enhancer: conditions that are what they say, seen and unseen kinds, baselines in place, absent ones."""

import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError, MissingExtra, RequestError
from unisono.synthesis import Synthesizer
from unisono_restore import baselines
from unisono_restore.clips import MadeClip
from unisono_restore.mp_senet.evaluate import KINDS, conditions, evaluate
from unisono_restore.mp_senet.facts import NoisyFacts
from unisono_restore.mp_senet.model import MPSENet
from unisono_restore.mp_senet.sizes import SENetSizes
from unisono_sound import measure
from unisono_sound.degrade import HeldClips, active_power, mean_power
from unisono_sound.measure import DNSMOS
from unisono_sound.signal import write_audio
from unisono_sound.signal.phase import TransformSizes

RATE = 8000
FACTS = NoisyFacts(sample_rate=RATE, heard=("white", "babble"), unheard=("pink",))


@pytest.fixture
def corpus(tmp_path):
    for number in range(4):
        write_audio(tmp_path / f"{number}.wav", MadeClip(number, 9000, RATE).load(0, 9000), RATE)
    return tmp_path


def enhancer() -> MPSENet:
    torch.manual_seed(0)
    model = MPSENet(
        network=SENetSizes(channels=4, num_blocks=1, num_heads=2, depth=2),
        spectrum=TransformSizes(n_fft=64, win_length=64, hop_length=24),
    )
    model.build(FACTS)
    return model.eval()


def test_conditions_are_the_noise_that_they_name_and_say_whether_training_heard_it():
    clips = HeldClips([MadeClip(number, 9000, RATE).load(0, 9000) for number in range(3)], RATE)
    clean, *noisy = conditions(FACTS, clips, levels=(5.0, 12.5))
    wave = MadeClip(7, 9000, RATE).load(0, 9000)
    assert clean.seen and torch.equal(clean.spoil(wave, torch.Generator()), wave)
    assert [one.name for one in noisy] == [f"{kind} {level} dB" for kind in KINDS for level in ("5", "12.5")]
    assert {one.name.split()[0] for one in noisy if one.seen} == {"white", "babble"}
    for one in noisy:
        added = one.spoil(wave, torch.Generator().manual_seed(1)) - wave
        ratio = 10 * math.log10(active_power(wave, RATE) / mean_power(added))
        assert ratio == pytest.approx(float(one.name.split()[1]), abs=0.01)


def test_without_clips_there_is_no_babble_and_other_kinds_are_refused():
    assert not [one for one in conditions(FACTS) if "babble" in one.name]
    assert len(enhancer().conditions()) == 1 + 2 * (len(KINDS) - 1)
    with refused(DataError, code="unknown", path="kinds", value="folder"):
        conditions(FACTS, kinds=("folder",))


def test_a_report_has_each_kind_at_each_level_beside_what_is_installed(corpus, monkeypatch):
    monkeypatch.setattr(measure, "dnsmos", lambda wave, rate: DNSMOS(3.0, 2.0, 4.0, 3.5))  # it takes seconds to load
    gate = ModuleType("noisereduce")
    gate.reduce_noise = lambda y, sr: y * 0.5  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "noisereduce", gate)
    monkeypatch.setitem(sys.modules, "pyrnnoise", None)
    report = evaluate(
        Synthesizer(enhancer(), {"model": "restore/mp-senet"}),
        str(corpus),
        limit=1,
        kinds=("pink", "babble"),
        levels=(5.0,),
        progress=False,
    )
    assert report.systems == ["input", "spectral gating", "restore/mp-senet"]
    names = [section.name for section in report.sections]
    assert names == ["clean", "pink 5 dB, not in training", "babble 5 dB", "what it costs"]
    assert [failure["system"] for failure in report.failures if failure["id"] == "all"] == ["RNNoise"]
    heard = {row.measure: row.values for row in report.sections[1].rows}["SI-SDR"]
    assert heard["input"] == pytest.approx(heard["spectral gating"], abs=1e-3)  # half as loud is as good


def test_babble_that_cannot_be_made_is_listed(corpus, monkeypatch):
    monkeypatch.setattr(measure, "dnsmos", lambda wave, rate: DNSMOS(3.0, 2.0, 4.0, 3.5))
    for package in ("pyrnnoise", "noisereduce"):
        monkeypatch.setitem(sys.modules, package, None)
    synthesizer = Synthesizer(enhancer(), {"model": "restore/mp-senet"})
    report = evaluate(synthesizer, str(corpus), limit=3, kinds=("babble",), progress=False)
    assert [section.name for section in report.sections] == ["clean", "what it costs"]
    assert {failure["system"] for failure in report.failures if failure["id"] == "all"} == {
        "RNNoise",
        "spectral gating",
        "babble",
    }


def test_rnnoise_gets_whole_frames_of_48_khz_and_its_delay_is_taken_off(monkeypatch):
    frames, ended = [], []

    class Package(ModuleType):
        held = np.zeros(960, np.int16)

        @staticmethod
        def create():
            return "state"

        @staticmethod
        def destroy(state):
            ended.append(state)

        @staticmethod
        def process_frame(state, frame):  # comes two frames late, as RNNoise does
            assert state == "state" and frame.shape == (480,) and frame.dtype == np.int16
            frames.append(frame)
            Package.held = np.concatenate([Package.held, frame])
            made, Package.held = Package.held[:480], Package.held[480:]
            return made, 1.0

    monkeypatch.setattr(baselines, "_rnnoise", lambda: Package("rnnoise"))
    wave = MadeClip(1, 5001, 16000).load(0, 5001).numpy()
    made = baselines.rnnoise(wave, 16000)
    assert made.shape == wave.shape and made.dtype == np.float32 and ended == ["state"]
    assert len(frames) == math.ceil((3 * 5001 + 960) / 480)
    # the resampler there and back takes the last of the band off
    assert float(np.square(made - wave).mean() / np.square(wave).mean()) < 0.02


def test_baselines_are_chosen_by_name_and_refused_without_their_package(corpus, monkeypatch):
    monkeypatch.setattr(measure, "dnsmos", lambda wave, rate: DNSMOS(3.0, 2.0, 4.0, 3.5))
    for package in ("pyrnnoise", "noisereduce"):
        monkeypatch.setitem(sys.modules, package, None)
    named = baselines.named
    assert [one.name for one in named(["copy", "sinc"])] == ["low band copied", "sinc"]
    for name, package in (("gating", "noisereduce"), ("rnnoise", "pyrnnoise")):
        with pytest.raises(MissingExtra) as caught:
            named(["sinc", name])
        assert caught.value.path == package
    with refused(RequestError, "unknown", "--baseline", value="rnoise", names="rnnoise"):
        named(["rnoise"])
    with refused(RequestError, "conflict", "--baseline", value="sinc"):
        named(["sinc", "sinc"])
    synthesizer = Synthesizer(enhancer(), {"model": "restore/mp-senet"})
    given: dict = {"limit": 1, "kinds": ("pink",), "levels": (5.0,), "progress": False}
    report = evaluate(synthesizer, str(corpus), baselines=["sinc", "copy"], **given)
    assert report.systems == ["input", "sinc", "low band copied", "restore/mp-senet"]
    with pytest.raises(MissingExtra):
        evaluate(synthesizer, str(corpus), baselines=["rnnoise"], **given)


@pytest.mark.parametrize(("name", "package"), [("gating", "noisereduce"), ("rnnoise", "pyrnnoise")])
def test_packages_take_hiss_off_in_place(name, package):
    pytest.importorskip(package, reason="the extra denoisers is not installed")
    torch.manual_seed(0)
    clean = MadeClip(3, 32000, 16000).load(0, 32000)
    noisy = clean + 0.02 * torch.randn(32000)
    made = torch.from_numpy(baselines.BASELINES[name].restore(noisy.numpy(), 16000))
    assert made.shape == clean.shape and made.square().mean() < noisy.square().mean()
    spectra = torch.fft.rfft(made, 65536) * torch.fft.rfft(noisy, 65536).conj()
    lag = int(torch.fft.irfft(spectra).argmax())
    assert min(lag, 65536 - lag) <= 1, lag  # nothing is late


def test_what_is_absent_says_how_it_is_installed(monkeypatch):
    for package, restore in (("pyrnnoise", baselines.rnnoise), ("noisereduce", baselines.gated)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra) as caught:
            restore(np.zeros(10, np.float32), 16000)
        assert caught.value.path == package and "denoisers" in str(caught.value)
