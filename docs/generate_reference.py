"""Reference: writes ``docs/reference.md`` from the public names and the first sentences of their docstrings.

Run ``python docs/generate_reference.py`` after a public name or its docstring has changed; a test compares.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Annotated, Any, get_origin

PACKAGES = (
    "unisono",
    "unisono.batch",
    "unisono.coding",
    "unisono.data",
    "unisono.diffusion",
    "unisono.diffusion.devices",
    "unisono.duration",
    "unisono.evaluation",
    "unisono.files",
    "unisono.graphs",
    "unisono.masked",
    "unisono.serve",
    "unisono.testing",
    "unisono.testing.oracles",
    "unisono.train",
    "unisono.verify",
    "unisono_sound.corpus",
    "unisono_sound.measure",
    "unisono_sound.signal",
    "unisono_sound.text",
    "unisono_sound.voice",
)
PAGE = Path(__file__).with_name("reference.md")
CLOSING = "\n## Modules beside these\n"
OPENING = """# Reference

The public names, and the first sentence of what each says of itself; `help(name)` has shapes, ranges
and what is raised. Letters in shapes: b batch, t frames, s symbols or tokens, n samples, c channels.
Masks are boolean, `True` means keep.
"""


def reference() -> str:
    """Return the page as Markdown; what stands below ``CLOSING`` is written by hand and kept."""
    closing = PAGE.read_text(encoding="utf-8").partition(CLOSING)[2]
    return OPENING + "".join(section(importlib.import_module(package)) for package in PACKAGES) + CLOSING + closing


def section(module: Any) -> str:
    rows = [f"| `{name}` | {sentence(name, getattr(module, name))} |" for name in sorted(module.__all__)]
    return "\n".join(
        ["", f"## {module.__name__}", "", first(module.__doc__), "", "| name | what |", "|---|---|", *rows, ""]
    )


def sentence(name: str, value: Any) -> str:
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        return first(value.__doc__)
    if get_origin(value) is Annotated:
        return f"The type of a field: {value.__metadata__[0].description}."
    return f"A {type(value).__name__}." if len(repr(value)) > 40 else f"`{value!r}`"


def first(text: str | None) -> str:
    """Return the first sentence of a docstring in one line, safe inside a table."""
    line = " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
    line = re.split(r"(?<=[.:])\s+(?=[A-Z`])", line, maxsplit=1)[0].rstrip(":")
    return line.replace("``", "`").replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
