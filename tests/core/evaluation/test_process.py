"""A process of its own: what it is asked, what it answers, and how much memory it says it took."""

import subprocess
import sys

import pytest
from unisono.evaluation import in_fresh_process, peak_memory


def test_a_program_answers_what_it_is_asked():
    found = in_fresh_process("result['twice'] = 2 * asked['number']", {"number": 21})
    assert found == {"twice": 42}


def test_what_it_prints_beside_is_no_answer():
    assert in_fresh_process("print('chatter')\nresult['a'] = 1", {}) == {"a": 1}


def test_it_imports_from_where_this_process_does(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert in_fresh_process("import only_here\nresult['value'] = only_here.value", {}) == {"value": 7}


def test_a_failure_says_why_and_a_long_one_is_cut():
    with pytest.raises(RuntimeError, match="exit code 1: ValueError: no such voice"):
        in_fresh_process("raise ValueError('no such voice')", {})
    with pytest.raises(subprocess.TimeoutExpired):
        in_fresh_process("import time\ntime.sleep(60)", {}, timeout=1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak may begin with the parent's")
def test_the_peak_is_the_program_s_own_and_sees_what_is_given_back():
    held = bytearray(300 * 2**20)  # of this process, whose child must not count it
    held[:: 2**12] = b"1" * len(held[:: 2**12])
    program = """
result["before"] = peak_memory()
block = bytearray(200 * 2**20)
block[::2**12] = b"1" * len(block[::2**12])
del block
result["after"] = peak_memory()
"""
    found = in_fresh_process(program, {})
    assert found["before"] < 100
    assert 190 < found["after"] - found["before"] < 260
    assert peak_memory() > 300
