"""Corpora: a batch of restorations, of folders and shards, once each by content, resumed, and what fails by name."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
from unisono.batch import Options, run_batch
from unisono.synthesis import Synthesizer
from unisono_restore.estimate import ROW_BYTES
from unisono_restore.overlap import OverlapSave
from unisono_restore.restorer import Restorer

RATE = 8000


class Louder(Restorer):
    """Makes everything twice as loud."""

    def pieces(self, streamed):
        return OverlapSave(RATE // 4, 10)

    def restore(self, wave, known):
        return 2 * wave


def open_louder() -> Synthesizer:
    model = Louder()
    model.build({"sample_rate": RATE})
    return Synthesizer(model, {"model": "restore/louder"})


def recordings() -> dict[str, bytes]:
    """Five recordings of several kinds, one of them twice, one cut off and one with NaN."""
    drawn, found = np.random.default_rng(0), {}
    for number, suffix in enumerate((".wav", ".flac", ".ogg", ".wav")):
        held = io.BytesIO()
        wave = 0.1 * drawn.standard_normal((4000 + 1000 * number, 1 + number % 2))
        soundfile.write(held, wave, RATE, format=suffix[1:].upper())
        found[f"{number}{suffix}"] = held.getvalue()
    found["again.wav"] = found["0.wav"]
    found["cut.flac"] = found["1.flac"][:3000]
    held = io.BytesIO()
    soundfile.write(held, np.append(0.1 * drawn.standard_normal(3000), np.nan), RATE, "FLOAT", format="WAV")
    found["nan.wav"] = held.getvalue()
    return found


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_shards_in_shards_out_once_each_and_what_fails_by_name(tmp_path):
    whole = recordings()
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name, data in whole.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    options = Options(suffix=".flac", shard_size=2)
    outcome = run_batch(open_louder, str(tmp_path / "in.tar"), tmp_path / "out", options)
    assert (outcome.made, outcome.failed, outcome.repeated) == (4, 2, 1)
    told = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    lost = {line["file"].rpartition("/")[2]: line["code"] for line in told if "error" in line}
    assert lost == {"cut.flac": "damaged", "nan.wav": "damaged"} and len(told) == len(whole)

    sound = 0
    for line in told:
        if "error" in line:
            continue
        with tarfile.open(tmp_path / "out" / line["shard"]) as archive:
            held = archive.extractfile(line["name"])
            assert held is not None
            data = held.read()
        name = line["file"].rpartition("/")[2]
        made, rate = soundfile.read(io.BytesIO(data), always_2d=True)
        wave, _ = soundfile.read(io.BytesIO(whole[name]), always_2d=True, dtype="float32")
        assert rate == RATE and line["amount"] == pytest.approx(len(wave) / RATE)
        np.testing.assert_allclose(made, 2 * wave, atol=1e-4)  # 16 bits
        sound += len(data) if name != "again.wav" else 0
    beside = sum(len(data) for data in content(tmp_path / "out").values()) - sound
    assert 0.3 * ROW_BYTES < beside / len(told) < 3 * ROW_BYTES  # of so few, the ends of shards count

    straight = content(tmp_path / "out")
    (tmp_path / "out" / "000001.tar").unlink()  # as if it had been killed before
    again = run_batch(open_louder, str(tmp_path / "in.tar"), tmp_path / "out", options)
    assert (again.made, again.kept) == (2, 2) and content(tmp_path / "out") == straight


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_processes_make_the_same_bytes(tmp_path, monkeypatch, engine):
    if engine == "ray":
        import os
        import sys

        ray = pytest.importorskip("ray", reason="the extra batch is not installed")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where Ray puts a token
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in recordings().items():
        (folder / name).write_bytes(data)
    try:
        kinds: dict = {"one": {}, "two": {"workers": 2, "engine": engine}}
        for name, how in kinds.items():
            outcome = run_batch(open_louder, str(folder), tmp_path / name, Options(suffix=".flac", shard_size=2, **how))
            assert (outcome.made, outcome.failed) == (4, 2)
    finally:
        if engine == "ray":
            ray.shutdown()
    assert content(tmp_path / "one") == content(tmp_path / "two")
