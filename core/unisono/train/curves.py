"""Training curves: what runs logged, read back from their folders and drawn beside each other."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unisono.errors import CheckpointError, UnisonoError, did_you_mean
from unisono.export import newest_run
from unisono.export.training_state import has_training_state
from unisono.recipe import Recipe
from unisono.switches import check_loggers
from unisono.train.claim import LOCK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_TAGS = ("train/loss", "val/loss")
EVENTS, TABLES = "events.out.tfevents.*", "csv/*/metrics.csv"
"""Where TensorBoard and the logger ``csv`` keep what they are told."""
LOG_EVERY = 50
"""Steps between two logged values where a recipe says nothing."""


@dataclass(frozen=True)
class Curve:
    """One value over the steps of one run; of a step that a resumed run logged twice, the later value."""

    run: str
    tag: str
    steps: list[int]
    values: list[float]


def read_curves(run: str | Path) -> dict[str, Curve]:
    """Read what a run logged: a curve per tag, such as ``train/loss``.

    A folder of numbered runs stands for its newest one. Values are those of TensorBoard and of the logger ``csv``.
    Raises ``CheckpointError`` where nothing was logged.
    """
    folder = newest_run(run, (EVENTS, TABLES))
    events, tables = list(folder.glob(EVENTS)), sorted(folder.glob(TABLES), key=lambda path: path.stat().st_mtime)
    if not events and not tables:
        begun = _begun(folder)
        if begun is not None:
            elsewhere = _elsewhere(begun)
            if elsewhere:
                raise CheckpointError(
                    f"{str(run)!r:.200} logs to {elsewhere}: see there, or train with --run.logger=csv or tensorboard",
                    code="unsupported",
                    path=run,
                    value=elsewhere,
                )
            raise CheckpointError(
                f"{str(run)!r:.200} has logged nothing yet: {first_values(folder)}", code="empty", path=run
            )
        raise CheckpointError(
            f"no training log under {str(run)!r:.200}: give a run folder, as `unisono train` prints it",
            code="missing",
            path=run,
        )
    points: dict[str, dict[int, float]] = {}
    if events:
        _read_events(folder, points)
    for table in tables:
        _read_table(table, points)
    if not (points or has_training_state(folder)) and _begun(folder) is not None:
        raise CheckpointError(
            f"{str(run)!r:.200} has logged nothing yet: {first_values(folder)}", code="empty", path=run
        )
    label = f"{folder.parent.name}/{folder.name}" if folder.name.isdigit() else folder.name
    return {
        tag: Curve(label, tag, sorted(values), [values[step] for step in sorted(values)])
        for tag, values in points.items()
    }


def _read_events(folder: Path, points: dict[str, dict[int, float]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    for tag in events.Tags()["scalars"]:
        points.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})


def _read_table(path: Path, points: dict[str, dict[int, float]]) -> None:
    """Read the logger ``csv``'s file: a row per step that logged anything, empty where a tag had no value."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                step = int(row.pop("step"))
                for tag, value in row.items():
                    if value and tag != "epoch":
                        points.setdefault(tag, {})[step] = float(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise CheckpointError(
            f"{str(path)!r:.200} is no table of logged values ({type(error).__name__}): remove it",
            code="damaged",
            path=path,
        ) from None


def _elsewhere(run: Path) -> str:
    """The loggers of a run that keep nothing in its folder, where it has no others."""
    try:
        items = check_loggers(Recipe.read(run / "recipe.yaml").run_spec.logger)
    except UnisonoError:
        return ""
    names = [item if isinstance(item, str) else str(item["class_path"]) for item in items]
    if not items:
        return "no logger"
    return "" if any(name.lower().startswith(("tensorboard", "csv")) for name in names) else ", ".join(names)


def first_values(run: Path | None = None) -> str:
    """Say when a run logs its first values, by its own recipe where it has one."""
    begun = _begun(run) if run is not None else None
    if begun is not None and not (begun / "recipe.yaml").is_file():
        return "it prepares its data, or was stopped while it did; ask again when its first steps are done"
    steps, why = LOG_EVERY, "unless the recipe says another"
    if begun is not None:
        try:
            given = Recipe.read(begun / "recipe.yaml").trainer
        except UnisonoError:
            given = {}
        steps, why = given.get("log_every_n_steps") or LOG_EVERY, "fewer with --trainer.log_every_n_steps"
    return (
        f"the first losses are logged after trainer.log_every_n_steps={steps} steps ({why}), those of validation after "
        "the first validation; until then `unisono train` prints them"
    )


def _begun(folder: Path) -> Path | None:
    """Return the run that a folder is, or the newest of its numbered ones; None for any other folder."""
    if folder.is_dir() and folder.name.isdecimal() and (not any(folder.iterdir()) or _marked(folder)):
        return folder
    if _marked(folder):
        return folder
    numbered = [path for path in folder.glob("*") if path.name.isdecimal() and path.is_dir()]
    newest = max(numbered, key=lambda path: int(path.name), default=None)
    return newest and _begun(newest)


def _marked(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("recipe.yaml", LOCK))


def select_curves(runs: Sequence[dict[str, Curve]], tags: Sequence[str] | None = None) -> dict[str, list[Curve]]:
    """Return the curves of each tag, run by run; without tags, those of ``DEFAULT_TAGS`` that any run has.

    Raises ``CheckpointError`` for a tag that no run logged; a run without it is left out of that tag's list.
    """
    known = {tag for curves in runs for tag in curves}
    if not tags:
        tags = [tag for tag in DEFAULT_TAGS if tag in known]
        if not tags:
            wanted = " or ".join(DEFAULT_TAGS)
            if not known:
                raise CheckpointError(
                    f"no run logged {wanted}: there is nothing yet; {first_values()}", code="empty", path="--tag"
                )
            told = ", ".join(sorted(known))
            raise CheckpointError(
                f"no run logged {wanted}: give --tag; there is {told}", code="missing", path="--tag", value=wanted
            )
    for tag in tags:
        if tag not in known:
            raise CheckpointError(
                f"no run logged {tag!r}{did_you_mean(tag, known)}", code="unknown", path="--tag", value=tag
            )
    return {tag: [curves[tag] for curves in runs if tag in curves] for tag in tags}


def draw_curves(chosen: dict[str, list[Curve]]) -> "Figure":
    """Draw a panel per tag, with a line per run; the same run has the same colour in all of them."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(curve.run for curves in chosen.values() for curve in curves))
    figure = Figure(figsize=(5.5 * len(chosen), 3.8), layout="constrained")
    for axes, (tag, curves) in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen.items(), strict=True):
        for curve in curves:
            look = {"color": f"C{labels.index(curve.run) % 10}", "marker": "o" if len(curve.steps) < 12 else ""}
            axes.plot(curve.steps, curve.values, linewidth=1, markersize=3, label=curve.run, **look)
        axes.set(xlabel="step", ylabel=tag)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return figure
