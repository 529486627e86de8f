"""Evaluation: the papers' spectral distance, the copy of the low band, what is held out, and the report."""

import argparse

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError, MissingExtra
from unisono.synthesis import Synthesizer
from unisono_restore.ap_bwe.model import APBWE
from unisono_restore.ap_bwe.narrow import NarrowOptions
from unisono_restore.ap_bwe.rivals import conditions, copied_up, cut_off
from unisono_restore.ap_bwe.sizes import BandSizes
from unisono_restore.clips import MadeClip
from unisono_restore.evaluate import evaluate, held_out
from unisono_restore.facts import BandFacts
from unisono_restore.scoring import log_spectral_distance
from unisono_restore.trial import Baseline, Condition
from unisono_sound import measure
from unisono_sound.corpus import find_audio
from unisono_sound.measure import DNSMOS, ErrorRate
from unisono_sound.signal import write_audio
from unisono_sound.signal.phase import TransformSizes

FACTS = BandFacts(sample_rate=16000, from_rate=8000, lowest_cutoff=3000, highest_cutoff=4000)


def noise(length: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def test_the_distance_is_that_of_its_formula():
    clean, made = noise(6000), noise(6000, seed=1)
    padded = [np.pad(wave.astype(np.float64), 1024, mode="reflect") for wave in (clean, made)]
    window = np.hanning(2049)[:-1]
    starts = range(0, 6001, 512)
    logs = [
        np.array([np.log10(np.maximum(np.abs(np.fft.rfft(wave[s : s + 2048] * window)) ** 2, 1e-8)) for s in starts])
        for wave in padded
    ]
    expected = np.sqrt(((logs[0] - logs[1]) ** 2).mean(1)).mean()
    assert log_spectral_distance(clean, made) == pytest.approx(expected, rel=1e-4)
    assert log_spectral_distance(clean, clean) == 0
    assert log_spectral_distance(clean, clean * 10) == pytest.approx(2, abs=1e-4)  # 20 dB
    with refused(DataError, "shape", "made", value=1024):
        log_spectral_distance(clean, made[:1024])


def test_a_copy_of_the_low_band_comes_nearer_than_nothing():
    clean = MadeClip(1, 32000, 16000).load(0, 32000)
    narrow = conditions(FACTS, 16000, {})[0].spoil(clean, torch.Generator()).numpy()
    copied = copied_up(narrow, 16000)
    assert copied.shape == narrow.shape
    assert log_spectral_distance(clean.numpy(), copied) < 0.75 * log_spectral_distance(clean.numpy(), narrow)
    np.testing.assert_array_equal(copied_up(clean.numpy(), 16000), clean.numpy())  # wide already
    assert not copied_up(np.zeros(3000, np.float32), 16000).any()


def test_a_resampler_leaves_nothing_above_a_sounds_end():
    time = torch.arange(16000) / 16000
    faint = 1e-4 * torch.from_numpy(noise(16000))
    tones = 0.3 * torch.sin(2 * torch.pi * 300 * time) + 0.1 * torch.sin(2 * torch.pi * 1000 * time)
    cut = cut_off((tones + faint).numpy(), 16000)
    made = np.fft.rfft(cut * np.hanning(16000))
    heard = np.fft.rfft(faint.numpy() * np.hanning(16000))
    assert np.abs(made[2000:]).mean() < 0.01 * np.abs(heard[2000:]).mean()
    assert np.abs(made[300]) == pytest.approx(0.3 * 16000 / 4, rel=1e-3)
    np.testing.assert_array_equal(cut_off(noise(3000), 16000), noise(3000))  # wide already
    assert not cut_off(np.zeros(3000, np.float32), 16000).any()


def test_conditions_say_which_of_them_training_had():
    options = {"from_rate": 8000, "lowest_cutoff": 3000.0, "filters": ["resampler", "elliptic"], "opus": 0.1}
    seen = {condition.name: condition.seen for condition in conditions(FACTS, 16000, options)}
    assert seen == {"resampled to 8000 Hz": True, "elliptic filter": True, "µ-law": False, "Opus": True}
    assert not any(condition.seen for condition in conditions(FACTS, 16000, {})[1:])
    other = BandFacts(sample_rate=22050, from_rate=11025, lowest_cutoff=5000, highest_cutoff=5512.5)
    wave = torch.from_numpy(noise(5000))
    for condition in conditions(other, 22050, {}):
        assert condition.spoil(wave, torch.Generator()).shape == wave.shape
    assert NarrowOptions().filters == ("resampler",)


@pytest.fixture
def corpus(tmp_path):
    for number in range(3):
        write_audio(tmp_path / f"{number}.wav", MadeClip(number, 9000, 8000).load(0, 9000), 8000)
    return tmp_path


def test_what_the_model_lists_is_measured(corpus):
    manifest = find_audio(corpus)
    ids = [utterance.id for utterance in manifest]
    assert held_out(manifest, 9, ids[:1]) == ([manifest[0]], "listed by the model")
    chosen, why = held_out(manifest, 2, None)
    assert len(chosen) == 2 and "not listed" in why
    assert held_out(manifest, 9, ["another"])[1] == "the model lists none of this corpus"


def test_a_report_has_every_condition_and_system(corpus, monkeypatch):
    monkeypatch.setattr(measure, "dnsmos", lambda wave, rate: DNSMOS(3.0, 2.0, 4.0, 3.5))  # it takes seconds to load
    model = APBWE(
        network=BandSizes(dim=8, intermediate_dim=8, num_blocks=1),
        spectrum=TransformSizes(n_fft=128, win_length=80, hop_length=20),
    )
    model.build({"sample_rate": 8000, "from_rate": 4000, "lowest_cutoff": 2000, "highest_cutoff": 2000})

    def absent(wave, rate):
        raise MissingExtra("nowhere", "nothing")

    copy = model.baselines()
    tried = [*model.conditions()[:1], Condition("as it was", lambda wave, generator: wave, seen=False)]
    report = evaluate(
        Synthesizer(model, {"model": "restore/ap-bwe"}),
        corpus,
        limit=2,
        conditions=tried,
        baselines=[*copy, Baseline("absent", absent)],
        progress=False,
    )
    assert report.systems == ["input", "low band copied", "restore/ap-bwe"]
    assert [section.name for section in report.sections] == [
        "resampled to 4000 Hz",
        "as it was, not in training",
        "what it costs",
    ]
    untouched = {row.measure: row.values for row in report.sections[1].rows}["LSD (2048/512)"]
    assert untouched == {"input": 0.0, "low band copied": 0.0, "restore/ap-bwe": 0.0}
    assert report.value("LSD (2048/512)", "low band copied") < report.value("LSD (2048/512)", "input")
    assert len(report.items) == 2 * 2 * 3 and report.value("DNSMOS signal", "input") == 2.0
    assert [failure["system"] for failure in report.failures if failure["id"] == "all"] == ["absent"]


class Deaf:
    """A judge that gets as many words wrong as a sound is loud, out of 1,000, and knows one sentence."""

    name, unit = "deaf", "word"
    heard = 0

    def knows(self, language):
        return True

    def trained_on(self, text):
        return text == "number 0"

    def errors(self, text, waveform, sample_rate):
        self.heard += 1
        return ErrorRate(round(1000 * float(np.abs(waveform).max())), 0, 0, 1000)


def test_judges_mark_each_condition_once_and_the_recordings_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "dnsmos", lambda wave, rate: DNSMOS(3.0, 2.0, 4.0, 3.5))
    (tmp_path / "wavs").mkdir()
    for number in range(3):
        wave = MadeClip(number, 9000, 8000).load(0, 9000)
        write_audio(tmp_path / "wavs" / f"{number}.wav", 0.3 * wave / wave.abs().max(), 8000)
    lines = "".join(f"{number}|number {number}|number {number}\n" for number in range(3))
    (tmp_path / "metadata.csv").write_text(lines)
    model = APBWE(
        network=BandSizes(dim=8, intermediate_dim=8, num_blocks=1),
        spectrum=TransformSizes(n_fft=128, win_length=80, hop_length=20),
    )
    model.build({"sample_rate": 8000, "from_rate": 4000, "lowest_cutoff": 2000, "highest_cutoff": 2000})
    tried = [
        Condition("loud", lambda wave, generator: 2 * wave, seen=False),
        Condition("soft", lambda wave, generator: wave / 3, seen=False),
        Condition("as it was", lambda wave, generator: wave, whole=True),
    ]
    judge = Deaf()
    report = evaluate(
        Synthesizer(model, {"model": "restore/ap-bwe"}),
        tmp_path,
        conditions=tried,
        baselines=[Baseline("half", lambda wave, rate: wave / 2)],
        judges=[judge],
        progress=False,
    )
    sections = {section.name: {row.measure: row.values for row in section.rows} for section in report.sections}
    marks = {name: rows.get("word error rate by deaf") for name, rows in sections.items()}
    wide = {"loud": 60.0, "soft": 10.0}
    for name, value in wide.items():
        assert marks[f"{name}, not in training"] == {"input": value, "half": value / 2, "restore/ap-bwe": value}, name
    both = marks["all that training did not have"]
    assert both == {"input": 35.0, "half": 17.5, "restore/ap-bwe": 35.0}
    assert "all that training had" not in sections
    distances = [sections[f"{name}, not in training"]["LSD (2048/512)"]["input"] for name in wide]
    pooled = sections["all that training did not have"]["LSD (2048/512)"]["input"]
    assert pooled == pytest.approx(sum(distances) / 2)
    assert judge.heard == 2 * (1 + 3 * 3)  # two sentences that it does not know, clean, and nine times damaged
    assert report.facts["deaf on the recordings"] == "30.0 % word errors"
    assert report.facts["deaf marks"] == "2 of 3 sentences"
    assert [failure["system"] for failure in report.failures].count("deaf") == 1


def test_recordings_without_texts_are_not_judged(corpus):
    model = APBWE(network=BandSizes(dim=8, intermediate_dim=8, num_blocks=1))
    model.build({"sample_rate": 8000, "from_rate": 4000, "lowest_cutoff": 2000, "highest_cutoff": 2000})
    with refused(DataError, "missing", "--judge"):
        evaluate(Synthesizer(model, {"model": "restore/ap-bwe"}), corpus, judges=[Deaf()], progress=False)


def test_the_command_line_names_baselines_where_there_are_any(monkeypatch, tmp_path, capsys):
    from unisono import plugin
    from unisono.cli import evaluate as verb
    from unisono.errors import UnisonoError
    from unisono.evaluation import Report

    asked = {}

    def measuring(synthesizer, data, *, limit, checkpoint, baselines=()):
        asked["baselines"] = baselines
        return Report("a report", ["input"], [])

    def bare(synthesizer, data, *, limit, checkpoint):
        raise AssertionError("it is not asked")

    monkeypatch.setattr("unisono.export.load", lambda *given, **more: Synthesizer(APBWE(), {"model": "restore/ap-bwe"}))
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    line = ["some", "where", "--json", str(tmp_path / "out.json"), "--baseline", "sinc", "--baseline", "copy"]
    monkeypatch.setattr(plugin, "resolve", lambda *given: measuring)
    assert verb.run(parser.parse_args(line), []) == 0 and asked["baselines"] == ["sinc", "copy"]
    monkeypatch.setattr(plugin, "resolve", lambda *given: bare)
    with refused(UnisonoError, "unsupported", "--baseline"):
        verb.run(parser.parse_args(line), [])
