"""Undefined names: those that ruff finds outside the shapes of jaxtyping.

Shapes are strings, ``Float[Tensor, "b t d"]``, and ruff (F821) and pyright take their letters for names; both rules are
off in pyproject.toml for that reason, and a missing import would pass. Here F821 runs, and what stands in the string of
a shape is left out.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("core", "plugins", "recipes", "benchmarks", "tools", "docs", "tests")

Span = tuple[tuple[int, int], tuple[int, int]]


def undefined_names(paths: Sequence[str | Path], root: Path = ROOT) -> list[str]:
    """Return ``file:line: what`` for every undefined name that is no letter of a shape."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821,F822"]
    run = subprocess.run([*command, "--output-format", "json", *map(str, paths)], cwd=root, capture_output=True)
    if run.returncode not in (0, 1):
        raise RuntimeError(run.stderr.decode())
    found, shapes = [], {}
    for problem in json.loads(run.stdout):
        path, place = Path(problem["filename"]), problem["location"]
        if path not in shapes:
            shapes[path] = list(_shapes(path.read_text(encoding="utf-8")))
        at = place["row"], place["column"]
        if not any(first <= at <= last for first, last in shapes[path]):
            found.append(f"{path}:{place['row']}: {problem['message']}")
    return found


def _shapes(source: str) -> Iterator[Span]:
    """Yield where the strings of ``Kind[array, "shape"]`` stand, the kinds being those that are of jaxtyping."""
    tree, lines = ast.parse(source), source.splitlines()
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping"]
    kinds = {alias.asname or alias.name for node in imports for alias in node.names}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in kinds):
            continue
        if isinstance(node.slice, ast.Tuple) and isinstance(node.slice.elts[-1], ast.Constant):
            text = node.slice.elts[-1]
            yield _column(lines, text.lineno, text.col_offset), _column(lines, text.end_lineno, text.end_col_offset)


def _column(lines: Sequence[str], line: int | None, offset: int | None) -> tuple[int, int]:
    """Return a place of the syntax tree, which counts bytes from 0, as ruff's, which counts characters from 1."""
    assert line is not None and offset is not None
    return line, len(lines[line - 1].encode()[:offset].decode()) + 1


if __name__ == "__main__":
    problems = undefined_names(sys.argv[1:] or FOLDERS)
    print("\n".join(problems) or "no undefined names")
    sys.exit(bool(problems))
