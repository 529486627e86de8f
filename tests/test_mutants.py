"""The table of mutants fits the tree: every text stands where it is said to, every test exists."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mutants():
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools/mutants.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutants"]


def test_the_table_fits_the_tree(mutants):
    table = mutants.read_table()
    assert len(table) >= 100
    assert not mutants.problems(table)
    packages = {mutant.package for mutant in table}
    assert {
        "unisono_sound",
        "unisono_tts",
        "unisono_codec",
        "unisono_motion",
        "unisono_image",
        "unisono_text",
    } <= packages


def test_a_table_that_does_not_fit_is_told(mutants, tmp_path):
    (tmp_path / "a.txt").write_text("file code.py\n- x = 1\n+ x = 2\ntest test_code.py::test_x\n\n- y = 1\n+ y = (\n")
    (tmp_path / "code.py").write_text("x = 1\nx = 1\ny = 1\n")
    (tmp_path / "test_code.py").write_text("def test_y(): pass\n")
    twice, unclosed = mutants.read_table(tmp_path)
    assert unclosed.file == twice.file and unclosed.tests == twice.tests
    said = mutants.problems([twice, unclosed], tmp_path)
    assert [line.partition(": ")[0] for line in said] == ["a.txt:1", "a.txt:1", "a.txt:6", "a.txt:6"]
    assert "stands 2 times" in said[0] and "has no test_x" in said[1] and "never closed" in said[2]
    (tmp_path / "a.txt").write_text("files code.py\n")
    with pytest.raises(ValueError, match="begins with none of"):
        mutants.read_table(tmp_path)
