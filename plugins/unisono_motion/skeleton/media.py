"""Motion: what a motion model makes; a moving skeleton that saves, plots and shows itself."""

import base64
import html
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from unisono.errors import DataError, MissingProgram
from unisono.files import shown
from unisono.media import Media

from unisono_motion.skeleton.arrays import read_npz
from unisono_motion.skeleton.bvh import format_bvh, read_bvh
from unisono_motion.skeleton.skeleton import Skeleton

if TYPE_CHECKING:
    from unisono_motion.skeleton.draw import Scene

NOTEBOOK_FPS = 15
MAX_FPS = 10_000.0
_PARTS = ("positions", "names", "parents", "offsets", "ends", "fps", "caption")


@dataclass(frozen=True, eq=False)
class Motion(Media):
    """A skeleton over time: ``positions`` [t, j, 3] in metres (y up) at ``fps``, and ``rotations`` where known.

    ``rotations`` [t, j, 3, 3] are relative to the parent's frame; BVH needs them, and without them they are
    fitted to the positions. ``caption`` says what it shows. ``offset`` is where it begins in the stream that it is a
    piece of, in seconds.
    """

    positions: np.ndarray
    skeleton: Skeleton
    fps: float
    rotations: np.ndarray | None = None
    caption: str = ""
    offset: float = 0.0

    suffixes: ClassVar[tuple[str, ...]] = (".bvh", ".npz", ".gif", ".mp4")
    shown: ClassVar[str] = "unisono_motion.skeleton:view.js"

    def __post_init__(self):
        frames, joints = len(self.positions), len(self.skeleton)
        if self.positions.shape != (frames, joints, 3) or frames == 0:
            raise ValueError(f"positions must be [frames, {joints}, 3], got shape {self.positions.shape}")
        if self.rotations is not None and self.rotations.shape != (frames, joints, 3, 3):
            raise ValueError(f"rotations must be [{frames}, {joints}, 3, 3], got shape {self.rotations.shape}")
        if not 0 < self.fps <= MAX_FPS:
            raise ValueError(f"fps={self.fps} must be above 0 and at most {MAX_FPS:g}")

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.positions) / self.fps

    def following(self, previous: "Motion | None") -> "Motion":
        """Return it with its offset: where the previous piece ends, counted in frames."""
        if previous is None:
            return self
        fps = previous.fps
        return replace(self, offset=(round(previous.offset * fps) + len(previous.positions)) / fps)

    @cached_property
    def local_rotations(self) -> np.ndarray:
        """``rotations``, or those that lay the bones along the positions."""
        return self.skeleton.fit_rotations(self.positions) if self.rotations is None else self.rotations

    @staticmethod
    def join(pieces: Sequence["Motion"]) -> "Motion":
        """Return one motion of pieces that go on where the last one ended."""
        first = pieces[0]
        positions = np.concatenate([piece.positions for piece in pieces])
        rotations = np.concatenate([piece.local_rotations for piece in pieces])
        return Motion(positions, first.skeleton, first.fps, rotations, first.caption, first.offset)

    def about(self) -> dict[str, Any]:
        """Return frame rate, caption, joints with their parents, and positions [t, j, 3] in metres, to a millimetre."""
        told = {"seconds": self.seconds, "fps": self.fps, "caption": self.caption}
        joints = {"names": list(self.skeleton.names), "parents": [int(parent) for parent in self.skeleton.parents]}
        return {**told, **joints, "positions": self.positions.astype(np.float64).round(3).tolist()}

    def __repr__(self) -> str:
        return f"Motion({self.seconds:.2f} s, {self.fps:g} fps, {len(self.skeleton)} joints)"

    @classmethod
    def read(cls, path: str | Path, metres_per_unit: float = 0.01) -> "Motion":
        """Read a BVH file (lengths in ``metres_per_unit``) or an NPZ that was saved here; raises ``DataError``."""
        path = Path(path)
        if path.suffix.lower() == ".npz":
            return cls._read_npz(path)
        capture = read_bvh(path, metres_per_unit)
        positions = capture.skeleton.positions(capture.rotations, capture.root)
        return cls(positions, capture.skeleton, capture.fps, capture.rotations)

    @classmethod
    def _read_npz(cls, path: Path) -> "Motion":
        parts = read_npz(path)
        missing = [name for name in _PARTS if name not in parts]
        if missing:
            raise DataError(
                f"{shown(path)}: is not a motion saved as NPZ (lacks {', '.join(missing)}); save it again",
                code="format",
                path=path,
                value=missing,
            )
        try:
            skeleton = Skeleton(
                tuple(str(name) for name in parts["names"].tolist()),
                tuple(int(parent) for parent in parts["parents"].tolist()),
                _numbers(parts, "offsets"),
                _numbers(parts, "ends"),
            )
            rotations = _numbers(parts, "rotations") if "rotations" in parts else None
            caption = str(parts["caption"].item())
            return cls(_numbers(parts, "positions"), skeleton, float(parts["fps"].item()), rotations, caption)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{shown(path)}: is not a motion saved as NPZ ({error}); save it again", code="format", path=path
            ) from None

    def _write(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix == ".bvh":
            root = self.positions[:, 0]
            path.write_text(format_bvh(self.skeleton, self.local_rotations, root, self.fps), encoding="utf-8")
        elif suffix == ".npz":
            parts: dict[str, Any] = {} if self.rotations is None else {"rotations": self.rotations}
            with path.open("wb") as file:
                np.savez_compressed(
                    file,
                    positions=self.positions,
                    names=np.array(self.skeleton.names),
                    parents=np.array(self.skeleton.parents),
                    offsets=self.skeleton.offsets,
                    ends=self.skeleton.ends,
                    fps=np.array(self.fps),
                    caption=np.array(self.caption),
                    **parts,
                )
        else:
            if suffix == ".mp4" and shutil.which("ffmpeg") is None:
                raise MissingProgram(
                    "MP4 needs ffmpeg on the PATH; install it, or use .gif", code="dependency", path="ffmpeg"
                )
            from unisono_motion.skeleton.draw import write_video

            write_video(self._scene(), path)

    def plot(self, num_poses: int = 8):
        """Draw poses at equal distances in time, side by side on the ground."""
        from unisono_motion.skeleton.draw import strip_figure

        return strip_figure(self._scene(), num_poses)

    def _scene(self) -> "Scene":
        from unisono_motion.skeleton.draw import Scene

        return Scene(self.positions, self.skeleton, self.fps, self.caption)

    def _repr_html_(self) -> str:
        from unisono_motion.skeleton.draw import write_gif

        buffer = io.BytesIO()
        write_gif(self._scene(), buffer, NOTEBOOK_FPS)
        data = base64.b64encode(buffer.getvalue()).decode()
        label = html.escape(f"{self.caption} {self!r}".strip())
        return f'<img alt="{label}" title="{label}" src="data:image/gif;base64,{data}">'


def _numbers(parts: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return an array of finite floating-point numbers."""
    values = parts[name]
    if values.dtype.kind != "f":
        raise ValueError(f"{name} holds {values.dtype}, expected floating point")
    if not np.isfinite(values).all():
        raise ValueError(f"NaN or infinity among the {name}")
    return values
