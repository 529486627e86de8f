"""Flags and streams: fields as flags, refusals of any size, and locales and pipes of any kind."""

import os
import subprocess
import sys
from typing import Annotated

import pytest
from refused import refused
from unisono.cli import READABLE
from unisono.cli.fields import flag_value


def test_a_reader_that_goes_away_ends_quietly(tmp_path):
    pipe = f"{sys.executable} -m unisono recipes show tts/quickstart | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {pipe}"], capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.returncode in (0, 141)
    program = "from unisono.cli import main; import sys; sys.exit(main(['recipes']) and 3)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(timeout=120) in (0, 1, 3)


@pytest.mark.slow
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
    name = tmp_path / "naïve.wav"
    made = subprocess.run([*command, "Hello", "--pace=4", "-o", name], capture_output=True, env=environment)
    assert (made.returncode, made.stdout.decode("utf-8"), made.stderr) == (0, f"{name}\n", b"") and name.exists()


@pytest.mark.parametrize(
    ("name", "encoding", "told"),
    [
        (b"caf\xc3\xa9.txt", "ascii", "café.txt"),
        (b"caf\xe9\xc3\xa9.txt", "ascii", "caf\\xe9é.txt"),
        (b"caf\xe9.txt", "utf-8", "caf\\xe9.txt"),
    ],
)
def test_a_file_name_is_told_as_it_lies_on_the_disk(name, encoding, told):
    """As Python holds an argument that its locale cannot read: its bytes where they are UTF-8, else escaped."""
    assert name.decode("ascii", "surrogateescape").encode(encoding, READABLE).decode("utf-8") == told


def test_what_a_stream_cannot_write_is_escaped():
    assert "мир\ud83d".encode("ascii", READABLE) == rb"\u043c\u0438\u0440\ud83d"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", READABLE)


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

    for fields, written in (({"voices": "soprano,bass"}, "[soprano, bass]"), ({"keep": "1,2"}, "[1, 2]")):
        with refused(RequestError, "type", *fields, names=f"a list, such as {written}"):
            Asked.parse(**fields)


def test_no_truth_value_is_a_number_in_a_list_either(command, tmp_path, voice_export):
    from typing import Any

    from unisono.errors import RequestError
    from unisono.request import Request

    class Asked(Request):
        paces: list[float] | None = None
        schema_: dict[str, Any] | None = None

    for paces in ([True], [1.0, False], (True,)):
        with refused(RequestError, "type", "paces"):
            Asked.parse(paces=paces)
    assert Asked.parse(paces=[1.0], schema_={"additional": [False]}).schema_ == {"additional": [False]}


@pytest.mark.parametrize("value", ["", " ", "# nothing"])
def test_an_empty_flag_is_no_null(command, tmp_path, voice_export, value):
    done = command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", f"--word-paces={value}")
    assert done.code == 2 and "it is empty; null is no value" in done.err
    assert command("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--word-paces=null").code == 0


@pytest.mark.parametrize(
    ("annotation", "written", "value"),
    [
        (str, "[1, 2]", "[1, 2]"),
        (str | None, "{a: 1}", "{a: 1}"),
        (Annotated[str, "a note"], "7", "7"),
        (list[str], "[a, b]", ["a", "b"]),
        (dict[str, int], "{a: 1}", {"a": 1}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (dict[str, list[float]] | None, "{a: [1, 2]}", {"a": [1, 2]}),
        (tuple[str, ...] | None, "[a]", ["a"]),
        (float | None, "null", None),
    ],
)
def test_a_flag_is_read_as_its_field_asks(annotation, written, value):
    """A list or mapping that holds texts is no text."""
    assert flag_value("field", written, annotation) == value
