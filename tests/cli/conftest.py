"""Commands: what the tests of the verbs share."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from unisono.cli import main


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
