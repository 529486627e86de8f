"""Exports: what is written is read back, what travels inside stays, nothing is half-written."""

import errno
import json
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import unisono
import yaml
from refused import refused
from safetensors.torch import load_file, save_file
from trees import files
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.export import (
    Card,
    export_run,
    export_state,
    find_training_state,
    newest_run,
    parse_components,
    read_training_state,
    read_weights,
    save_export,
)
from unisono.export.weights import check_finite, on_disk
from unisono.recipe import Recipe

TEXT = "Out of one, many."


@contextmanager
def limited_memory(more):
    """Let this process take only so many bytes more than it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_an_export_holds_numbers_and_text_and_its_vocoder(voice_export):
    own = ["README.md", "model.safetensors", "recipe.yaml", "unisono.json"]
    assert files(voice_export) == sorted(own + [f"components/vocoder/{name}" for name in own])
    info = json.loads((voice_export / "unisono.json").read_text())
    assert (info["format"], info["plugin"], info["model"], info["api"]) == (
        1,
        "tts",
        "tts/fastpitch",
        "1.4",
    )
    recipe = yaml.safe_load((voice_export / "recipe.yaml").read_text())
    assert recipe["model"]["network"]["dim"] == 32


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
    with refused(CheckpointError, "exists", "voice", names="--overwrite"):
        save_export(voice.model, folder)
    with monkeypatch.context() as patch:
        patch.setattr("unisono.export.write.render_card", lambda *a: 1 / 0)
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
    with refused(CheckpointError, "missing", tmp_path):
        find_training_state(tmp_path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_a_pickle_in_a_training_state_is_not_opened(tmp_path):
    torch.save({"unisono": Bomb()}, tmp_path / "last.ckpt")
    with refused(CheckpointError, "damaged", "last.ckpt"):
        read_training_state(tmp_path / "last.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with refused(CheckpointError, "format", "other.ckpt"):
        read_training_state(tmp_path / "other.ckpt")


@pytest.mark.parametrize("item", ["vocoder", "vocoder=", "=x", ""])
def test_components_on_the_command_line_need_a_role_and_a_place(item):
    assert parse_components(["vocoder=a=b"]) == {"vocoder": "a=b"}
    with refused(RequestError, "format", "component"):
        parse_components([item])


def test_a_device_that_is_not_there_is_named(voice_export):
    with refused(RequestError, "device", "device", value="nonsense", names="'cpu'"):
        unisono.load(voice_export, device="nonsense")


def test_a_missing_folder_is_not_asked_for_on_the_hub(tmp_path):
    for name in ("checkpoints/none", "runs/none", str(tmp_path / "none"), "./a/b", "a/b/c"):
        with refused(CheckpointError, "missing", name):
            unisono.load(name)


def test_a_hub_id_is_fetched_without_what_could_run(voice_export, monkeypatch):
    import huggingface_hub

    asked = {}

    def fetch(name, revision, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(voice_export)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert unisono.load("someone/voice")("Hello").seconds > 0
    assert asked["name"] == "someone/voice"
    assert not any(bad in p for p in asked["patterns"] for bad in (".py", ".bin", ".ckpt", ".pt", ".pkl"))

    def fail(name, revision, allow_patterns):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with refused(CheckpointError, "missing", "someone/voice"):
        unisono.load("someone/voice")


# ---- the whole tree, and nothing that is no file of its own -------------------------------------


@pytest.mark.parametrize("place", ["evil.py", "components/vocoder/sub/evil.py", "components/evil.so", "sub/Makefile"])
def test_nothing_that_runs_lies_anywhere_in_an_export(voice_export, tmp_path, place):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text("print('executed')")
    with refused(CheckpointError, "unsafe", place, names=Path(place).name):
        unisono.load(folder)


@pytest.mark.parametrize("place", ["notes.txt", "components/vocoder/notes.txt", "components/vocoder/sub/notes.txt"])
def test_a_link_is_refused_wherever_it_lies(voice_export, tmp_path, place):
    (tmp_path / "secret").write_text("mine")
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).symlink_to(tmp_path / "secret")
    with refused(CheckpointError, "unsafe", "notes.txt"):
        unisono.load(folder)


def test_what_came_to_lie_in_a_component_after_loading_is_not_exported(voice_export, vocoder_export, tmp_path):
    vocoder = shutil.copytree(vocoder_export, tmp_path / "vocoder")
    model = unisono.load(voice_export, components={"vocoder": str(vocoder)}).model
    (vocoder / "notes.txt").symlink_to("/etc/hostname")
    with refused(CheckpointError, "unsafe", "notes.txt"):
        save_export(model, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    (vocoder / "notes.txt").unlink()
    (vocoder / ".git" / "hooks").mkdir(parents=True)
    (vocoder / ".git" / "hooks" / "evil.py").write_text("")
    again = save_export(model, tmp_path / "again")
    assert files(again) == files(voice_export)


def test_the_links_of_the_hubs_cache_are_its_files(voice_export, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    for number, name in enumerate(files(voice_export)):
        shutil.copy(voice_export / name, blobs / str(number))
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blobs / str(number))
    again = save_export(unisono.load(snapshot).model, tmp_path / "again")
    assert files(again) == files(voice_export)
    assert not any(path.is_symlink() for path in again.rglob("*"))
    (snapshot / "README.md").unlink()
    (snapshot / "README.md").symlink_to("/etc/hostname")
    with refused(CheckpointError, "unsafe", "README.md"):
        unisono.load(snapshot)


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.yaml", "unisono.json", "components/vocoder/x.json"])
def test_a_pipe_does_not_block(voice_export, tmp_path, name):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    code, path = ("format", folder) if name == "unisono.json" else ("unsafe", folder / name)
    with refused(CheckpointError, code, path):
        unisono.load(folder)


def test_a_name_that_is_too_long_is_one_sentence(voice, tmp_path):
    long = "x" * 300
    for attempt in (
        lambda: unisono.load(long),
        lambda: unisono.load(f"{long}/b"),
        lambda: save_export(voice.model, tmp_path / long),
        lambda: find_training_state(long),
        lambda: read_weights(long),
        lambda: export_run(tmp_path / long, tmp_path / "out"),
    ):
        with refused(CheckpointError, "missing", value="File name too long") as caught:
            attempt()
        assert len(str(caught.value)) < 400


# ---- weights and recipe belong together ---------------------------------------------------------


def change_recipe(folder, **network):
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert content["model"]["network"].keys() >= network.keys()
    content["model"]["network"] |= network
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("sizes", [{"encoder_layers": 10**9}, {"dim": 2**22}, {"dim": 2**40}])
def test_a_recipe_that_asks_for_more_than_the_file_holds_is_refused_before_memory_is_taken(
    voice_export, tmp_path, sizes
):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    change_recipe(folder, **sizes)
    with limited_memory(4 * 2**30), refused(CheckpointError, "limit", "model.safetensors"):
        unisono.load(folder)


def test_surplus_missing_and_foreign_weights_are_refused(voice_export, tmp_path):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    whole = load_file(folder / "model.safetensors")
    first = sorted(whole)[0]
    cases = {
        "unknown": ("extra", {**whole, "extra": torch.zeros(2)}),
        "missing": (first, {k: v for k, v in whole.items() if k != first}),
        "shape": (first, {**whole, first: torch.zeros(7, 7, 7)}),
        "type": (first, {**whole, first: torch.zeros_like(whole[first], dtype=torch.int64)}),
    }
    for code, (name, weights) in cases.items():
        save_file(weights, folder / "model.safetensors")
        with refused(CheckpointError, code, folder / "model.safetensors", value=name, names=name):
            unisono.load(folder)


def test_weights_that_are_no_numbers_or_of_another_type_are_refused(voice_export, tmp_path):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    whole = load_file(folder / "model.safetensors")
    first = sorted(name for name, weight in whole.items() if weight.is_floating_point())[0]
    cases = {
        "damaged": torch.full_like(whole[first], torch.inf),
        "conflict": whole[first].bfloat16(),
        "type": whole[first].to(torch.complex64),
    }
    for code, weight in cases.items():
        save_file({**whole, first: weight}, folder / "model.safetensors")
        with refused(CheckpointError, code, "model.safetensors", value=first):
            unisono.load(folder)


@pytest.mark.parametrize(
    ("change", "code", "path", "value"),
    [
        ({"format": True}, "version", "unisono.json", True),
        ({"format": 1.0}, "version", "unisono.json", 1.0),
        ({"facts": []}, "type", "unisono.json", []),
        ({"model": None}, "type", "unisono.json", None),
        ({"plugin": "codec"}, "conflict", "unisono.json", "tts/fastpitch"),
        ({"api": "2.0"}, "version", "unisono.json", "2.0"),
        ({"builtin_components": [1]}, "type", "unisono.json", [1]),
        ({"builtin_components": {"vocoder": ["griffin-lim"]}}, "unknown", "components.vocoder", ["griffin-lim"]),
        ({"builtin_components": {"vocoder": {}}}, "unknown", "components.vocoder", {}),
        ({"builtin_components": {"vocodr": "griffin-lim"}}, "unknown", "components.vocodr", "vocodr"),
    ],
)
def test_an_info_file_of_other_types_is_one_sentence(voice_export, tmp_path, change, code, path, value):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    info = json.loads((folder / "unisono.json").read_text())
    (folder / "unisono.json").write_text(json.dumps({**info, **change}))
    with refused(CheckpointError, code, path, value=value):
        unisono.load(folder)


def test_a_component_that_is_none_is_named(voice_export, tmp_path):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    shutil.rmtree(folder / "components")
    shutil.copytree(folder, tmp_path / "component")
    with pytest.raises(RecipeError, match="is no vocoder"):
        unisono.load(folder, components={"vocoder": str(tmp_path / "component")})
    for place in (None, 5, ["a"]):
        with refused(CheckpointError, "type", value=place):
            unisono.load(place)


def test_loading_leaves_the_global_generator(voice_export):
    before = torch.random.get_rng_state()
    unisono.load(voice_export)
    assert torch.equal(before, torch.random.get_rng_state())


def test_whole_numbers_stay_whole_in_half_exports(voice, tmp_path):
    counts = torch.tensor([1, 2**40 + 1])  # neither fits into half precision
    written = on_disk({"counts": counts, "flags": torch.tensor([True]), "w": torch.tensor([1.5])}, "float16")
    assert torch.equal(written["counts"], counts) and written["counts"].dtype == torch.int64
    assert written["flags"].dtype == torch.bool and written["w"].dtype == torch.float16


def test_training_only_weights_stay_behind(voice):
    weights = {"aligner.query.weight": torch.zeros(2), "encoder.weight": torch.ones(2), "aligners": torch.ones(1)}
    assert export_state(SimpleNamespace(training_only=("aligner.",)), weights).keys() == {"encoder.weight", "aligners"}
    assert export_state(SimpleNamespace(), weights).keys() == weights.keys()


def test_weights_that_are_not_finite_are_not_exported(voice, tmp_path):
    """Infinity in a weight that is learnt, NaN in any; a mask may hold infinity."""
    name = next(name for name, _ in voice.model.named_parameters() if name in export_state(voice.model))
    for wrong in (torch.inf, torch.nan):
        state = {k: v.clone() for k, v in voice.model.state_dict().items()}
        state[name].view(-1)[0] = wrong
        with refused(CheckpointError, "damaged", name, value=1, names=name):
            save_export(voice.model, tmp_path / "voice", state=state)
        assert list(tmp_path.iterdir()) == []
    check_finite({"mask": torch.tensor([0.0, -torch.inf]), "step": torch.tensor([3])}, {"weight"}, "float32")
    with refused(CheckpointError, "damaged", "mask", value=1):
        check_finite({"mask": torch.tensor([0.0, torch.nan])}, set(), "float32")
    with refused(CheckpointError, "damaged", "w", names="export as float32"):
        check_finite(on_disk({"w": torch.tensor([1e6])}, "float16"), {"w"}, "float16")


def test_a_component_given_for_an_export_comes_before_the_recipes(voice_run, tmp_path):
    state = torch.load(find_training_state(voice_run), weights_only=True)
    state["unisono"]["recipe"]["components"] = {"vocoder": str(tmp_path / "gone")}
    torch.save(state, tmp_path / "x.ckpt")
    with refused(CheckpointError, "missing", "gone"):
        export_run(tmp_path / "x.ckpt", tmp_path / "out")
    folder = export_run(tmp_path / "x.ckpt", tmp_path / "out", components={"vocoder": "griffin-lim"})
    assert json.loads((folder / "unisono.json").read_text())["builtin_components"] == {"vocoder": "griffin-lim"}


def test_a_component_named_in_an_export_is_a_built_in_one(voice_export, vocoder_export, tmp_path):
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    info = json.loads((folder / "unisono.json").read_text())
    elsewhere = {**info, "builtin_components": {"vocoder": str(vocoder_export)}}
    (folder / "unisono.json").write_text(json.dumps(elsewhere))
    with refused(CheckpointError, "unknown", "components.vocoder", value=str(vocoder_export)):
        unisono.load(folder)


def test_a_folder_that_is_no_export_is_not_overwritten(voice, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with refused(CheckpointError, "exists", "mine", names="choose another folder"):
        save_export(voice.model, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with refused(CheckpointError, "exists", "thesis.txt"):
        save_export(voice.model, tmp_path / "mine" / "thesis.txt", overwrite=True)
    with refused(CheckpointError, "unknown", "dtype", value="int8", names="bfloat16"):
        save_export(voice.model, tmp_path / "new", dtype="int8")


# ---- facts and training states ------------------------------------------------------------------


def test_facts_are_checked_before_the_first_step(tmp_path, monkeypatch):
    from unisono.train import train
    from unisono_text.corpus.data import TextData

    describe = TextData.describe
    monkeypatch.setattr(TextData, "describe", lambda self: {**describe(self), "mean": np.float32(1)})
    with refused(DataError, "type", "facts['mean']", value="numpy.float32"):
        train(Recipe.read("text/mdlm-tiny", [f"--run.dir={tmp_path}"]), progress=False)
    assert list(tmp_path.iterdir()) == []


def test_half_of_a_surrogate_pair_in_a_card_ends_no_export(voice, tmp_path):
    folder = save_export(voice.model, tmp_path / "voice", card=Card(title="a \ud83d box"))
    assert unisono.load(folder).info["card"]["title"] == "a \ud83d box"


def test_the_newest_state_is_taken_where_the_last_is_missing(voice_run, tmp_path):
    run = shutil.copytree(voice_run, tmp_path / "run")
    states = run / "checkpoints"
    (states / "last.ckpt").unlink()
    (kept,) = states.glob("*.ckpt")
    for step, age in ((9, 1000), (12, 3000), (100, 2000)):
        shutil.copy(kept, states / f"{step}.ckpt")
        os.utime(states / f"{step}.ckpt", (age, age))
    assert find_training_state(run).name == "100.ckpt"  # copying changes times, not steps
    for path in states.glob("*.ckpt"):
        path.unlink()
    for name, age in (("old", 1000), ("new", 3000), ("middle", 2000)):
        (states / f"{name}.ckpt").write_text("")
        os.utime(states / f"{name}.ckpt", (age, age))
    assert find_training_state(run).name == "new.ckpt"


def test_the_newest_run_is_the_one_of_the_highest_number(tmp_path):
    for number in ("0002", "10000", "9999", "²"):
        (tmp_path / number / "checkpoints").mkdir(parents=True)
        (tmp_path / number / "checkpoints" / "last.ckpt").write_text("")
    assert newest_run(tmp_path, "checkpoints/*.ckpt").name == "10000"


@pytest.mark.parametrize(
    ("changes", "code", "value"),
    [
        ({"unisono": [1]}, "damaged", "unisono"),
        ({"unisono": {"facts": {}}}, "damaged", "unisono.recipe"),
        ({"unisono": {"recipe": {}, "facts": 3}}, "damaged", "unisono.facts"),
        ({"state_dict": 3}, "damaged", "state_dict"),
        ({"state_dict": {"x": 1}}, "conflict", None),
        ({"state_dict": {"x": torch.zeros(2)}}, "conflict", None),
    ],
)
def test_a_damaged_training_state_is_one_sentence(voice_run, tmp_path, changes, code, value):
    state = torch.load(find_training_state(voice_run), weights_only=True)
    torch.save({**state, **changes}, tmp_path / "x.ckpt")
    with refused(CheckpointError, code, "x.ckpt", value=value):
        export_run(tmp_path / "x.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch, tmp_path):
    from huggingface_hub import errors

    def fail(error):
        def fetch(*args, **kwargs):
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)

    for error, told in (
        (errors.LocalEntryNotFoundError("…"), "the hub cannot be reached; connect once, or give a folder"),
        (errors.OfflineModeIsEnabled("…"), "the hub cannot be reached; connect once, or give a folder"),
        (errors.HFValidationError("…"), "a hub id is owner/name"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device; give a folder"),
    ):
        fail(error)
        with refused(CheckpointError, "missing", "org/name", names=told):
            unisono.load("org/name")
