"""Prose: the first line of every module is *Noun: what it does (paper)*."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
FIRST = re.compile(r"(``[^`]+``|\w[\w/’' ()\-–]{0,48}): \S")
QUESTIONS = ("how", "what", "which", "where", "whether", "from", "when", "why")


@pytest.mark.parametrize("package", sorted({path.relative_to(ROOT).parts[1] for path in MODULES}))
def test_first_lines_name_a_noun_and_what_it_does(package):
    modules = [path for path in MODULES if path.relative_to(ROOT).parts[1] == package]
    assert len(modules) > 3
    wrong = []
    for path in modules:
        line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        if not FIRST.match(line) or line.split()[0].strip("`").lower() in QUESTIONS:
            wrong.append(f"{path.relative_to(ROOT)}: {line!r}")
    assert not wrong, "\n".join(wrong)
