"""The command line: each verb does what it says; errors are in wrong_input/."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import unisono
import yaml
from unisono.cli import VERBS, main

TINY = (
    "--data.num_sentences=6",
    "--data.num_processes=1",
    "--run.preview_seconds=0",
    "--no-progress",
)


@dataclass
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capfd, monkeypatch) -> Callable[..., Outcome]:
    """Return a function that runs ``unisono …`` in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: object) -> Outcome:
        capfd.readouterr()
        try:
            code = main([str(item) for item in argv])
        except SystemExit as stop:  # argparse: --help, --version, usage
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(code, captured.out, captured.err)

    return run


# ---- help --------------------------------------------------------------------------------------


def test_help_lists_every_verb(command):
    shown = command("--help")
    assert shown.code == 0
    for verb, what in VERBS.items():
        assert f"{verb} " in shown.out
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


def test_help_of_generate_explains_the_fields_of_a_checkpoint(command, voice_export):
    shown = command("generate", voice_export, "--help")
    assert shown.code == 0
    assert "fields of tts/fastpitch's request:" in shown.out
    assert "higher or lower, in semitones (≥ -12, ≤ 12, default 0.0)" in shown.out
    wrong = command("generate", "/nowhere", "--help")
    assert wrong.code == 2
    assert "no export at '/nowhere'" in wrong.err


# ---- generate ----------------------------------------------------------------------------------


def test_one_text(command, voice, voice_export, tmp_path):
    output, picture = tmp_path / "new" / "out.wav", tmp_path / "out.png"
    fields = ("--pace=1.5", "--pitch-shift", "-3", "--speaker=lj", "--pitch_range=0.5")
    done = command("generate", voice_export, "So it goes.", *fields, "-o", output, "--plot", picture)
    assert (done.code, done.out.split()) == (0, [str(output), str(picture)])
    samples, rate = soundfile.read(output)
    wanted = voice("So it goes.", pace=1.5, pitch_shift=-3, speaker="lj", pitch_range=0.5)
    assert rate == wanted.sample_rate
    np.testing.assert_allclose(samples, wanted.waveform[0].clip(-1, 1), atol=2**-14)
    assert picture.stat().st_size > 1000


def test_flags_and_text_in_any_order(command, voice_export, tmp_path):
    sounds = []
    for index, arguments in enumerate(
        (
            [voice_export, "So it goes.", "--pace=2", "-o", "X"],
            [voice_export, "-o", "X", "So it goes.", "--pace", "2"],
            [voice_export, "--pace", "2", "So it goes.", "-o", "X"],
            ["--output=X", voice_export, "--text", "So it goes.", "--pace=2"],
        )
    ):
        output = tmp_path / f"{index}.wav"
        assert (
            command(
                "generate",
                *(str(a).replace("X", str(output)) if "X" in str(a) else a for a in arguments),
            ).code
            == 0
        )
        sounds.append(output.read_bytes())
    assert len(set(sounds)) == 1


def test_the_schema_of_a_request(command, voice, voice_export):
    shown = command("generate", voice_export, "--schema")
    assert shown.code == 0
    assert json.loads(shown.out) == voice.model.Request.model_json_schema()


@pytest.fixture
def many(command, voice_export, tmp_path):
    """Return a function that runs a file of lines, and the folder that it writes."""
    folder = tmp_path / "out"

    def run(text: str, *flags: object) -> Outcome:
        (tmp_path / "lines.txt").write_text(text, encoding="utf-8")
        return command(
            "generate",
            voice_export,
            "--input",
            tmp_path / "lines.txt",
            "--output-dir",
            folder,
            *flags,
        )

    run.folder = folder
    return run


def test_many_lines_of_text_and_json(many, voice):
    lines = [
        "The first line.",
        "",
        json.dumps({"text": "Second.", "speaker": "lj", "pace": 0.5}),
        "A third one, longer.",
    ]
    done = many("\n".join(lines), "--pace=2", "--batch-size=2", "--suffix=.flac")
    assert done.code == 0
    assert done.out == f"3 written, 0 kept from before, 0 failed: {many.folder}\n"
    assert sorted(p.name for p in many.folder.iterdir()) == ["0001.flac", "0003.flac", "0004.flac"]
    wanted = {
        "0001": voice("The first line.", pace=2.0),
        "0003": voice("Second.", speaker="lj", pace=0.5),  # a line's own fields win
        "0004": voice("A third one, longer.", pace=2.0),
    }
    for name, audio in wanted.items():
        samples, _ = soundfile.read(many.folder / f"{name}.flac")
        np.testing.assert_allclose(samples, audio.waveform[0].clip(-1, 1), atol=2**-14)


BAD_LINES = {
    "Hi 🎉": "'🎉' (U+1F389 PARTY POPPER)",
    "🎉": "the text '🎉' holds neither letters nor digits: give at least one word",
    "…": "holds punctuation only",
    '{"text": "Hi", "pace": 9}': "pace=9: input should be less than or equal to 4",
    '{"text": "Hi", "pase": 1}': "unknown field 'pase' (did you mean 'pace'?)",
    '{"text": "Hi", "pace": NaN}': "pace=nan: input should be a finite number",
    '{"text": "Hi"': "not a JSON object",
    '{"text": "Hi", "speaker": "nobody"}': "unknown speaker 'nobody' (known: kathleen, lj)",
    '{"speaker": "lj"}': "text is required",
}


def test_bad_lines_are_reported_and_the_others_go_on(many):
    lines = ["Good one."]
    for line in BAD_LINES:
        lines += [line, "Another good one."]
    done, bad = many("\n".join(lines)), len(BAD_LINES)
    assert done.code == 1
    assert done.out == f"{bad + 1} written, 0 kept from before, {bad} failed: {many.folder}\n"
    reports = done.err.strip().splitlines()
    assert len(reports) == len(BAD_LINES)
    for index, (report, reason) in enumerate(zip(reports, BAD_LINES.values(), strict=True)):
        assert report.startswith(f"line {2 * index + 2}: ")
        assert reason in report
    assert {p.name for p in many.folder.iterdir()} == {f"{n:04d}.wav" for n in range(1, len(lines) + 1, 2)}


def test_it_resumes_where_it_stopped(many):
    text = "One.\nTwo.\nThree.\n"
    many(text)
    (many.folder / "0002.wav").unlink()
    before = (many.folder / "0001.wav").stat().st_mtime_ns
    (many.folder / ".part-0002.wav").write_text("left by an interruption")
    done = many(text)
    assert (done.code, done.out) == (0, f"1 written, 2 kept from before, 0 failed: {many.folder}\n")
    assert sorted(p.name for p in many.folder.iterdir()) == ["0001.wav", "0002.wav", "0003.wav"]
    assert (many.folder / "0001.wav").stat().st_mtime_ns == before


def test_nothing_to_do(many):
    done = many("\n\n")
    assert (done.code, done.out) == (0, f"0 written, 0 kept from before, 0 failed: {many.folder}\n")


# ---- train and export --------------------------------------------------------------------------


def test_a_dry_run_shows_everything_and_writes_nothing(command, tmp_path):
    done = command("train", "tts/fastpitch-tiny", *TINY, f"--run.dir={tmp_path}", "--dry-run", "--model.dim=16")
    assert done.code == 0
    assert "dim: 16" in done.out
    assert "audit" in done.out
    assert "tts/fastpitch: " in done.out
    assert "dry run, nothing was trained" in done.out
    assert list(tmp_path.iterdir()) == []


def test_train_resume_export_and_speak(command, tmp_path):
    recipe = ("train", "tts/fastspeech-tiny", *TINY, f"--run.dir={tmp_path / 'runs'}")
    done = command(*recipe)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "tts-fastspeech-tiny" / "0001"
    assert f"run: {run}" in done.out
    assert f"next: unisono export {run} DEST" in done.out
    assert yaml.safe_load((run / "recipe.yaml").read_text())["data"]["num_sentences"] == 6
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


# ---- the rest ----------------------------------------------------------------------------------


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


def test_a_process_of_its_own(voice_export, tmp_path):
    command = [sys.executable, "-m", "unisono", "generate", voice_export, "Hello", "--pace=0"]
    wrong = subprocess.run([*command, "-o", tmp_path / "x.wav"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 2
    assert wrong.stderr == "unisono: pace=0: input should be greater than or equal to 0.25\n"
    assert wrong.stdout == ""


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
