"""The verbs: each does what it says, in this process and in others; wrong input is in wrong_input/."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import unisono
import yaml
from unisono.cli import VERBS, main

TINY = (
    "--data.num_sentences=6",
    "--data.num_processes=1",
    "--run.preview_seconds=0",
    "--no-progress",
)


def test_help_lists_every_verb(command):
    shown = command("--help")
    assert shown.code == 0
    for verb, what in VERBS.items():
        assert re.search(rf"^ +{verb}\s", shown.out, re.MULTILINE)
        assert what.split(",")[0] in " ".join(shown.out.split())
    assert command("--version").out == f"unisono {unisono.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(command, verb):
    shown = command(verb, "--help")
    assert shown.code == 0
    assert shown.out.startswith(f"usage: unisono {verb}")


def test_no_verb_and_an_unknown_verb(command):
    assert command().code == 2
    wrong = command("generat")
    assert wrong.code == 2
    assert "invalid choice: 'generat'" in wrong.err
    wrong = command("plugins", "--strikt")
    assert wrong.code == 2
    assert "unknown argument '--strikt'; see unisono plugins --help" in wrong.err


def test_a_dry_run_shows_everything_and_writes_nothing(command, tmp_path):
    done = command("train", "tts/fastpitch-tiny", *TINY, f"--run.dir={tmp_path}", "--dry-run", "--model.dim=16")
    assert done.code == 0
    assert "dim: 16" in done.out
    assert "audit" in done.out
    assert "tts/fastpitch: " in done.out
    assert "dry run, nothing was trained" in done.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [["--data.batch_size=999"], ["--data.batch_size=7"]])
def test_a_dry_run_refuses_what_training_refuses(command, tmp_path, flags):
    recipe = ("train", "tts/fastpitch-tiny", *TINY, f"--run.dir={tmp_path}", *flags)
    dry, wet = command(*recipe, "--dry-run"), command(*recipe)
    assert (dry.code, wet.code) == (2, 2)
    assert dry.err.splitlines()[-1] == wet.err.splitlines()[-1]
    assert "cannot fill one batch" in dry.err
    assert list(tmp_path.iterdir()) == []


def test_train_resume_export_and_speak(command, tmp_path):
    recipe = ("train", "tts/fastspeech-tiny", *TINY, f"--run.dir={tmp_path / 'runs'}")
    done = command(*recipe)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "tts-fastspeech-tiny" / "0001"
    assert f"run: {run}" in done.out
    assert f"next: unisono export {run} DEST" in done.out
    assert yaml.safe_load((run / "recipe.yaml").read_text())["data"]["made"]["num_sentences"] == 6
    assert json.loads((run / "audit.json").read_text())["kept"] == 6

    again = command(*recipe, "--trainer.max_steps=4", "--resume")
    assert again.code == 0, again.err
    assert f"run: {run}\n" in again.out
    import torch

    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4

    done = command("export", run, tmp_path / "voice", "--title=Tiny", "--licence=CC0", "--dtype=float16")
    assert (done.code, done.out) == (0, f"export: {tmp_path / 'voice'}\n")
    assert unisono.load(tmp_path / "voice").info["card"]["title"] == "Tiny"
    blocked = command("export", run, tmp_path / "voice")
    assert blocked.code == 2
    assert "add --overwrite" in blocked.err
    assert command("export", run, tmp_path / "voice", "--overwrite").code == 0
    assert command("generate", tmp_path / "voice", "Hello", "-o", tmp_path / "x.wav").code == 0


def test_a_component_travels_inside(command, voice_run, vocoder_export, tmp_path):
    vocoder = shutil.copytree(vocoder_export, tmp_path / "vocoder")
    (tmp_path / "metrics.json").write_text('{"WER": 0.25}')
    flags = ("--component", f"vocoder={vocoder}", "--metrics", tmp_path / "metrics.json")
    assert command("export", voice_run, tmp_path / "voice", *flags).code == 0
    shutil.rmtree(vocoder)
    moved = shutil.move(tmp_path / "voice", tmp_path / "moved")
    assert command("generate", moved, "Hello there", "-o", tmp_path / "x.wav").code == 0
    assert unisono.load(moved).info["card"]["metrics"] == {"WER": 0.25}
    assert type(unisono.load(moved).model.vocoder).__name__ == "Vocos"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_type_of_the_weights_is_the_one_asked_for(command, voice_run, tmp_path, dtype):
    import torch
    from safetensors.torch import load_file

    assert command("export", voice_run, tmp_path / "voice", f"--dtype={dtype}").code == 0
    weights = load_file(tmp_path / "voice" / "model.safetensors")
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {getattr(torch, dtype)}
    assert json.loads((tmp_path / "voice" / "unisono.json").read_text())["dtype"] == dtype


def test_recipes_are_listed_copied_and_trained_by_path(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    listed = command("recipes")
    assert listed.code == 0
    for name in ("tts/quickstart", "tts/fastpitch-ljspeech", "codec/vocos-ljspeech"):
        assert name in listed.out
    done = command("recipes", "copy", "tts/fastpitch-tiny", "mine")
    path = Path("mine") / "tts-fastpitch-tiny.yaml"
    assert (done.code, done.out) == (0, f"{path}\nnext: unisono train {path}\n")
    assert command("recipes", "show", "tts/fastpitch-tiny").out == path.read_text()
    assert command("train", path, *TINY, "--dry-run").code == 0
    twice = command("recipes", "copy", "tts/fastpitch-tiny", path)
    assert twice.code == 2
    assert "exists: give another name" in twice.err
    missing = command("recipes", "copy", "tts/fastpitch-tny", "other.yaml")
    assert missing.code == 2
    assert "did you mean 'tts/fastpitch-tiny'?" in missing.err


def test_data_audit(command, tmp_path):
    report = tmp_path / "audit.json"
    done = command("data", "audit", "tts/fastpitch-tiny", *TINY[:2], "--no-progress", "--json", report)
    assert done.code == 0
    assert "kept, plain" in done.out or "kept" in done.out
    audit = json.loads(report.read_text())
    assert (audit["kept"], audit["dropped"]) == (6, [])
    assert audit["unit"] == "hours" and 0 < audit["amount"] < 0.1


def test_plugins(command):
    done = command("plugins", "--strict")
    assert done.code == 0
    for part in ("tts", "codec", "unisono", "1.0", "Text to speech in one pass"):
        assert part in done.out


def test_names_that_point_nowhere_are_told(monkeypatch):
    from unisono.cli.plugins import pointing_nowhere
    from unisono.plugin import Plugin, Verb

    good = {"fine": "json:loads"}
    plugin = Plugin(
        name="toy", api="1.0", summary="", models={**good, "gone": "unisono.nowhere:Model"},
        data={"no": "json:nothing"},
        evaluators={"fine": "json:loadz", "other": "json:loads"}, sweeps={"fine": "unisono.evaluation:nothing"},
        verbs={"hum": Verb("json", "hums")}, importers={"x": "json:__name__"}, recipes="unisono_recipes_gone",
    )  # fmt: skip
    told = list(pointing_nowhere(plugin))
    assert [sentence.split(" points")[0].split(" is none")[0].split(" cannot")[0] for sentence in told] == [
        "toy: models: 'gone'", "toy: data: 'no'", "toy: evaluators: 'fine'", "toy: sweeps: 'fine'",
        "toy: importers: 'x'", "toy: verbs: 'hum'", "toy: evaluators: 'other'", "toy: recipes: 'unisono_recipes_gone'",
    ]  # fmt: skip

    def needs_more(target):
        raise ModuleNotFoundError("No module named 'diffusers'", name="diffusers")

    monkeypatch.setattr("unisono.plugin.import_string", needs_more)  # an extra that is not installed is no fault
    assert list(pointing_nowhere(Plugin(name="toy", api="1.0", summary="", models=good))) == []


def test_doctor(command):
    done = command("doctor")
    assert done.code == 0
    for part in (
        f"unisono      {unisono.__version__}",
        "python ",
        "torch ",
        "cpu ",
        "plugin       tts (unisono",
    ):
        assert part in done.out


@pytest.mark.parametrize(
    ("torch_version", "cuda", "audio", "failure", "told"),
    [
        ("2.14.1+cu130", "13.0", "2.11.1+cu132", None, None),
        ("2.14.1", None, "2.11.1", None, None),  # macOS
        ("2.14.1+cpu", None, "2.11.1+cpu", None, None),
        ("2.14.1+cpu", None, "2.11.1", "OSError: libcudart.so.13", "built for CUDA and torch 2.14.1+cpu for CPUs only"),
        ("2.14.1+cpu", None, "2.11.1+cu132", None, "built for CUDA and torch 2.14.1+cpu for CPUs only"),
        ("2.14.1+cu126", "12.6", "2.11.1+cu132", None, "CUDA 13 and torch 2.14.1+cu126 for CUDA 12.6"),
        ("2.14.1+cu130", "13.0", "2.11.1+cpu", None, "built for CPUs only and torch"),
        ("2.9.0+cu130", "13.0", "2.11.1+cu132", "ImportError: symbol", "cannot be imported beside torch 2.9.0"),
        ("2.14.1+cu130", "13.0", "not installed", None, None),
    ],
)
def test_builds_that_do_not_fit_together_are_told(torch_version, cuda, audio, failure, told):
    from unisono.cli.doctor import unfit

    found = unfit(torch_version, cuda, audio, failure)
    assert (
        found is None if told is None else told in found and "pip install --force-reinstall torch torchaudio" in found
    )


def test_doctor_lists_what_plugins_need(command, monkeypatch):
    from unisono.cli.doctor import required

    needed = set(required("unisono"))
    assert ("torch", "") in needed and ("diffusers", "image") in needed and ("nothing", "") not in needed
    assert list(required("a-distribution-that-is-not-installed")) == []
    shown = command("doctor").out
    assert "diffusers" in shown and "(extra image)" in shown


def test_a_process_of_its_own(voice_export, tmp_path):
    command = [sys.executable, "-m", "unisono", "generate", voice_export, "Hello", "--pace=0"]
    wrong = subprocess.run([*command, "-o", tmp_path / "x.wav"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 2
    assert wrong.stderr == "unisono: pace=0: input should be greater than or equal to 0.25\n"
    assert wrong.stdout == ""


@pytest.mark.slow
def test_two_processes_that_lightning_starts_share_one_run(tmp_path):
    command = [sys.executable, "-m", "unisono", "train", "text/mdlm-tiny", "--no-progress", f"--run.dir={tmp_path}"]
    flags = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp", "--run.preview_seconds=0"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [folder.name for folder in (tmp_path / "text-mdlm-tiny").iterdir()] == ["0001"]
    assert done.stdout.count("run: ") == 1  # the second process says nothing


def test_the_run_that_others_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_RUN_DIR", str(tmp_path / "theirs"))
    assert main(["train", "text/mdlm-tiny", "--no-progress", f"--run.dir={tmp_path / 'mine'}"]) == 0
    assert (tmp_path / "theirs/recipe.yaml").exists() and not (tmp_path / "mine").exists()


def test_the_installed_command():
    script = Path(sys.executable).with_name("unisono")
    if not script.exists():
        pytest.skip("the package is not installed in this environment, only on its path")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"unisono {unisono.__version__}\n",
        "",
    )
