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
import os, time, pytest

def test_first_of_{name}():
    time.sleep({seconds})

def test_last_of_{name}():
    time.sleep({seconds})
    {last}
"""


@pytest.mark.parametrize("dies_in", ["c", "e"])
def test_a_process_that_dies_fails_one_test(tmp_path, dies_in):
    """Amid the others, and in the last group: where a group that is put back has nothing left."""
    (tmp_path / "conftest.py").write_text(HOOK)
    for name in "abcde":
        last = "os._exit(1)" if name == dies_in else "pass"
        text = TESTS.format(name=name, seconds=0.05, last=last)
        (tmp_path / f"test_{name}.py").write_text(
            text.replace("def test", f"@pytest.mark.xdist_group('{name}')\ndef test")
        )
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
    assert f"test_last_of_{dies_in}" in done.stdout
