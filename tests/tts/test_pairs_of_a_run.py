"""Pairs to tune a vocoder on: mels on the recordings' frames, and the recordings as the voice was trained on them."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
pytest.importorskip("swift_f0", reason="the pitch tracker is not installed")

from unisono import cli
from unisono.recipe import Recipe
from unisono_codec.vocoders.data import AudioData, HeardOptions
from unisono_sound.signal import LogMel, MelSpec, read_audio
from unisono_tts import pairs

RATE = 22050


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of quiet and loud recordings, a run of two steps, and its pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISONO_CACHE", str(folder / "cache"))
        (folder / "voice" / "wavs").mkdir(parents=True)
        lines = []
        for index, gain in enumerate((0.02, 0.1, 0.9, 0.3)):
            times = np.arange(int((1.2 + index / 5) * RATE)) / RATE
            wave = sum(np.sin(2 * np.pi * (110 + 20 * index) * k * times) / k for k in range(1, 9))
            silence = np.zeros(RATE // 3)
            soundfile.write(
                folder / "voice" / "wavs" / f"u{index}.wav",
                np.concatenate([silence, gain * wave / np.abs(wave).max(), silence]), RATE,
            )  # fmt: skip
            text = f"Number {index} is here, and it stays."
            lines.append(f"u{index}|{text}|{text}")
        (folder / "voice" / "metadata.csv").write_text("\n".join(lines))
        recipe = Recipe.read("tts/fastpitch-tiny").to_dict()
        recipe["data"] = {
            "name": "tts/speech", "root": str(folder / "voice"), "loudness_dbfs": -27.0, "val_size": 1, "batch_size": 2,
        }  # fmt: skip
        (folder / "pairs.yaml").write_text(json.dumps(recipe))
        assert cli.main(["train", str(folder / "pairs.yaml"), f"--run.dir={folder / 'run'}"]) == 0
        run = next(path.parent.parent for path in (folder / "run").rglob("last.ckpt"))
        with torch.inference_mode():
            count = pairs.write_pairs(run, folder / "out", batch_size=2)
        yield folder, run, count


def test_every_recording_has_its_mel_on_its_own_frames(made):
    folder, _, count = made
    rows = [json.loads(line) for line in (folder / "out" / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert count == len(rows) == 4 and {row["id"] for row in rows} == {"u0", "u1", "u2", "u3"}
    for row in rows:
        mel = np.load(folder / "out" / f"{row['id']}.npy")
        wave, rate = read_audio(folder / "out" / row["audio"])
        assert mel.shape == (len(wave) // 256, 80) and rate == RATE
        assert row["text"].startswith(f"Number {row['id'][1]}") and row["speaker"]


def test_recordings_have_the_level_that_the_voice_was_trained_at(made):
    folder, _, _ = made
    for index in range(4):
        wave, _ = read_audio(folder / "out" / f"u{index}.wav")
        speech = wave[round(0.1 * RATE) : -round(0.1 * RATE)]
        assert 20 * math.log10(float(speech.square().mean().sqrt())) == pytest.approx(-27, abs=0.3), index
        assert len(wave) / RATE == pytest.approx(1.2 + index / 5 + 0.12, abs=0.05), "silence is trimmed"


def test_a_vocoder_takes_the_pairs(made, monkeypatch):
    folder, _, _ = made
    monkeypatch.setenv("UNISONO_CACHE", str(folder / "cache"))
    data = AudioData(
        str(folder / "out" / "pairs.jsonl"),
        crop_frames=20,
        val_size=1,
        heard=HeardOptions(mels=str(folder / "out")),
    )
    data.prepare(progress=False)
    assert data.audit.kept == 4
    assert LogMel(MelSpec()).spec == data.mel


def test_a_run_that_is_not_there_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pairs", str(tmp_path / "none"), str(tmp_path / "out")])
    assert pairs.main() == 2
    assert capsys.readouterr().err.startswith("unisono: ")
