"""Codecs beside Opus: what is counted, which clips are new, and what a report holds."""

import io
import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from refused import refused
from unisono import cli
from unisono.errors import DataError, RequestError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono.synthesis import Synthesizer
from unisono_codec.codecs.codec import Codec
from unisono_codec.codecs.evaluate import codebook_use, depths_of, evaluate, held_out, opus_rates
from unisono_codec.files.opus import LOWEST_RATE, opus_copy, payload_size
from unisono_sound.corpus import Manifest, Utterance

pytest.importorskip("pystoi")
HAS_PESQ = find_spec("pesq") is not None
RATE = 22050
FACTS = Recipe.read("codec/rvq-tiny").build_data().describe()


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """A voice whose level rises and falls like syllables: enough for PESQ and STOI."""
    times = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(times))
    voice = np.sum([np.sin(2 * np.pi * (120 + 30 * seed) * k * times) / k for k in range(1, 20)], axis=0)
    return (0.05 * (voice + 0.1 * noise) * (1.05 + np.sin(2 * np.pi * 4 * times))).astype(np.float32)


@pytest.fixture(scope="module")
def codec() -> Codec:
    codec = Recipe.read("codec/rvq-tiny").build_model({**FACTS, "held_out": ["two"]})
    codec.train()
    with torch.no_grad():
        codec.net.quantizer(codec.net.encoder(codec.net.encoder.read(torch.from_numpy(speech_like(1))[None])))
    return codec.eval()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number, name in enumerate(("one", "two", "three")):
        soundfile.write(folder / f"{name}.wav", speech_like(2 + number / 4, number), RATE)
    return folder


# ---- Opus --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit_rate", [8000, 16000, 64000])
def test_opus_comes_near_the_bit_rate(bit_rate):
    wave = speech_like(3)
    copy = opus_copy(wave, RATE, bit_rate)
    assert copy.bit_rate == pytest.approx(bit_rate, rel=0.1)
    assert copy.file_bit_rate > copy.bit_rate
    assert copy.waveform.shape == wave.shape
    # In time with the original: the best shift of a stretch is none, give or take the resampler's rounding.
    middle, around = wave[20000:30000], copy.waveform[19900:30100]
    assert abs(int(np.correlate(around, middle, "valid").argmax()) - 100) <= 2


def test_opus_has_a_lowest_rate():
    lowest = opus_copy(speech_like(3), RATE, 500)
    assert lowest.level == 1.0
    assert 0.8 * LOWEST_RATE < lowest.bit_rate < 1.2 * LOWEST_RATE


def test_packets_are_counted_without_their_container():
    """Pages made by hand: two packets of headers, then packets of 10, 255 (which takes two laces) and 300 bytes, the
    last across two pages."""

    def page(lacing: list[int]) -> bytes:
        return b"OggS" + bytes(22) + bytes([len(lacing), *lacing]) + bytes(sum(lacing))

    ogg = page([19]) + page([40]) + page([10, 255, 0, 255]) + page([45])
    assert payload_size(ogg) == 10 + 255 + 300
    with pytest.raises(ValueError, match="no Ogg page at byte 0"):
        payload_size(b"RIFF....")
    file = io.BytesIO()
    soundfile.write(file, np.zeros(24000, np.float32), 24000, format="OGG", subtype="OPUS")
    assert 0 < payload_size(file.getvalue()) < len(file.getvalue())


# ---- what is measured --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "depths"),
    [(1, [1]), (2, [2, 1]), (4, [4, 2, 1]), (8, [8, 4, 2, 1]), (9, [9, 4, 2, 1]), (14, [14, 8, 4, 2, 1]),
     (32, [32, 16, 8, 4, 1])],
)  # fmt: skip
def test_depths(levels, depths):
    assert depths_of(levels) == depths


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([6029, 3445, 430], [6029]), ([500], [6000]), ([24000, 9000, 6000, 1500], [24000, 9000, 6000]), ([7000], [7000])],
)
def test_opus_is_asked_for_each_rate_once(ours, theirs):
    assert opus_rates(ours) == theirs


def test_clips_are_those_that_the_codec_was_kept_from(codec):
    texts = {"a": "One, two.", "b": "Two!", "c": "Three."}
    spoken = Manifest(tuple(Utterance(name, Path(f"{name}.wav"), text) for name, text in texts.items()))
    chosen, why = held_out(spoken, codec, 10)
    assert ([u.id for u in chosen], why) == (["b"], "listed by the codec")
    strangers = Manifest(tuple(u for u in spoken if u.id != "b"))
    chosen, why = held_out(strangers, codec, 10)
    assert (len(chosen), why) == (2, "the codec lists none of this corpus")
    codec.facts, facts = FACTS, codec.facts
    try:
        assert held_out(spoken, codec, 2)[1] == "first of the split; not listed"
        assert len(held_out(spoken, codec, 2)[0]) == 2
    finally:
        codec.facts = facts


def test_a_recording_that_its_corpus_trains_on_is_not_new_for_its_text(codec):
    takes = {"two_0": True, "two_7": False}
    spoken = Manifest(tuple(Utterance(n, Path(f"{n}.wav"), "Two!", held_out=held) for n, held in takes.items()))
    chosen, why = held_out(spoken, codec, 10)
    assert ([u.id for u in chosen], why) == (["two_0"], "listed by the codec")


def test_codebook_use(codec):
    codes = np.stack([[0, 1, 2, 3] * 6, [5] * 24], 1)
    section, records = codebook_use(codec, codes, "2 levels")
    assert [record["perplexity"] for record in records] == pytest.approx([4, 1])
    assert [record["used"] for record in records] == [4 / 8, 1 / 8]
    assert [record["entropy_bits"] for record in records] == pytest.approx([2, 0])
    assert [row.values["2 levels"] for row in section.rows] == ["50 %, 4", "12 %, 1"]


@pytest.fixture(scope="module")
def report(codec, corpus):
    return evaluate(Synthesizer(codec), corpus, limit=1, progress=False)


def test_a_report_holds_every_measure_of_every_system(report, codec, tmp_path):
    assert report.systems == ["2 levels", "1 level", "opus 6.0", "griffin-lim"]
    assert report.failures == []
    assert report.facts["held out"] == "listed by the codec"
    measures = ["STOI", "SI-SDR", "mel distance", *(["PESQ"] if HAS_PESQ else [])]
    for system in report.systems:
        for measure in measures:
            assert math.isfinite(report.value(measure, system)), (measure, system)
    if not HAS_PESQ:
        assert report.value("PESQ", "2 levels") is None and "not measured" in report.facts["PESQ"]
    assert report.value("nominal", "1 level") == pytest.approx(codec.bit_rate(1) / 1000)
    for system in ("2 levels", "1 level", "opus 6.0"):
        assert 0 < report.value("codes, entropy-coded", system) < report.value("whole files", system)
    # At most a byte in the chunk that is not full.
    assert report.value("codes, entropy-coded", "2 levels") <= codec.bit_rate() / 1000 * 1.05
    for what in ("encode", "decode"):
        assert report.value(f"real-time factor, {what}", "2 levels") > 0
    assert report.value("level 1", "2 levels").endswith(tuple("0123456789"))
    numbers = json.loads(report.to_json(tmp_path / "x.json").read_text())
    assert {item["id"] for item in numbers["items"]} == {"two", "level 1", "level 2"}
    assert "opus 6.0" in str(report.table().columns[3].header)


def test_opus_of_speech_is_better_than_an_untrained_codec(report):
    assert report.value("STOI", "opus 6.0") > report.value("STOI", "1 level") + 0.1
    assert report.value("mel distance", "griffin-lim") < report.value("mel distance", "1 level")


def test_what_cannot_be_measured_is_said(codec, corpus, tmp_path):
    with refused(RequestError, "range", "levels", value=9, names=["1", "2"]):
        evaluate(Synthesizer(codec), corpus, levels=[9], progress=False)
    broken = Manifest((Utterance("two", tmp_path / "nowhere.wav"),))
    with refused(DataError, "empty", "data", value=1, names="nowhere.wav"):
        evaluate(Synthesizer(codec), broken, limit=1, progress=False)
    both = Manifest((Utterance("two", corpus / "two.wav", "two"), Utterance("2", tmp_path / "nowhere.wav", "Two")))
    chosen = evaluate(Synthesizer(codec), both, limit=5, levels=[1], progress=False)
    assert chosen.facts["clips"] == 1  # takes of one sentence count once


def test_on_the_command_line(codec, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    export = save_export(codec, tmp_path / "codec")
    assert cli.main(["evaluate", str(export), str(corpus), "--limit=1"]) == 0
    shown = capsys.readouterr().out
    for part in ("opus 6.0", "griffin-lim", "peak memory, and decoded", "used, perplexity"):
        assert part in shown
    assert json.loads(Path("evaluation.json").read_text())["failures"] == []


def test_levels_are_swept(codec, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    export = save_export(codec, tmp_path / "codec")
    flags = ["--levels=1,2", "--limit=1", "--repeats=2"]
    assert cli.main(["sweep", str(export), str(corpus), *flags]) == 0, capsys.readouterr().err
    swept = json.loads(Path("sweep.json").read_text())
    assert [(p["setting"]["levels"], round(p["kbit/s"], 2)) for p in swept["points"]] == [(1, 0.13), (2, 0.26)]
    assert set(swept["better"]) >= {"STOI", "SI-SDR", "mel distance"}
    assert Path("sweep.png").stat().st_size > 1000
    assert cli.main(["sweep", str(export), str(corpus), "--levels=1,3", "--limit=1"]) == 2
    assert "levels=3 must be from 1 to 2" in capsys.readouterr().err
