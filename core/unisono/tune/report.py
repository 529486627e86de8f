"""Report: what a study's trials were and what came of them: a table, CSV, JSON, a picture, and the best recipe."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisono.evaluation.report import plain, write_json
from unisono.files import written_aside
from unisono.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


@dataclass(frozen=True)
class Trial:
    """One trial.

    state: finished, pruned, failed (``reason`` says why), running, or moved (it goes on as another trial).
    value: of what is monitored, at the end of a finished trial, and where others were left.
    values: what was searched, by key of the recipe.
    steps: optimiser steps that it took, where known.
    run: its folder, once it has one.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]
    steps: int | None = None
    reason: str = ""
    run: str | None = None


@dataclass(frozen=True)
class Study:
    """All trials of a study, in their order."""

    folder: Path
    recipe: Recipe
    monitor: str
    mode: str
    trials: list[Trial]

    @property
    def best(self) -> Trial | None:
        """The finished trial with the best value; None where none is finished."""
        done = [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]
        key = {trial.number: trial.value or 0.0 for trial in done}
        choose = min if self.mode == "min" else max
        return choose(done, key=lambda trial: key[trial.number]) if done else None

    @property
    def searched(self) -> list[str]:
        """The keys of the recipe that are searched."""
        return list(dict.fromkeys(path for trial in self.trials for path in trial.values))

    def best_recipe(self) -> Recipe | None:
        """Return the recipe with the best trial's values."""
        return None if self.best is None else self.recipe.with_values(self.best.values)

    def table(self) -> "Table":
        """Return a rich table: a line per trial, the best in bold."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(f"{self.recipe.name}: {self.monitor}, {self.mode}"))
        for head in ("trial", *self.searched, self.monitor, "steps", "state", "run", "why"):
            table.add_column(escape(head), overflow="fold")
        best = self.best
        for trial in self.trials:
            cells = [
                str(trial.number),
                *(_cell(trial.values.get(path)) for path in self.searched),
                _cell(trial.value),
                _cell(trial.steps),
                "best" if best is not None and trial.number == best.number else trial.state,
                Path(trial.run).name if trial.run else "",
                trial.reason,
            ]
            bold = "bold" if best is not None and trial.number == best.number else None
            table.add_row(*map(escape, cells), style=bold)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(
            {
                "recipe": self.recipe.name,
                "monitor": self.monitor,
                "mode": self.mode,
                "best": None if self.best is None else self.best.number,
                "trials": [asdict(trial) for trial in self.trials],
            }
        )

    def to_csv(self) -> str:
        """Return a line per trial, comma-separated, with a header."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", "state", self.monitor, "steps", *self.searched, "run", "reason"])
        for trial in self.trials:
            values = [trial.values.get(path) for path in self.searched]
            writer.writerow([trial.number, trial.state, trial.value, trial.steps, *values, trial.run, trial.reason])
        return file.getvalue()

    def figure(self) -> "Figure":
        """Draw the value of each trial and the best so far, and the value against each key that is searched."""
        from matplotlib.figure import Figure

        drawn = [trial for trial in self.trials if trial.value is not None]
        figure = Figure(figsize=(4.2 * (1 + len(self.searched)), 3.6), layout="constrained")
        first, *slices = figure.subplots(1, 1 + len(self.searched), squeeze=False)[0]
        for state, colour in (("finished", "C0"), ("pruned", "C7"), ("failed", "C3"), ("running", "C2")):
            some = [trial for trial in drawn if trial.state == state]
            if not some:
                continue
            values = [trial.value for trial in some]
            first.scatter([trial.number for trial in some], values, s=16, color=colour, label=state)
            for axes, path in zip(slices, self.searched, strict=True):
                axes.scatter([_place(trial.values.get(path)) for trial in some], values, s=16, color=colour)
        best: list[tuple[int, float]] = []
        choose = min if self.mode == "min" else max
        for trial in drawn:
            if trial.state == "finished" and trial.value is not None:
                best.append((trial.number, choose(trial.value, best[-1][1]) if best else trial.value))
        if best:
            first.step(*zip(*best, strict=True), where="post", color="C1", linewidth=1, label="best so far")
        first.set(xlabel="trial", ylabel=self.monitor)
        if drawn:
            first.legend(fontsize=7)
        for axes, path in zip(slices, self.searched, strict=True):
            axes.set(xlabel=path)
            numbers: list[Any] = [trial.values.get(path) for trial in drawn]
            if numbers and all(isinstance(number, float) and number > 0 for number in numbers):
                if max(numbers) > 8 * min(numbers):
                    axes.set_xscale("log")
        for axes in (first, *slices):
            axes.grid(alpha=0.3)
        return figure


def write_report(study: Study, figure: bool = False) -> None:
    """Write ``trials.csv``, ``trials.json``, ``best.yaml`` and, where asked for, ``study.png`` into its folder."""
    with written_aside(study.folder / "trials.csv") as aside:
        aside.write_text(study.to_csv(), encoding="utf-8")
    write_json(study.to_dict(), study.folder / "trials.json")
    best = study.best_recipe()
    if best is not None:
        with written_aside(study.folder / "best.yaml") as aside:
            aside.write_text(best.to_yaml(), encoding="utf-8")
    if figure:
        with written_aside(study.folder / "study.png") as aside:
            study.figure().savefig(aside, dpi=120)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _place(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
