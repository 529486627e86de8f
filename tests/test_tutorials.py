"""Notebooks of docs/tutorials: each runs from its first cell to its last, as typed, in a folder of its own.

A cell is plain Python, or one command behind ``!``, which has to succeed. Outputs are not kept in the files.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def script(path: Path) -> str:
    """Return a notebook as a Python program; a command of a cell must end with 0."""
    parts = ["import subprocess"]
    for cell in cells(path):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            continue
        if source.startswith("!"):
            command = source[1:].replace("\\\n", " ")
            words = shlex.split(command)
            parts.append(f"subprocess.run({words!r}, check=True, timeout=600)")
        else:
            parts.append(source)
    return "\n\n".join(parts) + "\n"


def test_there_are_three():
    assert [path.name for path in NOTEBOOKS] == ["own-voice.ipynb", "plugin.ipynb", "speed-and-quality.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_whole(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    ids = [cell["id"] for cell in cells(path)]
    assert len(ids) == len(set(ids)) >= 8
    assert cells(path)[0]["cell_type"] == "markdown" and "".join(cells(path)[0]["source"]).startswith("# ")
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    source = script(path)
    compile(source, path.name, "exec")
    assert "\n!" not in source and "\n%" not in source, "a command has a cell to itself, and there is no magic"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    (tmp_path / "notebook.py").write_text(script(path), encoding="utf-8")
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": programs, "MPLBACKEND": "agg", "PYTHONWARNINGS": "default"}
    command = [sys.executable, "notebook.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
