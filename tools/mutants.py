"""Mutants: realistic one-line mistakes, put in one at a time; which of them do the tests find?

    python tools/mutants.py                          all of the table
    python tools/mutants.py core/unisono/duration    those of files below a path
    python tools/mutants.py --jobs 1 --lived         one at a time; tell of survivors only

The table is in ``tools/mutants/*.txt``; each entry names a file, the line as it is, the line with the mistake, and the
tests that should notice::

    file core/unisono/duration/rounding.py
    - the old text, which stands exactly once in the file
    + the new text
    test tests/core/duration/test_rounding.py::test_speeds

Every job works in a copy of the tree of its own, and each mutant in a process forked from one that has imported the
heavy packages, and nothing of Unisono. The exit code is 1 where a mutant lived, or a test fails without any.
"""

import argparse
import ast
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).parent / "mutants"
COPIED = ("core", "plugins", "recipes", "tests", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md")
LINKED = ("checkpoints", "benchmarks")
HEAVY = (
    "torch",
    "lightning.pytorch",
    "numpy",
    "scipy.signal",
    "numba",
    "soundfile",
    "pytest",
    "hypothesis",
    "pydantic",
)
SECONDS = 240
"""A mutant whose tests take longer counts as found: it hangs. A busy machine needs more: ``--seconds``."""


@dataclass(frozen=True)
class Mutant:
    """One mistake: ``old`` becomes ``new`` in ``file``; ``tests`` are what should notice."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    place: str = ""

    @property
    def package(self) -> str:
        """The folder that the report counts it under."""
        parts = Path(self.file).parts
        return "/".join(parts[1:3]) if parts[1] == "unisono" and len(parts) > 3 else parts[1]

    def apply(self, root: Path) -> str:
        """Return the file's text with the mistake; raises ``ValueError`` unless ``old`` stands in it exactly once."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.place}: {self.old!r} stands {count} times in {self.file}, not once")
        return text.replace(self.old, self.new)


def read_table(folder: Path = TABLE) -> list[Mutant]:
    """Return all mutants; raises ``ValueError`` for a line that is none of the four kinds, or an incomplete entry."""
    mutants: list[Mutant] = []
    for path in sorted(folder.glob("*.txt")):
        entries: list[list[tuple[int, str]]] = [[]]
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if line.startswith("#"):
                continue
            if not line.strip():
                entries.append([])
            else:
                entries[-1].append((number, line))
        file, tests = "", ()
        for entry in filter(None, entries):
            found: dict[str, list[str]] = {"file": [], "-": [], "+": [], "test": []}
            for number, line in entry:
                kind, _, rest = line.partition(" ")
                if kind not in found:
                    raise ValueError(f"{path.name}:{number}: {line!r} begins with none of {', '.join(found)}")
                found[kind].append(rest)
            file = found["file"][0] if found["file"] else file  # the last entry's, where an entry names none
            tests = tuple(found["test"]) or tests
            place = f"{path.name}:{entry[0][0]}"
            if not found["-"]:
                continue  # a heading: file or tests of the entries that follow
            if not file or not tests:
                raise ValueError(f"{place}: an entry needs file, -, + and test")
            mutants.append(Mutant(file, "\n".join(found["-"]), "\n".join(found["+"]), tests, place))
    return mutants


def problems(mutants: Iterable[Mutant], root: Path = ROOT) -> list[str]:
    """Return what is wrong with the table: text that is not there, no Python, no change, tests that do not exist."""
    found = []
    for mutant in mutants:
        try:
            ast.parse(mutant.apply(root))
        except (ValueError, OSError, SyntaxError) as error:
            found.append(str(error) if isinstance(error, ValueError) else f"{mutant.place}: {error}")
        if mutant.old == mutant.new:
            found.append(f"{mutant.place}: nothing is changed")
        for test in mutant.tests:
            file, _, name = test.partition("::")
            path = root / file
            if not path.exists():
                found.append(f"{mutant.place}: there is no {file}")
            elif name and f"def {name.partition('[')[0]}(" not in path.read_text(encoding="utf-8"):
                found.append(f"{mutant.place}: {file} has no {name}")
    return found


def run(
    mutants: Sequence[Mutant], jobs: int, root: Path = ROOT, limit: float = SECONDS
) -> Iterable[tuple[Mutant, str, float]]:
    """Yield each mutant with how it ended (``found``, ``lived``) and the seconds, in the order in which they end."""
    for name in HEAVY:
        __import__(name)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="unisono-mutants-") as folder:
        copies = [Path(folder) / str(number) for number in range(jobs)]
        for copy in copies:
            for name in COPIED:
                source = root / name
                if source.is_dir():
                    shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
                elif source.is_file():
                    copy.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, copy / name)
            for name in LINKED:
                if (root / name).exists():
                    (copy / name).symlink_to(root / name)
        waiting, running = list(reversed(mutants)), {}
        free = list(copies)
        while waiting or running:
            while waiting and free:
                mutant, copy = waiting.pop(), free.pop()
                original = (copy / mutant.file).read_text(encoding="utf-8") if mutant.file else ""
                if mutant.file:
                    (copy / mutant.file).write_text(mutant.apply(copy), encoding="utf-8")
                running[_forked(mutant, copy)] = mutant, copy, original, time.monotonic()
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                for other, (_, _, _, since) in running.items():
                    if time.monotonic() - since > limit:
                        os.killpg(other, signal.SIGKILL)
                time.sleep(0.05)
                continue
            mutant, copy, original, since = running.pop(pid)
            if mutant.file:
                (copy / mutant.file).write_text(original, encoding="utf-8")
            free.append(copy)
            code = os.waitstatus_to_exitcode(status)
            end = "lived" if code == 0 else "found" if code in (1, 2, -9) else f"error {code}"
            yield mutant, end, time.monotonic() - since


def _forked(mutant: Mutant, copy: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        if "MUTANTS_SHOW" not in os.environ:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        os.chdir(copy)
        paths = [str(copy / name) for name in ("core", "plugins", "recipes", "tests/shared")]
        sys.path[:0] = paths
        os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        import pytest

        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--no-header",
            "-n",
            "0",
            "--assert=plain",
            "--rootdir",
            str(copy),
        ]
        code = int(pytest.main([*options, *mutant.tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> int:
    """Run the mutants that the command line asks for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", help="only mutants of files below these paths")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)), help="how many at once")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="a mutant whose tests take longer hangs")
    parser.add_argument("--lived", action="store_true", help="tell of survivors only")
    parser.add_argument("--check", action="store_true", help="only check that the table fits the tree")
    args = parser.parse_args()
    table = read_table()
    chosen = [m for m in table if not args.paths or any(m.file.startswith(path) for path in args.paths)]
    if wrong := problems(chosen):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if args.check:
        print(f"{len(chosen)} mutants fit the tree")
        return 0
    healthy = Mutant("", "", "", (), "no mutant")
    sets = sorted({mutant.tests for mutant in chosen})
    for mutant, end, seconds in run([replace(healthy, tests=tests) for tests in sets], args.jobs, limit=args.seconds):
        if end != "lived":
            print(f"{end}: {' '.join(mutant.tests)} fails without a mutant ({seconds:.0f} s)", file=sys.stderr)
            return 1
    counts: dict[str, Counter[str]] = {}
    for mutant, end, seconds in run(chosen, args.jobs, limit=args.seconds):
        counts.setdefault(mutant.package, Counter())[end] += 1
        if end != "found" or not args.lived:
            print(f"{end}  {seconds:5.1f} s  {mutant.place}  {mutant.file}", flush=True)
            print(f"    - {mutant.old}\n    + {mutant.new}", flush=True)
    whole = sum(counts.values(), Counter())
    print(f"\n{'package':<28}{'found':>7}{'lived':>7}{'other':>7}{'share':>8}")
    for package, ends in [*sorted(counts.items()), ("all", whole)]:
        other = ends.total() - ends["found"] - ends["lived"]
        share = ends["found"] / max(ends.total(), 1)
        print(f"{package:<28}{ends['found']:>7}{ends['lived']:>7}{other:>7}{share:>8.0%}")
    return int(whole["found"] < whole.total())


if __name__ == "__main__":
    sys.exit(main())
