"""Pages: the blocks and commands of README, docs and cards, in the order in which a reader meets them.

A block that cannot run here stands behind a comment with the reason, which no reader of the rendered page sees::

    <!-- not run: needs a GPU -->

A block that is a whole file of the repository stands behind its path; the two are kept equal::

    <!-- from core/unisono/scaffold/templates/masked/unisono_sketch/request.py -->
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in sorted(
        [
            *ROOT.glob("docs/**/*.md"),
            ROOT / "README.md",
            ROOT / "CONTRIBUTING.md",
            *ROOT.glob("checkpoints/*/README.md"),
        ],
        key=str,
    )
    if "_build" not in page.parts
]
NAMES = {page: page.relative_to(ROOT).as_posix() for page in PAGES}
FENCE = re.compile(r"^```([\w+-]*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SOURCE = re.compile(r"<!-- from (\S+) -->\s*$")
NOT_RUN = re.compile(r"<!-- not run: ([^\n]+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``not_run`` says why it is not run, ``source`` which file it shows; both may be empty."""

    page: Path
    language: str
    text: str
    line: int
    not_run: str = ""
    source: str = ""

    @property
    def place(self) -> str:
        return f"{NAMES[self.page]}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        reason, source = (kind.search(text[: fence.start()]) for kind in (NOT_RUN, SOURCE))
        found.append(Block(page, fence[1], fence[2], line, reason[1] if reason else "", source[1] if source else ""))
    return found


def commands(block: Block) -> Iterator[tuple[list[str], list[str]]]:
    """Yield each command of a shell block as words, without its comment, and the lines that follow as its output."""
    if block.language not in ("console", "bash", "sh", ""):
        return
    lines, prompted = block.text.replace("\\\n", " ").splitlines(), block.language == "console"
    current: list[str] | None = None
    output: list[str] = []
    for line in lines:
        if line.startswith("$ ") or (not prompted and line.startswith(("unisono ", "python ", "pip "))):
            if current:
                yield current, output
            current, output = shlex.split(line.removeprefix("$ "), comments=True), []
        elif prompted:
            output.append(line)
    if current:
        yield current, output


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def options_of(synopsis: str) -> set[str]:
    """Return the flags that a synopsis or a sentence names."""
    return set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", synopsis))
