"""Names: a folder, an installed model package or a hub id becomes the local folder of an export.

One resolver for ``unisono.load`` and every verb. A name is looked for in this order:

1. a folder of that name, or a path to one;
2. a model package that is installed: an entry point of the group ``unisono.checkpoints``;
3. ``checkpoints/NAME`` in the working folder;
4. a hub id ``owner/name`` or ``owner/name@revision``, for names with a slash only.

No code of a model package is imported.
"""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from unisono.errors import CheckpointError, did_you_mean
from unisono.export.layout import ALLOWED_SUFFIXES, INFO, kind_of, shown

GROUP = "unisono.checkpoints"
"""The entry points of model packages: a model's name, and the module in whose folder the export lies."""
SHELF = "checkpoints"
"""The folder, in the working folder, whose exports are found by their names."""
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A name that can be a model's: no path, no hub id."""
HUB_ID = re.compile(
    r"(?P<id>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@(?P<revision>[A-Za-z0-9_][\w./+-]*))?", re.ASCII
)
_OF_PATHS = ("checkpoints", "runs")
"""First parts of paths that are never asked for on the hub."""


@dataclass(frozen=True)
class Source:
    """Where an export came from.

    Attributes:
        folder: the local folder.
        kind: what the name stood for.
        name: the name as it was given; of a hub id, without the revision.
        revision: of a hub id, the commit that was fetched; of a package, its version; of a folder, None.
        distribution: of a package, what pip knows it by.
    """

    folder: Path
    kind: Literal["folder", "package", "hub"]
    name: str
    revision: str | None = None
    distribution: str | None = None

    def __str__(self) -> str:
        """Return what tells it apart from others: ``owner/name@0123…``, ``unisono-model-x 1.0.0``, or the folder."""
        if self.kind == "hub":
            return f"{self.name}@{self.revision}"
        return f"{self.distribution} {self.revision}" if self.kind == "package" else str(self.folder)


@dataclass(frozen=True)
class Package:
    """An installed model package, as its entry point declares it: ``folder`` is None where its files are gone."""

    name: str
    distribution: str
    version: str
    folder: Path | None


def find(name: str | Path) -> Path:
    """Return the local folder of an export, by folder, model name or hub id; see the module's docstring."""
    return locate(name).folder


def locate(name: str | Path) -> Source:
    """Find an export by folder, model name or hub id; a hub id is downloaded through ``huggingface_hub``.

    Raises ``CheckpointError`` that lists near names where there is none.
    """
    if not isinstance(name, str | Path):
        raise CheckpointError(
            f"{name!r:.80} is no export: give a folder, a model's name or a hub id as text", code="type", value=name
        )
    text, folder = str(name), Path(name)
    if kind_of(folder) != "missing":
        return Source(folder, "folder", text)
    if PLAIN.fullmatch(text):
        return _named(text)
    parts = text.partition("@")[0].split("/")
    if len(parts) != 2 or not all(parts) or text.startswith((".", "/", "~")) or parts[0] in _OF_PATHS:
        raise CheckpointError(
            f"no export at {shown(text)}: the folder does not exist{_replaced(folder)}", code="missing", path=text
        )
    found = HUB_ID.fullmatch(text)
    if found is None or ".." in text:
        raise CheckpointError(
            f"{shown(text)} is no hub id, which is owner/name or owner/name@revision of letters, digits, '.', '_' and "
            "'-': check the spelling",
            code="unsafe" if ".." in text else "format",
            path=text,
            value=text,
        )
    return _fetched(found["id"], found["revision"])


def packages() -> list[Package]:
    """Return the installed model packages in order of names; two distributions may offer one name."""
    found = {_package(point) for point in entry_points(group=GROUP)}
    return sorted(found, key=lambda package: (package.name, package.distribution, package.version))


def on_the_shelf() -> Iterator[tuple[str, Path]]:
    """Yield the names and folders of the exports in ``./checkpoints``, in order of names."""
    if kind_of(Path(SHELF)) == "folder":
        for path in sorted(Path(SHELF).iterdir()):
            if PLAIN.fullmatch(path.name) and kind_of(path / INFO) == "file":
                yield path.name, path


def _named(name: str) -> Source:
    """Find a model by its plain name, among the packages and then in ``./checkpoints``."""
    installed = packages()
    if offers := [package for package in installed if package.name == name]:
        package, *others = offers
        if others:
            raise CheckpointError(
                f"the model {name!r} is offered by "
                f"{' and '.join(f'{offer.distribution} {offer.version}' for offer in offers)}: uninstall one of them",
                code="conflict",
                path=name,
                value=name,
            )
        if package.folder is None:
            raise CheckpointError(
                f"the files of the model package {package.distribution} {package.version} are not where it says: "
                "install it again",
                code="damaged",
                path=name,
                value=package.distribution,
            )
        return Source(package.folder, "package", name, package.version, package.distribution)
    shelf = dict(on_the_shelf())
    if name in shelf:
        return Source(shelf[name], "folder", name)
    known = {*(package.name for package in installed), *shelf}
    raise CheckpointError(
        f"no model {name!r:.100} is installed, and no folder of this name is here{_replaced(Path(name))}"
        f"{did_you_mean(name[:100], known)}: pip install the model's package, or give the folder of an export or a hub "
        "id owner/name; unisono models lists what is here",
        code="unknown",
        path=name,
        value=name,
    )


def _package(point: EntryPoint) -> Package:
    """Read an entry point without importing what it points at."""
    distribution, version = (point.dist.name, point.dist.version) if point.dist else ("?", "?")
    spec = find_spec(point.module) if PLAIN.fullmatch(point.module) and "." not in point.module else None
    places = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(places[0]) / point.name if places and PLAIN.fullmatch(point.name) else None
    there = folder is not None and kind_of(folder) == "folder"
    return Package(point.name, distribution, version, folder if there else None)


def _replaced(folder: Path) -> str:
    """What to say where an export was being replaced when its writer was killed."""
    replaced = sorted(folder.parent.glob(f".{glob.escape(folder.name)}.*.old"))
    return f"; an export that was being replaced lies in {shown(replaced[-1])}: rename it" if replaced else ""


def _fetched(repository: str, revision: str | None) -> Source:
    """Download what an export may hold of a repository of the hub, or take it from the hub's cache."""
    import huggingface_hub

    patterns = [f"**/*{s}" for s in ALLOWED_SUFFIXES] + [f"*{s}" for s in ALLOWED_SUFFIXES]
    try:
        snapshot = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:
        asked = repository if revision is None else f"{repository}@{revision}"
        raise CheckpointError(
            f"{shown(asked)} is neither a folder nor a hub id that can be fetched: {_why_not_fetched(error)}",
            code="missing",
            path=asked,
        ) from error
    return Source(snapshot, "hub", repository, snapshot.name)  # the hub's cache names a snapshot by its commit


def _why_not_fetched(error: Exception) -> str:
    """What went wrong with a download, and what to do, in words; the kinds are those of ``huggingface_hub``."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return "a hub id is owner/name; check the spelling"
    if isinstance(error, errors.GatedRepoError):
        return "the hub asks for an account that may read it; log in, or give a folder"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the model has no such revision; give a branch, a tag or a commit"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no public model of this name; check the spelling, or give a folder"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError):
        return "it was not fetched before, and the hub cannot be reached; connect once, or give a folder"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}; give a folder"
    return f"{type(error).__name__}; check the spelling and the connection, or give a folder"
