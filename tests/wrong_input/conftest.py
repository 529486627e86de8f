"""Commands that must fail with one sentence, commands that must not, and a small corpus."""

from collections.abc import Callable
from pathlib import Path

import pytest
from unisono.cli import main
from wrong_input import tone


@pytest.fixture
def complaint(capfd) -> Callable[..., str]:
    """Return a function that runs a command which must fail, and returns its one sentence."""

    def run(*argv: object) -> str:
        capfd.readouterr()
        code = main([str(item) for item in argv])
        err = capfd.readouterr().err
        lines = [line for line in err.splitlines() if line.strip()]
        assert code == 2, err
        assert len(lines) == 1, err
        assert lines[0].startswith("unisono: ")
        assert "Traceback" not in err
        assert len(lines[0]) < 600
        return lines[0].removeprefix("unisono: ")

    return run


@pytest.fixture
def said(capfd) -> Callable[..., str]:
    """Return a function that runs a command which must succeed, and returns what it printed."""

    def run(*argv: object) -> str:
        capfd.readouterr()
        code = main([str(item) for item in argv])
        captured = capfd.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    for index in range(3):
        tone(folder / "wavs" / f"good{index}.wav")
    (folder / "metadata.csv").write_text("".join(f"good{i}|Sentence number {i}.\n" for i in range(3)))
    return folder
