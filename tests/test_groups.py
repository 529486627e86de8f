"""The suite over processes: one that dies fails the test it was in, and nothing waits for ever."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = """
from groups import Groups

def pytest_xdist_make_scheduler(config, log):
    return Groups(config, log)
"""
TESTS = """
import os, pytest

@pytest.mark.xdist_group("{name}")
@pytest.mark.parametrize("which", ["first", "last"])
def test_{name}(which):
    with open("{name}.txt", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
    if which == "last":
        {last}
"""


@pytest.mark.parametrize("dies_in", ["c", "e"])
def test_a_process_that_dies_fails_one_test(tmp_path, dies_in):
    """Amid the others, and in the last group: where a group that is put back has nothing left."""
    (tmp_path / "conftest.py").write_text(HOOK)
    for name in "abcde":
        text = TESTS.format(name=name, last="os._exit(1)" if name == dies_in else "pass")
        (tmp_path / f"test_{name}.py").write_text(text)
    options = ["-n", "2", "--dist", "loadgroup", "-p", "xdist", "-p", "no:cacheprovider", "-q", f"--rootdir={tmp_path}"]
    shared = str(Path(__file__).parent / "shared")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-o", f"pythonpath={shared}", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"1 failed, 9 passed", done.stdout), done.stdout
    assert f"test_{dies_in}[last]" in done.stdout
    for name in "abcde":
        first, last = (tmp_path / f"{name}.txt").read_text().split()
        assert first == last, "a group is run by one process"
