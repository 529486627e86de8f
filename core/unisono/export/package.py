"""Package: an export as a wheel that pip installs, and that ``unisono.load`` finds by the model's name.

::

    unisono_model_NAME/__init__.py           a docstring and nothing else
    unisono_model_NAME/NAME/…                the export, as it lies in its folder
    unisono_model_NAME-1.0.0.dist-info/      METADATA with the card, WHEEL, entry_points.txt, RECORD, licenses/LICENSE

The wheel follows the binary distribution format (packaging.python.org). Nothing is compressed, since weights hardly
shrink, and names, order and times are fixed: the same export gives the same bytes on any machine. No build tool is
needed, and no network.
"""

import base64
import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

import unisono
from unisono.errors import CheckpointError
from unisono.export.about import About
from unisono.export.layout import CARD
from unisono.export.licence import spdx
from unisono.export.names import GROUP
from unisono.files import written_aside
from unisono.plugin import get

PREFIX = "unisono-model-"
"""What the names of model packages begin with."""
LICENCE_FILES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?")
_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file: the first that a zip can hold."""


def write_package(export: str | Path, dest: str | Path, *, name: str | None = None, version: str = "1.0.0") -> Path:
    """Write the wheel of an export into the folder ``dest`` and return its path; one that lay there is replaced.

    Args:
        export: a folder, a model's name or a hub id.
        name: of the model; by default that of the folder. Small letters and digits, with dashes between.
        version: of the package.

    Raises ``CheckpointError`` for an export that is not whole or states no licence, and for a name or version that pip
    would write in another way.
    """
    about = About.read(export)
    folder = about.source.folder
    if name is None:
        name = folder.resolve().name if about.source.kind == "folder" else about.source.name.rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r:.100} cannot be the name of a package, which has small letters and digits, with dashes between: "
            f"choose one with --name, such as {'-'.join(re.findall('[a-z0-9]+', name.lower())) or 'my-model'}",
            code="format",
            path="name",
            value=name,
        )
    if not _VERSION.fullmatch(version):
        raise CheckpointError(
            f"{version!r:.100} is no version as Python packages have it: give one such as 1.0.0 or 1.1.0rc1",
            code="format",
            path="version",
            value=version,
        )
    module = f"{PREFIX}{name}".replace("-", "_")
    info = f"{module}-{version}.dist-info"
    licences = _licences(about, name)
    title = " ".join(about.stated("title").split()) or f"{name}: {about.model}"
    texts = {
        f"{module}/__init__.py": f'"""The model {name}, for unisono.load({name!r}): numbers and text, no code."""\n',
        f"{info}/METADATA": _metadata(about, name, version, title, licences),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: unisono {unisono.__version__}\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{GROUP}]\n{name} = {module}\n",
        **{f"{info}/licenses/{file}": text for file, text in licences.items()},
    }
    path = Path(dest) / f"{module}-{version}-py3-none-any.whl"
    with written_aside(path, CheckpointError) as aside, zipfile.ZipFile(aside, "w") as archive:
        record = []
        for file in about.files:
            with (folder / file).open("rb") as content:
                record.append(_stored(archive, f"{module}/{name}/{file.as_posix()}", content))
        for place, text in sorted(texts.items()):
            record.append(_stored(archive, place, io.BytesIO(text.encode("utf-8", "backslashreplace"))))
        record.append(f"{info}/RECORD,,")
        _stored(archive, f"{info}/RECORD", io.BytesIO("\n".join([*record, ""]).encode()))
    return path


def _licences(about: About, name: str) -> dict[str, str]:
    """The licence's texts by file name: those that lie in the export, else what its card states."""
    folder = about.source.folder
    own = {file.name: _text(folder / file) for file in about.files if str(file) in LICENCE_FILES}
    if own:
        return own
    if not (stated := about.stated("licence")):
        raise CheckpointError(
            f"{name} states no licence, without which nobody may use the package: put a file LICENSE into "
            f"{str(folder)!r:.160}, or export it again with --licence",
            code="missing",
            path="licence",
            value=str(folder),
        )
    data = f"Trained on: {about.stated('data')}\n" if about.stated("data") else ""
    return {"LICENSE": f"Licence of the weights of {name}: {stated}\n{data}"}


def _metadata(about: About, name: str, version: str, title: str, licences: dict[str, str]) -> str:
    """The METADATA file, core metadata 2.4; the card is the description."""
    stated = " ".join(about.stated("licence").split())
    known = spdx(stated)
    extras, needed = set(), set()
    for plugin, wrote in about.plugins.items():
        distribution, _, wrote_version = wrote.partition(" ")
        if distribution in ("", "unisono"):
            if extra := get(plugin).extra:
                extras.add(extra)
        else:
            needed.add(f"{distribution}>={wrote_version}" if _VERSION.fullmatch(wrote_version) else distribution)
    since = str(about.info.get("unisono", ""))
    core = f"unisono[{','.join(sorted(extras))}]" if extras else "unisono"
    needed.add(f"{core}>={since}" if _VERSION.fullmatch(since) else core)
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {PREFIX}{name}",
        f"Version: {version}",
        f"Summary: {title}",
        f"Keywords: unisono,{','.join(sorted(about.plugins))}",
        *([f"License-Expression: {known}"] if known else [f"License: {stated}"] if stated else []),
        *(f"License-File: {file}" for file in sorted(licences)),
        "Requires-Python: >=3.10",
        *(f"Requires-Dist: {requirement}" for requirement in sorted(needed)),
        "Description-Content-Type: text/markdown",
        "",
    ]
    card = about.source.folder / CARD
    text = _text(card) if Path(CARD) in about.files else ""
    return "\n".join([*lines, text])


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "backslashreplace")


def _stored(archive: zipfile.ZipFile, place: str, content: BinaryIO) -> str:
    """Add a file to the archive and return its line of RECORD."""
    entry = zipfile.ZipInfo(place, _TIME)
    entry.create_system, entry.external_attr = 3, 0o100644 << 16  # as on Unix, whatever this is
    entry.file_size = content.seek(0, io.SEEK_END)  # tells whether the archive needs its form for large files
    content.seek(0)
    digest = hashlib.sha256()
    with archive.open(entry, "w") as file:
        while chunk := content.read(2**20):
            file.write(chunk)
            digest.update(chunk)
    return f"{place},sha256={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')},{entry.file_size}"
