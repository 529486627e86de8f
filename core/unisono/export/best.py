"""Best: which states of a run were the best by a logged value, as ``run.keep_best`` noted them in ``best.json``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unisono.errors import CheckpointError
from unisono.export.layout import kind_of, shown
from unisono.export.training_state import newest_run
from unisono.files import read_json

BEST = "best.json"


@dataclass(frozen=True)
class Kept:
    """A state that was kept: its step, its value, and its file relative to the run's folder."""

    step: int
    value: float
    file: str


@dataclass(frozen=True)
class Record:
    """What ``best.json`` holds: the value that was watched and the kept states, the best first."""

    monitor: str
    mode: Literal["min", "max"]
    k: int
    best: tuple[Kept, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_record(run: Path) -> Record:
    """Read ``best.json`` of a run's folder; raises ``CheckpointError`` where it is not one."""
    path = run / BEST
    noted = read_json(path, CheckpointError)
    try:
        kept = tuple(Kept(int(each["step"]), float(each["value"]), _inside(each["file"])) for each in noted["best"])
        mode = noted["mode"]
        if mode not in ("min", "max"):
            raise ValueError(mode)
        return Record(str(noted["monitor"]), mode, int(noted["k"]), kept)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{shown(path)} is damaged ({type(error).__name__}): export a state of the run by its own name",
            code="damaged",
            path=path,
        ) from error


def find_best_state(run: str | Path) -> tuple[Path, Kept, str]:
    """Return the best state of a run (or of a recipe's newest run), what was noted of it, and the value's name.

    Raises ``CheckpointError`` where the run kept none.
    """
    given = Path(run)
    folder = newest_run(given, BEST)
    if kind_of(folder) != "folder" or kind_of(folder / BEST) != "file":
        raise CheckpointError(
            f"{shown(given)} kept no best state: train with --run.keep_best.monitor=val/loss, or export the newest "
            "state without --best",
            code="missing",
            path=given,
        )
    record = read_record(folder)
    if not record.best:
        raise CheckpointError(
            f"{shown(folder / BEST)} names no state: export the newest state without --best", code="empty", path=folder
        )
    kept = record.best[0]
    if kind_of(folder / kept.file) == "missing":
        raise CheckpointError(
            f"{shown(folder / kept.file)}, the best state by {record.monitor}, is gone: export the newest "
            "state without --best",
            code="missing",
            path=folder / kept.file,
        )
    return folder / kept.file, kept, record.monitor


def _inside(file: Any) -> str:
    """A file's name within the run's folder."""
    path = Path(str(file))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(file)
    return str(file)
