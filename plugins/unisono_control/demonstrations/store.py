"""Demonstration store: episodes of an expert on disk, each step with what was seen, what should be and what was done.

::

    demos/
        episodes.json       the environment, its settings, and a row for each episode
        steps.safetensors   states [n, s], actions [n, a], executed [n, a], rewards [n], pictures [n, 3, h, w]

``actions`` are the expert's, ``executed`` what the environment was given: those with noise, where an episode has some
(so that the expert is seen to come back). Nothing in a folder is code. It is written aside and renamed when whole.

Shapes: n steps of all episodes, s numbers of the state, a of an action.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from unisono.checks import is_real, is_whole
from unisono.errors import DataError
from unisono.files import fault_of, folder_written_aside, is_file, read_json

from unisono_control.environments.protocol import EnvironmentSpec

FORMAT = 1
TABLE, STEPS = "episodes.json", "steps.safetensors"
NEEDED = ("states", "actions", "executed", "rewards")


@dataclass(frozen=True, kw_only=True)
class EpisodeRow:
    """One episode: its seed and instruction, its ``steps`` steps from ``start`` on, and how it went.

    ``noise`` is the standard deviation of what was added to the expert's actions, as a share of their range.
    """

    seed: int
    instruction: str
    kind: str
    start: int
    steps: int
    score: float
    noise: float

    @property
    def id(self) -> str:
        return f"seed-{self.seed}"

    @property
    def stop(self) -> int:
        """The step after its last."""
        return self.start + self.steps


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Episodes of one environment, and all their steps one after the other."""

    spec: EnvironmentSpec
    settings: dict[str, Any]
    episodes: tuple[EpisodeRow, ...]
    states: Float[np.ndarray, "n s"]
    actions: Float[np.ndarray, "n a"]
    executed: Float[np.ndarray, "n a"]
    rewards: Float[np.ndarray, " n"]
    pictures: UInt8[np.ndarray, "n 3 h w"] | None = None

    def save(self, folder: str | Path) -> Path:
        """Write a folder; raises ``DataError`` where one is there already, or it cannot be written."""
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
            raise DataError(f"{folder}: is there already; give another name, or remove it", code="exists", path=folder)
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in NEEDED}
        if self.pictures is not None:
            arrays["pictures"] = np.ascontiguousarray(self.pictures)
        table = {
            "format": FORMAT,
            "environment": asdict(self.spec),
            "settings": self.settings,
            "episodes": [asdict(row) for row in self.episodes],
        }
        with folder_written_aside(folder, DataError) as aside:
            save_file(arrays, aside / STEPS)
            (aside / TABLE).write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def read(cls, folder: str | Path) -> "Demonstrations":
        """Read a folder that ``save`` wrote; raises ``DataError`` with file and remedy for anything else."""
        folder = Path(folder).expanduser()
        if not is_file(folder / TABLE):
            if not folder.exists() and (fault := fault_of(folder, "check data.root")):
                raise fault.error()
            raise DataError(
                f"{folder}: holds no {TABLE}; record one with  unisono control record ENVIRONMENT {folder.name}",
                code="missing",
                path=folder,
            )
        table = read_json(folder / TABLE)
        if not isinstance(table, dict) or table.get("format") != FORMAT:
            got = table.get("format") if isinstance(table, dict) else None
            raise _damaged(folder / TABLE, f"has format {got!r}, this version reads {FORMAT}", "version")
        try:
            spec = _spec(table["environment"])
            episodes = tuple(EpisodeRow(**row) for row in table["episodes"])
            settings = dict(table["settings"])
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(folder / TABLE, f"{type(error).__name__}: {error}") from None
        try:
            arrays = load_file(folder / STEPS)
        except (SafetensorError, OSError) as error:
            raise _damaged(folder / STEPS, f"cannot be read ({error!s:.120})") from None
        missing = [name for name in (*NEEDED, *(["pictures"] if spec.picture_size else [])) if name not in arrays]
        if missing:
            raise _damaged(folder / STEPS, f"lacks {', '.join(missing)}", "missing")
        found = cls(spec, settings, episodes, **{name: arrays.get(name) for name in (*NEEDED, "pictures")})  # type: ignore[arg-type]
        found._check(folder)
        return found

    def _check(self, folder: Path) -> None:
        n, (s, a, size) = len(self.states), (len(self.spec.state_names), self.spec.num_actions, self.spec.picture_size)
        wanted = {"states": (n, s), "actions": (n, a), "executed": (n, a), "rewards": (n,)}
        wanted |= {"pictures": (n, 3, size, size)} if size else {}
        for name, shape in wanted.items():
            array = getattr(self, name)
            kind = np.uint8 if name == "pictures" else np.float32
            if array.shape != shape or array.dtype != kind:
                said = f"{name} is {array.dtype} of shape {array.shape}, expected {np.dtype(kind)} of {shape}"
                raise _damaged(folder / STEPS, said, "shape")
        place = 0
        for row in self.episodes:
            whole = is_whole(row.seed, 0) and is_whole(row.start, 0) and is_whole(row.steps, 1)
            if not (whole and is_real(row.score) and is_real(row.noise, 0)):
                raise _damaged(folder / TABLE, f"has an episode {row!r:.120}", "type")
            if row.start != place:
                raise _damaged(folder / TABLE, f"{row.id} starts at step {row.start}, expected {place}")
            place = row.stop
        if place != n:
            raise _damaged(folder / TABLE, f"has episodes of {place} steps, {STEPS} of {n}")


def _spec(values: dict[str, Any]) -> EnvironmentSpec:
    given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return EnvironmentSpec(**given)


def _damaged(path: Path, what: str, code: Any = "damaged") -> DataError:
    return DataError(f"{path}: {what}; record it again", code=code, path=path)
