"""Exports: what is written is read back, what travels inside stays, nothing is half-written."""

import json
import shutil

import numpy as np
import pytest
import torch
import unisono
import yaml
from safetensors.torch import load_file
from unisono.checkpoint import (
    Card,
    export_run,
    export_state,
    find_training_state,
    parse_components,
    read_training_state,
    save_export,
)
from unisono.errors import CheckpointError, RequestError

TEXT = "Out of one, many."


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_an_export_holds_numbers_and_text_and_its_vocoder(voice_export):
    own = ["README.md", "model.safetensors", "recipe.yaml", "unisono.json"]
    assert files(voice_export) == sorted(own + [f"components/vocoder/{name}" for name in own])
    info = json.loads((voice_export / "unisono.json").read_text())
    assert (info["format"], info["plugin"], info["model"], info["api"]) == (
        1,
        "tts",
        "tts/fastpitch",
        "1.0",
    )
    recipe = yaml.safe_load((voice_export / "recipe.yaml").read_text())
    assert recipe["model"]["dim"] == 32


def test_what_is_loaded_speaks_as_what_was_exported(voice, voice_export):
    loaded = unisono.load(voice_export)
    for name, weight in export_state(voice.model).items():
        assert torch.equal(weight, loaded.model.state_dict()[name]), name
    np.testing.assert_array_equal(loaded(TEXT, speaker="lj").waveform, voice(TEXT, speaker="lj").waveform)
    assert not any(p.requires_grad for p in loaded.model.vocoder.parameters())


@pytest.mark.parametrize(("dtype", "relative"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_precision_is_for_the_disk_only(voice, voice_export, tmp_path, dtype, relative):
    folder = save_export(voice.model, tmp_path / "half", dtype=dtype)
    for part in ("", "components/vocoder"):
        half, full = (load_file(f / part / "model.safetensors") for f in (folder, voice_export))
        assert {t.dtype for t in half.values()} == {getattr(torch, dtype)}
        for name, weight in full.items():
            # Rounding to the nearest, and below the smallest normal number, to 2^-25.
            torch.testing.assert_close(half[name].float(), weight, rtol=relative, atol=2**-24)
    loaded = unisono.load(folder)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    again = save_export(loaded.model, tmp_path / "again", dtype=dtype)
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(load_file(f / "model.safetensors").values() for f in (folder, again)), strict=True)
    )
    assert loaded(TEXT).seconds == pytest.approx(voice(TEXT).seconds, abs=0.1)


def test_a_replaced_state_is_what_is_written(voice, tmp_path):
    state = {name: torch.zeros_like(weight) for name, weight in voice.model.state_dict().items()}
    folder = save_export(voice.model, tmp_path / "zeros", state=state)
    assert all(not weight.any() for weight in load_file(folder / "model.safetensors").values())


def test_an_existing_folder_is_replaced_only_when_asked_and_only_by_a_whole_one(voice, tmp_path, monkeypatch):
    folder = save_export(voice.model, tmp_path / "voice")
    (folder / "mine.txt").write_text("keep me")
    with pytest.raises(CheckpointError, match="exists and is not empty: choose another folder or add --overwrite"):
        save_export(voice.model, folder)
    with monkeypatch.context() as patch:
        patch.setattr("unisono.checkpoint.render_card", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_export(voice.model, folder, overwrite=True)
    assert (folder / "mine.txt").read_text() == "keep me"
    unisono.load(folder)
    save_export(voice.model, folder, overwrite=True)
    assert "mine.txt" not in files(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["voice"]


def test_the_card_says_what_was_said(voice, tmp_path):
    card = Card(
        title="Kathleen",
        data="78 minutes",
        licence="CC0",
        hardware="one core",
        metrics={"WER": "25 %"},
        notes="Soft.",
    )
    folder = save_export(voice.model, tmp_path / "voice", card=card)
    text = (folder / "README.md").read_text()
    for part in (
        "Kathleen",
        "78 minutes",
        "CC0",
        "one core",
        "| WER | 25 % |",
        "Soft.",
        "tts/fastpitch",
    ):
        assert part in text
    assert unisono.load(folder).info["card"]["licence"] == "CC0"


def test_a_run_becomes_an_export_that_stands_alone(voice_run, vocoder_export, tmp_path):
    vocoder = shutil.copytree(vocoder_export, tmp_path / "vocoder")
    folder = export_run(voice_run, tmp_path / "voice", components={"vocoder": str(vocoder)})
    before = unisono.load(folder)(TEXT)
    shutil.rmtree(vocoder)
    moved = shutil.move(folder, tmp_path / "elsewhere")
    np.testing.assert_array_equal(unisono.load(moved)(TEXT).waveform, before.waveform)
    text = "".join(p.read_text() for p in moved.rglob("*") if p.suffix in (".json", ".yaml", ".md"))
    assert str(tmp_path) not in text  # no folder of the machine that made it


def test_an_export_of_an_export_keeps_the_component(voice_export, tmp_path):
    again = save_export(unisono.load(voice_export).model, tmp_path / "again")
    assert files(again) == files(voice_export)
    np.testing.assert_array_equal(unisono.load(again)(TEXT).waveform, unisono.load(voice_export)(TEXT).waveform)


def test_a_component_can_be_replaced_while_loading(voice_export, vocoder_export):
    loaded = unisono.load(voice_export, components={"vocoder": "griffin-lim"})
    assert type(loaded.model.vocoder).__name__ == "GriffinLim"
    loaded = unisono.load(voice_export, components={"vocoder": str(vocoder_export)})
    assert type(loaded.model.vocoder).__name__ == "Vocos"


def test_training_states_are_found_and_read_without_running_anything(voice_run, tmp_path):
    path = find_training_state(voice_run)
    assert path == find_training_state(path)
    assert read_training_state(path)["unisono"]["recipe"]["model"]["name"] == "tts/fastpitch"
    with pytest.raises(CheckpointError, match=r"no training checkpoint under .*: give a run folder or a .ckpt file"):
        find_training_state(tmp_path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_a_pickle_in_a_training_state_is_not_opened(tmp_path):
    torch.save({"unisono": Bomb()}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read weights-only"):
        read_training_state(tmp_path / "last.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not a training checkpoint of unisono"):
        read_training_state(tmp_path / "other.ckpt")


@pytest.mark.parametrize("item", ["vocoder", "vocoder=", "=x", ""])
def test_components_on_the_command_line_need_a_role_and_a_place(item):
    assert parse_components(["vocoder=a=b"]) == {"vocoder": "a=b"}
    with pytest.raises(RequestError, match="is not ROLE=WHERE"):
        parse_components([item])


def test_a_device_that_is_not_there_is_named(voice_export):
    with pytest.raises(RequestError, match=r"device 'nonsense' cannot be used: .*; take 'cpu'"):
        unisono.load(voice_export, device="nonsense")


def test_a_missing_folder_is_not_asked_for_on_the_hub(tmp_path):
    for name in ("checkpoints/none", "runs/none", str(tmp_path / "none"), "none", "./a/b", "a/b/c"):
        with pytest.raises(CheckpointError, match=r"no export at .*: the folder does not exist"):
            unisono.load(name)


def test_a_hub_id_is_fetched_without_what_could_run(voice_export, monkeypatch):
    import huggingface_hub

    asked = {}

    def fetch(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(voice_export)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert unisono.load("someone/voice")("Hello").seconds > 0
    assert asked["name"] == "someone/voice"
    assert not any(bad in p for p in asked["patterns"] for bad in (".py", ".bin", ".ckpt", ".pt", ".pkl"))

    def fail(name, allow_patterns):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="'someone/voice' is neither a folder nor a hub id"):
        unisono.load("someone/voice")
