"""Folder data: a user's own pairs of views, one folder for each object.

::

    ROOT/cameras.json           what they are seen by; without it the six cameras of made objects
    ROOT/captions.csv           OBJECT|caption; without it objects have none
    ROOT/OBJECT/view-0.png …    the true views, in the order of the cameras
    ROOT/OBJECT/coarse-0.png …  the degraded ones

``view.png`` and ``coarse.png`` may be sheets instead. An object that cannot be used is listed with its reason.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, ValidationError
from unisono.data import Audit, Drop, find_captions, read_captions
from unisono.errors import DataError
from unisono.files import Found, is_file, is_folder, read_json, walk
from unisono.media.pictures import IMAGE_SUFFIXES, read_image

from unisono_views.cameras import Cameras
from unisono_views.data import ViewData
from unisono_views.facts import BACKGROUND
from unisono_views.media import COLUMNS, cut, has_more

KINDS = ("view", "coarse")


class CameraFile(BaseModel):
    """The content of ``cameras.json``: keys as of `Cameras`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    azimuths: list[float]
    elevations: list[float]
    distance: float = Cameras.distance
    fov_degrees: float = Cameras.fov_degrees


class FolderData(ViewData):
    """Pairs of views from a folder; see this module.

    Args:
        root: the folder.
        size: pixels a side that all views have.
        grey_share, batch_size, val_size, num_workers: as of `ViewData`.
    """

    def __init__(
        self,
        root: str,
        *,
        size: int = 320,
        grey_share: float = 0.0,
        batch_size: int = 16,
        val_size: int = 48,
        num_workers: int = 0,
    ):
        super().__init__(
            size=size, grey_share=grey_share, batch_size=batch_size, val_size=val_size, num_workers=num_workers
        )
        self.root = root

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("objects")
        pairs = Pairs(Path(self.root), audit)
        ids, views, coarse = [], [], []
        for id in pairs.ids:
            try:
                both = pairs.read(id, self.pixels)
            except Drop as drop:
                audit.drop(id, drop.reason, str(drop))
                continue
            audit.keep(id, group="with a caption" if pairs.captions.get(id) else "without a caption")
            ids.append(id)
            views.append(torch.from_numpy(both[0]))
            coarse.append(torch.from_numpy(both[1]))
        if not ids:
            raise DataError(
                f"{self.root}: holds no object that can be used; dropped: {audit.reasons}",
                code="empty",
                path=self.root,
            )
        captions = [pairs.captions.get(id, "") for id in ids]
        return self.settle(audit, ids, torch.stack(views), torch.stack(coarse), captions, pairs.cameras)


class Pairs:
    """The objects of a folder: their ids, captions, cameras and pictures; what is no picture goes to the audit."""

    def __init__(self, root: Path, audit: Audit | None = None):
        audit = audit or Audit("objects")
        self.root, self.cameras = root, read_cameras(root)
        found = walk(root, IMAGE_SUFFIXES)
        found.tell(audit)
        self.files: dict[str, dict[str, Found]] = {}
        for file in found.files:
            folder, _, name = file.stem.rpartition("/")
            if folder and name.partition("-")[0] in KINDS:
                named = self.files.setdefault(folder, {})
                if name in named:
                    audit.drop(file.id, "same name", f"{named[name].id} is {name} of {folder} already")
                else:
                    named[name] = file
            else:
                audit.drop(file.id, "other name", "pictures are OBJECT/view-0.png … and OBJECT/coarse-0.png …")
        self.ids = list(self.files)
        self.captions = _captions(root, audit)
        for id in sorted(set(self.captions) - set(self.ids)):
            audit.drop(id, "missing", "has a caption and no pictures")

    def read(self, id: str, size: int) -> tuple[UInt8[np.ndarray, "v 3 s s"], UInt8[np.ndarray, "v 3 s s"]]:
        """Return the true views of an object and the degraded ones; raises ``Drop``."""
        count = len(self.cameras)
        read = [_views(self.files[id], kind, count, size) for kind in KINDS]
        return read[0], read[1]


def read_cameras(root: Path) -> Cameras:
    """Return the cameras of a folder, those of made objects where it says nothing; raises ``DataError``."""
    path = root / "cameras.json"
    if not is_folder(root) or not is_file(path):
        return Cameras()
    try:
        told = CameraFile.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {name}: {first['msg']}", code="format", path=path, value=first["input"]) from None
    return Cameras(
        azimuths=tuple(told.azimuths),
        elevations=tuple(told.elevations),
        distance=told.distance,
        fov_degrees=told.fov_degrees,
    )


def _views(files: Mapping[str, Found], kind: str, count: int, size: int) -> UInt8[np.ndarray, "v 3 s s"]:
    """The views of a kind, of one sheet or of a file each; raises ``Drop``."""
    single = [name for name in files if name.startswith(f"{kind}-")]
    if kind in files and single:
        raise Drop("two forms", f"has a sheet {files[kind].id} and {single[0]} beside it: keep one of them")
    if kind in files:
        sheet = read_image(files[kind].path, BACKGROUND)
        wanted = (-(-count // COLUMNS) * size, COLUMNS * size)
        if sheet.shape[1:] != wanted:
            said = f"{files[kind].id} has {sheet.shape[2]} × {sheet.shape[1]} pixels"
            raise Drop("other size", f"{said}, {count} views of {size} make {wanted[1]} × {wanted[0]}")
        if has_more(sheet, count):
            raise Drop("further views", f"{files[kind].id} shows more views than the {count} cameras see")
        return np.ascontiguousarray(cut(sheet, count))
    names = [f"{kind}-{number}" for number in range(count)]
    missing = [name for name in names if name not in files]
    if missing:
        raise Drop("missing views", f"has no {missing[0]} ({len(missing)} of {count} {kind} pictures are not there)")
    further = [name for name in single if name not in names]
    if further:
        raise Drop("further views", f"{further[0]} is none of the {count} cameras'")
    views = [read_image(files[name].path, BACKGROUND) for name in names]
    for name, view in zip(names, views, strict=True):
        if view.shape[1:] != (size, size):
            raise Drop("other size", f"{name} has {view.shape[2]} × {view.shape[1]} pixels, not {size} × {size}")
    return np.stack(views)


def _captions(root: Path, audit: Audit) -> dict[str, str]:
    """The first caption of each object; none where the folder has no list."""
    try:
        table = find_captions(root)
    except DataError as error:
        if error.code != "missing":
            raise
        return {}
    found: dict[str, Any] = read_captions(table, "object", audit)
    several = sum(len(captions) > 1 for captions in found.values())
    if several:
        audit.note(f"{several} objects have several captions: the first of each is used")
    return {name: captions[0] for name, captions in found.items()}
