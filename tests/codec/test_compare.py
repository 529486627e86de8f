"""Vocoders side by side: what is measured of copies that are known, of which clips, and what is refused."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from unisono import cli
from unisono.errors import DataError, UnisonoError
from unisono.export import load, save_export
from unisono.recipe import Recipe
from unisono.synthesis import Synthesizer
from unisono_codec.vocoders import scoring
from unisono_codec.vocoders.compare import clips, evaluate, one_thread
from unisono_codec.vocoders.scoring import Pair
from unisono_codec.vocoders.vocoder import Vocoder
from unisono_sound.corpus import Manifest, Utterance
from unisono_sound.signal import GriffinLim, MelSpec, write_audio

HAS_PESQ = find_spec("pesq") is not None  # compiled at install, and so not a dependency
pytest.importorskip("pystoi")

SPEC = MelSpec()
RATE = SPEC.sample_rate


def speech_like(seconds: float, seed: int) -> np.ndarray:
    """A voice whose level rises and falls like syllables: enough for PESQ and STOI."""
    times = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(times))
    voice = np.sum([np.sin(2 * np.pi * (120 + 30 * seed) * k * times) / k for k in range(1, 20)], axis=0)
    return (0.05 * (voice + 0.1 * noise) * (1.05 + np.sin(2 * np.pi * 4 * times))).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(2):
        write_audio(folder / f"clip-{number}.wav", torch.from_numpy(speech_like(1.2, number)), RATE)
    return folder


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> dict[str, Path]:
    """A Vocos and a Parallel WaveGAN, untrained."""
    folder = tmp_path_factory.mktemp("exports")
    made = {}
    for name in ("vocos", "parallel-wavegan"):
        recipe = Recipe.read(f"codec/{name}-tiny")
        data = recipe.build_data()
        data.prepare(progress=False)
        made[name] = save_export(recipe.build_model(data.describe()), folder / f"my-{name}")
    return made


class Echo(Vocoder):
    """What Griffin-Lim says, at half the level: a copy whose fault is known."""

    def build(self, facts):
        super().build(facts)
        self.net = GriffinLim(self.mel_spec)

    def decode(self, mel, lengths=None):
        return 0.5 * self.net.decode(mel, lengths)


def echo(**spec) -> Synthesizer:
    model = Echo()
    model.build({"mel_spec": MelSpec(**spec).to_dict()})
    return Synthesizer(model, {"model": "codec/echo"})


def test_a_copy_at_half_the_level_is_farther_and_as_clear(corpus):
    report = evaluate(echo(), corpus, limit=2, progress=False)
    assert report.systems == ["codec/echo", "griffin-lim"]
    assert report.failures == []

    def both(measure):
        return [report.value(measure, system) for system in report.systems]

    half, whole = both("SI-SDR")
    assert half == pytest.approx(whole, abs=1e-3)  # scale-invariant; float32
    half, whole = both("STOI")
    assert half == pytest.approx(whole, abs=1e-3)
    assert both("parameters") == [0, 0]
    half, whole = both("mel distance")
    assert whole < half < whole + np.log(2) + 1e-6
    half, whole = both("log-spectral distance")
    assert whole < half < whole + 20 * np.log10(2) + 1e-6
    assert len(report.items) == 4
    assert (report.facts["clips"], report.facts["PESQ"]) == (2, scoring.PESQ_FACT)


def test_the_verb_compares_exports(corpus, exports, tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    command = ["evaluate", str(exports["vocos"]), str(corpus), "--limit", "1", "--json", str(numbers)]
    assert cli.main([*command, "--against", str(exports["parallel-wavegan"])]) == 0
    written = json.loads(numbers.read_text())
    assert written["systems"] == ["my-vocos", "my-parallel-wavegan", "griffin-lim"]
    assert {item["system"] for item in written["items"]} == set(written["systems"])
    rows = {row["measure"]: row for section in written["sections"] for row in section["rows"]}
    assert set(rows) >= {
        "PESQ",
        "STOI",
        "SI-SDR",
        "mel distance",
        "log-spectral distance",
        "real-time factor, one CPU core",
        "parameters",
    }
    assert all(value > 0 for value in rows["real-time factor, one CPU core"]["values"].values())
    sizes = rows["parameters"]["values"]
    loaded = {name: load(exports[name]).model for name in exports}
    for name, model in loaded.items():
        assert sizes[f"my-{name}"] == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6)
    assert "my-parallel-wavegan" in capsys.readouterr().out


def test_an_untrained_vocoder_is_worse_than_griffin_lim(corpus, exports):
    report = evaluate(load(exports["vocos"]), corpus, limit=1, checkpoint=exports["vocos"], progress=False)
    assert report.value("mel distance", "my-vocos") > report.value("mel distance", "griffin-lim")
    assert report.value("STOI", "my-vocos") < report.value("STOI", "griffin-lim")


def test_rivals_that_cannot_be_compared_are_refused(corpus, exports, tmp_path, capsys):
    with refused(UnisonoError, "conflict", "against", value="my-vocos"):
        evaluate(load(exports["vocos"]), corpus, checkpoint=exports["vocos"], against=[exports["vocos"]])
    with refused(UnisonoError, "conflict", "against", value="my-vocos", names=["22050", "256", "24000"]):
        evaluate(
            echo(sample_rate=24000), corpus, against=[exports["vocos"]], checkpoint=tmp_path / "other", progress=False
        )
    # The evaluator of another modality compares with what it likes.
    recipe = Recipe.read("motion/mmm-tiny")
    data = recipe.build_data()
    data.prepare(progress=False)
    motion = save_export(recipe.build_model(data.describe()), tmp_path / "motion")
    command = ["evaluate", str(motion), "nowhere", "--json", str(tmp_path / "n.json"), "--against", "x"]
    assert cli.main(command) == 2
    assert "--against" in capsys.readouterr().err


def test_a_clip_that_cannot_be_read_is_listed(corpus, tmp_path):
    for path in corpus.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.wav").write_text("no sound")
    report = evaluate(echo(), tmp_path, limit=3, progress=False)
    assert report.facts["clips"] == 2
    assert [failure["id"] for failure in report.failures] == ["broken"]
    for path in tmp_path.glob("clip*"):
        path.unlink()
    with refused(DataError, "empty", "data", value=1):
        evaluate(echo(), tmp_path, progress=False)


def test_clips_are_those_that_training_holds_out_first():
    texts = [f"sentence number {i}" for i in range(30)]
    manifest = Manifest(tuple(Utterance(f"{i}-{t}", Path(), texts[i], "a") for i in range(30) for t in range(2)))
    chosen = clips(manifest, 5)
    _, held = manifest.split(10)
    assert {u.text for u in chosen} == {u.text for u in held}
    assert len({u.text for u in chosen}) == 5 and all(u.id.endswith("-0") for u in chosen)
    assert clips(manifest, 3) == chosen[:3]


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_a_score_that_fails_leaves_the_others():
    wave = speech_like(1.0, 0)
    result = scoring.score(Pair("a", "s", wave, np.zeros_like(wave), SPEC))
    assert result.mel > 1 and result.si_sdr is None
    assert any(failure.startswith("SI-SDR: DataError") for failure in result.failures)
    pairs = [Pair("a", "s", wave, wave, SPEC), Pair("b", "s", wave, wave / 2, SPEC)]
    scores = [scoring.score(pair) for pair in pairs]
    means = {row.measure: row.values["s"] for row in scoring.rows(pairs, scores)}
    assert means["mel distance"] == pytest.approx(scores[1].mel / 2)
    assert scores[0].mel == 0 and scores[0].lsd == 0
    assert scoring.record(pairs[1], scores[1])["mel"] == scores[1].mel


@pytest.mark.skipif(not HAS_PESQ, reason="pesq is not installed")
def test_pesq_of_a_copy_is_the_best_there_is():
    wave = speech_like(1.2, 1)
    assert scoring.score(Pair("a", "s", wave, wave, SPEC)).pesq == pytest.approx(4.64, abs=0.01)


@pytest.mark.skipif(HAS_PESQ, reason="pesq is installed")
def test_without_pesq_the_report_says_so(corpus):
    report = evaluate(echo(), corpus, limit=1, progress=False)
    assert report.value("PESQ", "griffin-lim") is None
    assert "not measured" in report.facts["PESQ"]
