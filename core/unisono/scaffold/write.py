"""Write: a new plugin's folder from the templates.

Templates are files as they are written, by the name ``sketch``; a kind's lie over those that all share. A line that
ends in ``# only KIND`` is left out of other kinds, and the mark of all. A name that begins with ``dot_`` begins with a
dot in the folder.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from unisono.errors import PluginError, did_you_mean
from unisono.files import folder_written_aside
from unisono.scaffold.names import Names

KINDS = {
    "masked": "rows of tokens, filled in a few passes by any preset of unisono.masked",
    "diffusion": "points in the plane, by a diffusion objective and a scheduler of diffusers, in series or in parallel",
    "duration": "a sequence to a longer one, all at once, by predicted durations",
}
"""The kinds of plugin there are templates of, each with what its model makes."""

SKETCH = Names("sketch")
"""The plugin that the templates are."""

_ONLY = re.compile(r"[ \t]*(?:#|<!--) only (\w+)(?: -->)?$")


def new_plugin(name: str, kind: str = "masked", dest: str | Path = ".") -> Path:
    """Write the package of a new plugin to ``dest/unisono-NAME`` and return that folder.

    Raises ``PluginError`` for an unknown kind, a name that cannot be a plugin's or clashes with what is installed, a
    folder that exists, and a place that cannot be written.
    """
    if kind not in KINDS:
        raise PluginError(
            f"there is no kind {kind!r:.100} of plugin{did_you_mean(kind, KINDS)}",
            code="unknown",
            path="kind",
            value=kind,
        )
    templates = dict(templates_of(kind))
    used = {
        token.string
        for path, text in templates.items()
        if path.endswith(".py")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME
    }
    names = Names.read(name, used - {SKETCH.model, f"{SKETCH.model}Request"})
    folder = Path(dest) / names.distribution
    if folder.exists() or folder.is_symlink():
        raise PluginError(
            f"{str(folder)!r:.200} exists: give another name or --dest, or remove it",
            code="exists",
            path=folder,
            value=name,
        )
    with folder_written_aside(folder, PluginError) as aside:
        for path, text in templates.items():
            place = aside / renamed(path, names)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(renamed(text, names), encoding="utf-8", newline="\n")
    return folder


def templates_of(kind: str) -> Iterator[tuple[str, str]]:
    """Yield the path and text of each file of a kind, under the name ``sketch``."""
    root = resources.files("unisono.scaffold") / "templates"
    for part in ("shared", kind):
        for path, file in _files(root / part):
            lines = file.read_text(encoding="utf-8").split("\n")
            marks = [_ONLY.search(line) for line in lines]
            kept = [_ONLY.sub("", line) for line, mark in zip(lines, marks, strict=True) if not mark or mark[1] == kind]
            yield path, "\n".join(kept)


def renamed(text: str, names: Names) -> str:
    """Return a template's text or path by another plugin's names."""
    for old, new in (
        (SKETCH.package, names.package),
        (SKETCH.distribution, names.distribution),
        (SKETCH.model, names.model),
        (SKETCH.plugin, names.plugin),
    ):
        text = text.replace(old, new)
    return text


def _files(folder: Traversable, within: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name == "__pycache__" or entry.name.startswith("."):  # what tools leave
            continue
        path = within + re.sub("^dot_", ".", entry.name)
        if entry.is_dir():
            yield from _files(entry, f"{path}/")
        else:
            yield path, entry
