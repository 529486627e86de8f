"""The command line: each verb does what it says; errors are in wrong_input/."""

import json
import os
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
    "Hi мир": "'м' (U+043C CYRILLIC SMALL LETTER EM)",
    "🎉": "the text '🎉' holds neither letters nor digits: give at least one word",
    "…": "holds punctuation only",
    '{"text": "Hi", "pace": 9}': "pace=9: input should be less than or equal to 4",
    '{"text": "Hi", "pase": 1}': "unknown field 'pase' (did you mean 'pace'?)",
    '{"text": "Hi", "pace": NaN}': "pace=nan: input should be a finite number",
    '{"text": "Hi"': "not a JSON object",
    '{"text": "Hi", "seed": 1, "seed": 2}': "stands twice in one object",
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


# ---- many: what is read, what is kept ----------------------------------------------------------


def test_a_byte_order_mark_and_line_ends_change_nothing(many, command, voice_export, tmp_path):
    source = tmp_path / "marked.txt"
    lines = ['{"text": "First.", "speaker": "lj"}', "A form\x0cfeed and a line\u2028separator\x85here.", "Third."]
    (tmp_path / "other.txt").write_text('\ufeff{"text": "First.", "speaker": "lj"}', encoding="utf-8")
    source.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n\xef\xbb\xbf" + lines[0].encode())
    done = command("generate", voice_export, "--input", source, "--output-dir", many.folder, "--pace=4")
    names = {path.name for path in many.folder.iterdir()}
    assert {"0001.wav", "0003.wav", "0004.wav"} <= names <= {"0001.wav", "0002.wav", "0003.wav", "0004.wav"}, done.err
    assert (many.folder / "0001.wav").read_bytes() == (many.folder / "0004.wav").read_bytes()


@pytest.mark.parametrize("coding", ["utf-16", "utf-32", "latin-1"])
def test_another_encoding_is_named(command, voice_export, tmp_path, coding):
    (tmp_path / "lines.txt").write_bytes("café\n".encode(coding))
    done = command("generate", voice_export, "--input", tmp_path / "lines.txt", "--output-dir", tmp_path / "out")
    assert done.code == 2 and "cannot be read as UTF-8 text" in done.err and "save it as UTF-8" in done.err


def test_what_no_json_reader_survives_fails_alone(many):
    bad = ['{"seed": 9' + "9" * 5000 + "}", '{"text": ' + "[" * 100_000, '{"text": "half \\ud83d"}', '{"text": [1]}']
    done = many("\n".join(["Good one.", *bad, "Another."]), "--pace=4")
    assert (done.code, done.out.split(":")[0]) == (1, "2 written, 0 kept from before, 4 failed")
    assert all(len(line) < 300 for line in done.err.splitlines())


def sound(path):
    return soundfile.read(path)[0]


def test_an_output_of_another_line_flag_or_model_is_made_anew(many, command, voice_export, vocoder_export, tmp_path):
    many("One.\nTwo, and more of it.\n", "--pace=2")
    first, second = many.folder / "0001.wav", many.folder / "0002.wav"
    before = first.stat().st_mtime_ns, len(sound(second))
    done = many("One.\nTwo, and much, much more of it than there was.\n", "--pace=2")
    assert done.out.startswith("1 written, 1 kept from before, 0 failed")
    assert "1 were there and are made anew" in done.out
    assert first.stat().st_mtime_ns == before[0] and len(sound(second)) > before[1]
    done = many("One.\nTwo.\n", "--pace=2", "--speaker=lj")
    assert done.out.startswith("2 written, 0 kept")
    assert many("One.\nTwo.\n", "--pace=2", "--speaker=lj").out.startswith("0 written, 2 kept")
    other = many("One.\nTwo.\n", "--pace=2", "--speaker=lj", "--component=vocoder=griffin-lim")
    assert other.out.startswith("2 written, 0 kept")
    assert sorted(path.name for path in many.folder.iterdir()) == ["0001.wav", "0002.wav"]


def test_an_empty_output_is_not_done_and_a_strangers_is_not_overwritten(many):
    many.folder.mkdir()
    (many.folder / "0001.wav").write_bytes(b"")
    (many.folder / "0002.wav").write_bytes(b"my own")
    done = many("One.\nTwo.\nThree.\n", "--pace=4")
    assert done.code == 1 and done.out.startswith("2 written, 0 kept from before, 1 failed")
    assert "line 2: 0002.wav is there, and it is not known from what it was made: remove it" in done.err
    assert (many.folder / "0002.wav").read_bytes() == b"my own"
    assert len(sound(many.folder / "0001.wav")) > 0


def test_a_kill_between_note_and_output_leaves_nothing_that_counts(many, monkeypatch):
    """The note stands, the file is not there, and the file of before is gone: it is made at the next run."""
    from unisono import Audio

    many("One.\nTwo.\n", "--pace=4")
    with monkeypatch.context() as patch:
        patch.setattr(Audio, "save", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert many("One.\nTwo, changed.\n", "--pace=4").code == 130
    assert [path.name for path in many.folder.iterdir()] == ["0001.wav"]
    notes = many.folder.with_name(".out.requests.jsonl")
    notes.write_text(notes.read_text() + '{"file": "00')  # cut
    assert many("One.\nTwo, changed.\n", "--pace=4").out.startswith("1 written, 1 kept from before, 0 failed")
    assert many("One.\nTwo, changed.\n", "--pace=4").out.startswith("0 written, 2 kept from before, 0 failed")


def test_lines_of_the_standard_input(voice_export, tmp_path):
    command = [sys.executable, "-m", "unisono", "generate", voice_export, "--input=-", "--output-dir", tmp_path / "out"]
    done = subprocess.run(command, input=b"\xef\xbb\xbfHello.\r\n", capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0001.wav"]


# ---- streams, locales, echoes ------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_quietly(tmp_path):
    pipe = f"{sys.executable} -m unisono recipes show tts/quickstart | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {pipe}"], capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.returncode in (0, 141)
    program = "from unisono.cli import main; import sys; sys.exit(main(['recipes']) and 3)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(timeout=120) in (0, 1, 3)


def test_a_locale_without_utf8_prints_and_reads(voice_export, tmp_path):
    bare = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}, **bare}
    command = [sys.executable, "-m", "unisono", "generate", voice_export]
    shown = subprocess.run([*command, "--help"], capture_output=True, env=environment, timeout=120)
    assert (shown.returncode, shown.stderr) == (0, b"") and b"request:" in shown.stdout
    wrong = subprocess.run(
        [*command, "naïve мир", "-o", tmp_path / "x.wav"], capture_output=True, env=environment, timeout=120
    )
    assert wrong.returncode == 2 and b"CYRILLIC" in wrong.stderr and b"Traceback" not in wrong.stderr
    listed = subprocess.run([sys.executable, "-m", "unisono", "plugins"], capture_output=True, env=environment)
    assert listed.returncode == 0 and b"Traceback" not in listed.stderr


LONG = "x" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", LONG],
        ["generate", "EXPORT", "Hello", f"--speaker={LONG}", "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", f"--pace={LONG}", "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", f"--pace=[{LONG}", "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", f"--{LONG}=1", "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", LONG, "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", "-o", f"{LONG}.wav"],
        ["generate", "EXPORT", "Hello", f"--device={LONG}", "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", f"--component={LONG}", "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", f"--seed={'9' * 5000}", "-o", "x.wav"],
        ["generate", "EXPORT", "Hello", f"--batch-size={LONG}", "-o", "x.wav"],
        ["generate", "EXPORT", "--input", LONG, "--output-dir", "x"],
        ["generate", "EXPORT", "--input", "lines.txt", "--output-dir", LONG],
        ["train", LONG],
        ["train", f"{LONG}.yaml"],
        ["train", "text/mdlm-tiny", f"--model.{LONG}=1"],
        ["export", LONG, "x"],
        ["curves", LONG],
        ["evaluate", LONG, "x"],
        ["recipes", "show", LONG],
        [LONG],
    ],
)
def test_a_refusal_does_not_repeat_all_that_it_was_given(command, voice_export, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text("Hello.\n")
    done = command(*(voice_export if item == "EXPORT" else item for item in arguments))
    assert done.code == 2
    assert LONG[:201] not in done.err and "9" * 201 not in done.err, done.err[:1000]
    assert len(done.err) < 3500 and (arguments[0] == LONG or len(done.err.splitlines()[-1]) < 900)


# ---- fields ------------------------------------------------------------------------------------


def test_every_kind_of_field_is_described_with_its_choices_and_ranges():
    from typing import Literal

    from pydantic import Field
    from unisono.cli.fields import describe_fields
    from unisono.request import Request

    class Asked(Request):
        text: str = Field(description="what")
        temperature: float | None = Field(default=None, gt=0, le=2, description="how wild")
        sampler: Literal["maskgit", "halton"] = Field(default="halton", description="which")
        mode: Literal["a", "b"] | None = Field(default=None, description="how")
        only: Literal["x"] = Field(default="x", description="one")
        paces: list[float] = Field(default_factory=list, description="speeds")
        keep: tuple[float, float] | None = Field(default=None, description="from and to")
        bounded: list[int] | None = Field(default=None, min_length=2)
        small: int = Field(default=3, ge=1, lt=9)

    lines = {line.split()[0]: line for line in describe_fields(Asked)}
    for flag, told in {
        "--text": "what (required)",
        "--temperature": "how wild (> 0, ≤ 2)",
        "--sampler": "which (one of maskgit, halton, default halton)",
        "--mode": "how (one of a, b)",
        "--only": "one (one of x, default x)",
        "--paces": "speeds (a list)",
        "--keep": "from and to (a list of 2)",
        "--bounded": "(a list of at least 2)",
        "--small": "(≥ 1, < 9, default 3)",
    }.items():
        assert lines[flag].endswith(told), lines[flag]


def test_a_list_that_is_no_list_is_told_how_to_write_one():
    from unisono.errors import RequestError
    from unisono.request import Request

    class Asked(Request):
        voices: tuple[str, ...] = ()
        keep: tuple[int, ...] | None = None

    for fields in ({"voices": "soprano,bass"}, {"keep": "1,2"}):
        with pytest.raises(RequestError, match=r"a list, such as \[soprano, bass\]|a list, such as \[1, 2\]"):
            Asked.parse(**fields)


def test_no_truth_value_is_a_number_in_a_list_either(command, tmp_path, voice_export):
    from typing import Any

    from unisono.errors import RequestError
    from unisono.request import Request

    class Asked(Request):
        paces: list[float] | None = None
        schema_: dict[str, Any] | None = None

    for paces in ([True], [1.0, False], (True,)):
        with pytest.raises(RequestError, match="not true or false"):
            Asked.parse(paces=paces)
    assert Asked.parse(paces=[1.0], schema_={"additional": [False]}).schema_ == {"additional": [False]}


@pytest.mark.parametrize("value", ["", " ", "# nothing"])
def test_an_empty_flag_is_no_null(command, tmp_path, voice_export, value):
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", f"--word-paces={value}")
    assert done.code == 2 and "it is empty; null is no value" in done.err
    assert command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--word-paces=null").code == 0


def test_a_figure_does_not_replace_the_output(command, tmp_path, voice_export):
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--plot", tmp_path / "x.wav")
    assert done.code == 2 and not (tmp_path / "x.wav").exists()
    done = command("sweep", voice_export, "--pace=1,2", "--json", "x.png", "--plot", "x.png")
    assert done.code == 2 and "--json and --plot are both 'x.png'" in done.err


@pytest.mark.parametrize("suffix", ["../x.wav", "/x.wav", "x.wav", " .wav"])
def test_a_suffix_is_a_suffix(command, tmp_path, voice_export, suffix):
    (tmp_path / "lines.txt").write_text("Hello.\n")
    where = ("--input", tmp_path / "lines.txt", "--output-dir", tmp_path / "out")
    done = command("generate", voice_export, *where, f"--suffix={suffix}")
    assert done.code == 2 and "use one of .wav" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt"]


def test_without_many_lines_a_suffix_is_a_field_or_refused(command, tmp_path, voice_export):
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--suffix=.flac")
    assert done.code == 2 and "--suffix is the format of what --input makes" in done.err
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--output-dir", tmp_path)
    assert done.code == 2 and "--output-dir is where --input writes" in done.err
    text = Path(__file__).parents[1] / "checkpoints" / "text-mdlm-shakespeare"
    done = command("generate", text, "Now ", "--suffix= the end.", "--length=4", "-o", tmp_path / "x.txt")
    made = (tmp_path / "x.txt").read_text()
    assert done.code == 0 and made.startswith("Now ") and made.endswith(" the end.")


# ---- exports, plugins, doctor, dry runs --------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_type_of_the_weights_is_the_one_asked_for(command, voice_run, tmp_path, dtype):
    import torch
    from safetensors.torch import load_file

    assert command("export", voice_run, tmp_path / "voice", f"--dtype={dtype}").code == 0
    weights = load_file(tmp_path / "voice" / "model.safetensors")
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {getattr(torch, dtype)}
    assert json.loads((tmp_path / "voice" / "unisono.json").read_text())["dtype"] == dtype


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


@pytest.mark.parametrize("flags", [["--data.batch_size=999"], ["--data.batch_size=7"]])
def test_a_dry_run_refuses_what_training_refuses(command, tmp_path, flags):
    recipe = ("train", "tts/fastpitch-tiny", *TINY, f"--run.dir={tmp_path}", *flags)
    dry, wet = command(*recipe, "--dry-run"), command(*recipe)
    assert (dry.code, wet.code) == (2, 2)
    assert dry.err.splitlines()[-1] == wet.err.splitlines()[-1]
    assert "cannot fill one batch" in dry.err
    assert list(tmp_path.iterdir()) == []
