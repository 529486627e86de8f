"""Pairs of predicted mels and recordings: the recordings are those that the model was trained on, in the same level."""

import json
from types import SimpleNamespace

import flat
import numpy as np
import pytest
import torch
from unisono_sound.corpus import AudioLimits, SpeechCorpus, read_manifest
from unisono_sound.signal import read_audio, write_audio
from unisono_tts import pairs

RATE, PAD, LEVEL = 22050, 0.04, -31.0


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    draw, folder = np.random.default_rng(0), tmp_path / "voice"
    (folder / "wavs").mkdir(parents=True)
    rows = []
    for index, gain in enumerate((0.3, 0.02, 0.1)):
        # half a second of silence before and a quarter after: what is cut differs at the ends
        parts = (np.zeros(RATE // 2), gain * draw.normal(0, 0.3, RATE + 999 * index), np.zeros(RATE // 4))
        write_audio(folder / "wavs" / f"u{index}.wav", torch.from_numpy(np.concatenate(parts)).float(), RATE)
        rows.append(
            {"id": f"p/u{index}", "audio": f"wavs/u{index}.wav", "text": f"Nummer {index}, «ü»", "speaker": "ada"}
        )
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    data = flat.make(
        SpeechCorpus, root=str(folder / "list.jsonl"), front_end="characters", language="de", val_size=1, trim_db=40.0,
        pad_seconds=PAD, loudness_dbfs=LEVEL, limits=AudioLimits(max_seconds=9.0),
    )  # fmt: skip
    model = SimpleNamespace(
        load_state_dict=lambda state: None,
        eval=lambda: None,
        # what an acoustic model says, recognisably: the mel plus one
        teacher_forced=lambda batch: [m[:n] + 1 for m, n in zip(batch["mel"], batch["mel_lengths"], strict=True)],
    )
    recipe = SimpleNamespace(build_data=lambda: data, build_model=lambda facts: model)
    state = {"unisono": {"recipe": {}, "facts": {}}, "state_dict": {}}
    monkeypatch.setattr(pairs, "find_training_state", lambda run: run)
    monkeypatch.setattr(pairs, "read_training_state", lambda path: state)
    monkeypatch.setattr(pairs.Recipe, "from_dict", lambda raw: recipe)
    return data


def speech_level(wave):
    power = wave[: len(wave) // 441 * 441].reshape(-1, 441).square().mean(1)
    return float(10 * power[power > power.max() * 1e-3].mean().log10())


def test_pairs_are_what_the_model_was_trained_on(corpus, tmp_path):
    dest = tmp_path / "new" / "pairs"
    assert pairs.write_pairs("run", dest, batch_size=2) == 3
    found = read_manifest(dest / "pairs.jsonl")
    items = [*corpus.train_set.items, *corpus.val_set.items]
    assert sorted((u.id, u.text, u.speaker) for u in found) == sorted(
        (i.utterance.id, i.utterance.text, "ada") for i in items
    )
    for item in items:
        mel = item.features.load("mel")
        said = torch.from_numpy(np.load(dest / f"{item.utterance.id}.npy")).float()
        assert said.shape == mel.shape and torch.allclose(said, mel + 1, atol=1e-2)
        wave, rate = read_audio(dest / f"{item.utterance.id}.wav")
        assert rate == RATE and corpus.mel.frames(len(wave)) == len(mel)
        assert len(wave) / rate == pytest.approx(item.features.facts["seconds"], abs=1e-3)
        assert speech_level(wave) == pytest.approx(LEVEL, abs=0.5)
    # the sentence that was held out is held out again
    held = {u.text for u in found.split(1)[1]}
    assert held == {item.utterance.text for item in corpus.val_set.items}


def test_a_place_that_cannot_be_written_is_one_sentence(corpus, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("sys.argv", ["pairs", "run", str(tmp_path / "file")])
    assert pairs.main() == 2
    said = capsys.readouterr().err
    assert "\nunisono: cannot write" in said and "Traceback" not in said
