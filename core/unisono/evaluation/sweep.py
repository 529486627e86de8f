"""Sweep: the same requests under several settings; how good, how many evaluations, how fast, and what is no gain.

Settings take turns, repeat after repeat, so that a busy moment of the machine hits all of them. Every repeat has
seeds of its own, the same for all settings: what a measure varies by from repeat to repeat is its noise.

A setting is a gain in a measure if it is better than *every* cheaper setting by more than twice the standard error
of the paired differences; cheaper means fewer evaluations, or less time where a model does not count them, unless
the probe says what a setting costs (the bits of a codec).
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any, Literal

from unisono.data import derive_seed
from unisono.errors import RequestError
from unisono.evaluation.report import plain, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

NO_GAIN = "no gain here"
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Probe:
    """What a model is swept on: ``requests`` (fields of each), and what is measured of all outputs together.

    ``measure`` returns a number under each name of ``better``, which says whether low or high is good. Without
    it, only time is measured. ``price`` is a name and a function of a setting: what is paid for it, where that is
    not evaluations or time.
    """

    requests: Sequence[dict[str, Any]]
    measure: Callable[[list[Any]], dict[str, float]] | None = None
    better: dict[str, Literal["lower", "higher"]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    price: tuple[str, Callable[[dict[str, Any]], float]] | None = None


@dataclass(frozen=True)
class Point:
    """One setting: seconds of computing per request and per second of output, and each measure, by repeat.

    ``evaluations`` are the network's, per call, and ``rounds`` what of them had to wait for another; both None where
    the model does not count them. ``real_time`` is None where outputs have no duration. ``price`` is the probe's.
    ``gains`` names the measures in which no cheaper setting is as good.
    """

    setting: dict[str, Any]
    evaluations: float | None
    seconds: tuple[float, ...]
    real_time: tuple[float, ...] | None
    measures: dict[str, tuple[float, ...]]
    gains: tuple[str, ...] = ()
    verdict: str = ""
    rounds: float | None = None
    price: float | None = None

    @property
    def name(self) -> str:
        """All of its setting, as text."""
        return self.name_of(self.setting)

    def name_of(self, fields: Iterable[str]) -> str:
        """Return some fields of its setting, as text."""
        return ", ".join(f"{name}={self.setting[name]}" for name in fields)

    @property
    def cost(self) -> float:
        known = [cost for cost in (self.price, self.evaluations) if cost is not None]
        return known[0] if known else min(self.seconds)


@dataclass(frozen=True)
class Sweep:
    """What came out, cheapest first."""

    title: str
    points: list[Point]
    better: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)
    price: str | None = None

    def table(self) -> "Table":
        """Return a rich table: a line per setting; a measure is its mean ± its standard error."""
        from rich.markup import escape
        from rich.table import Table

        caption = ", ".join(f"{name}: {value}" for name, value in self.facts.items())
        table = Table(title=escape(self.title), caption=escape(caption), caption_justify="left")
        table.add_column("setting", overflow="fold", min_width=min(24, max(len(p.name) for p in self.points)))
        parallel = any(point.rounds is not None for point in self.points)
        priced = [] if self.price is None else [self.price]
        heads = [*priced, "evaluations", *(["rounds"] if parallel else []), "seconds, min", "median"]
        heads += ["real-time factor, min", "median"]
        heads += [f"{name} {'↓' if way == 'lower' else '↑'}" for name, way in self.better.items()]
        for head in heads:
            table.add_column(head, justify="right", overflow="fold")
        table.add_column("", overflow="fold")
        for point in self.points:
            speed = [point.seconds, point.real_time]
            cells = [f"{f(values):.4f}" if values else "–" for values in speed for f in (min, median)]
            noted = [f"{fmean(x):.4f} ± {standard_error(x):.4f}" for x in (point.measures[m] for m in self.better)]
            counts = [point.evaluations, *([point.rounds] if parallel else [])]
            counts = [point.price, *counts] if priced else counts
            counted = ["–" if count is None else f"{count:.4g}" for count in counts]
            table.add_row(escape(point.name), *counted, *cells, *noted, point.verdict)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; of what varies by repeat, each of them and its summary."""
        rows = []
        for point in self.points:
            row: dict[str, Any] = {"setting": point.setting, "evaluations": point.evaluations}
            if point.rounds is not None:
                row["rounds"] = point.rounds
            if self.price is not None:
                row[self.price] = point.price
            for name, values in (("seconds", point.seconds), ("real_time_factor", point.real_time)):
                known = values is not None
                row[name] = {"min": min(values), "median": median(values), "repeats": list(values)} if known else None
            row["measures"] = {
                name: {"mean": fmean(x), "standard_error": standard_error(x), "repeats": list(x)}
                for name, x in point.measures.items()
            }
            rows.append({**row, "gains": list(point.gains), "verdict": point.verdict})
        return plain({"title": self.title, "facts": self.facts, "better": self.better, "points": rows})

    def to_json(self, path: str | Path) -> Path:
        """Write the numbers and return the path."""
        return write_json(self.to_dict(), path)

    def numbers(self) -> list[str]:
        """Return the fields whose values are numbers; the others are names, between which no line leads."""
        fields = self.points[0].setting if self.points else {}
        return [f for f in fields if all(type(point.setting[f]) in (int, float) for point in self.points)]

    def series(self) -> dict[str, list[int]]:
        """Return the places of the points that differ in numbers alone, by the names that they share."""
        numbers = self.numbers()
        found: dict[str, list[int]] = {}
        for place, point in enumerate(self.points):
            found.setdefault(point.name_of([name for name in point.setting if name not in numbers]), []).append(place)
        return found

    def figure(self) -> "Figure":
        """Draw every measure against what settings cost and how long they take; hollow points are no gain.

        A line joins the settings that differ in numbers, in a colour for each choice of names.

        Without a measure, real-time factor (or seconds) is drawn for each setting.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import FixedLocator, NullLocator

        timed = all(point.real_time for point in self.points)
        speeds = [median(point.real_time if timed and point.real_time else point.seconds) for point in self.points]
        speed = "real-time factor, median" if timed else "seconds per request, median"
        costs = [
            (self.price or "", [point.price for point in self.points]),
            ("evaluations of the network", [point.evaluations for point in self.points]),
            ("rounds of the network", [point.rounds for point in self.points]),
            (speed, speeds),
        ]
        costs = [(label, values) for label, values in costs if None not in values]
        columns, rows = (len(costs), len(self.better)) if self.better else (1, 1)
        figure = Figure(figsize=(5.5 * columns, 3.6 * rows), layout="constrained")
        figure.suptitle(self.title, fontsize=10)
        if not self.better:
            axes = figure.add_subplot()
            places = range(len(speeds))
            axes.barh(places, speeds, color="tab:blue")
            axes.set(xlabel=speed, yticks=places, yticklabels=[point.name for point in self.points])
            axes.invert_yaxis()
            return figure
        grid = figure.subplots(rows, columns, squeeze=False)
        numbers = self.numbers()
        for line, (name, way) in zip(grid, self.better.items(), strict=True):
            means = [fmean(point.measures[name]) for point in self.points]
            errors = [standard_error(point.measures[name]) for point in self.points]
            for axes, (label, values) in zip(line, costs, strict=True):
                for number, (series, places) in enumerate(self.series().items()):
                    colour = f"C{number % 10}"
                    along = ([values[i] for i in places], [means[i] for i in places], [errors[i] for i in places])
                    axes.errorbar(*along, color=colour, linewidth=1, capsize=2, label=series)
                    for i in places:
                        hollow = i > 0 and name not in self.points[i].gains
                        axes.plot(values[i], means[i], "o", color=colour, markerfacecolor="white" if hollow else colour)
                        note, place = self.points[i].name_of(numbers), (values[i], means[i])
                        axes.annotate(note, place, xytext=(4, 5), textcoords="offset points", fontsize=7)
                if any(self.series()):
                    axes.legend(fontsize=7)
                axes.set(xscale="log", xlabel=label, ylabel=f"{name} ({way} is better)")
                axes.xaxis.set_major_locator(FixedLocator(_apart(values)))
                axes.xaxis.set_major_formatter("{x:.3g}")
                axes.xaxis.set_minor_locator(NullLocator())
        return figure


def sweep(
    synthesizer: Any,
    probe: Probe,
    values: Mapping[str, Sequence[Any]],
    fields: dict[str, Any] | None = None,
    *,
    repeats: int = 3,
    batch_size: int = 1,
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Sweep:
    """Synthesize the probe's requests under every combination of ``values``; ``fields`` are the same in all.

    ``batch_size`` requests are made together: 1 tells the latency of a single one. Every setting is tried once
    before the clock runs. Raises ``RequestError`` where there is nothing to sweep, and for a setting that the
    model refuses.
    """
    fields = fields or {}
    if repeats < 2:
        raise RequestError(
            f"repeats={repeats} must be at least 2: noise is measured between repeats",
            code="range",
            path="repeats",
            value=repeats,
        )
    if batch_size < 1:
        raise RequestError(
            f"batch_size={batch_size} must be at least 1", code="range", path="batch_size", value=batch_size
        )
    if "seed" in values or "seed" in fields:
        raise RequestError(
            "seed is drawn anew in every repeat, so that noise is known: leave it out", code="unsupported", path="seed"
        )
    settings = [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
    if len(settings) < 2:
        raise RequestError(
            "nothing to sweep: give a field several values, such as --num_steps=1,2,4,8", code="empty", path="values"
        )
    if any(settings[i] in settings[:i] for i in range(len(settings))):
        raise RequestError(
            f"a value is given twice in {dict(values)}: give each once",
            code="conflict",
            path="values",
            value=dict(values),
        )
    if not probe.requests:
        raise RequestError(
            "there is nothing to ask the model for: give a text, or the data to measure on",
            code="empty",
            path="requests",
        )
    for setting in settings:  # refuses, and warms up
        asked = [synthesizer.request({**request, **fields, **setting}) for request in probe.requests]
        synthesizer(asked[:1])

    model = synthesizer.model
    counted = getattr(model, "evaluations", None) is not None
    parallel = getattr(model, "rounds", None) is not None
    seconds: list[list[float]] = [[] for _ in settings]
    real_time: list[list[float]] = [[] for _ in settings]
    evaluations: list[list[float]] = [[] for _ in settings]
    rounds: list[list[float]] = [[] for _ in settings]
    measured: list[list[dict[str, float]]] = [[] for _ in settings]
    for turn, i in track([(turn, i) for turn in range(repeats) for i in range(len(settings))]):
        asked = [
            synthesizer.request({**request, **fields, **settings[i], "seed": derive_seed("sweep", turn, number)})
            for number, request in enumerate(probe.requests)
        ]
        batches = [asked[first : first + batch_size] for first in range(0, len(asked), batch_size)]
        before = model.evaluations if counted else 0
        rounds_before = model.rounds if parallel else 0
        start = time.perf_counter()
        made = [output for batch in batches for output in synthesizer(batch)]
        spent = time.perf_counter() - start
        if counted:
            evaluations[i].append((model.evaluations - before) / len(batches))
        if parallel:
            rounds[i].append((model.rounds - rounds_before) / len(batches))
        seconds[i].append(spent / len(asked))
        lasting = [length for output in made if (length := getattr(output, "seconds", None)) is not None]
        if len(lasting) == len(made) and sum(lasting) > 0:
            real_time[i].append(spent / sum(lasting))
        measured[i].append({} if probe.measure is None else probe.measure(made))
    points = [
        Point(
            setting,
            fmean(evaluations[i]) if counted else None,
            tuple(seconds[i]),
            tuple(real_time[i]) if len(real_time[i]) == repeats else None,
            {name: tuple(found[name] for found in measured[i]) for name in probe.better},
            rounds=fmean(rounds[i]) if parallel else None,
            price=None if probe.price is None else float(probe.price[1](setting)),
        )
        for i, setting in enumerate(settings)
    ]
    from torch import get_num_threads

    return Sweep(
        title=f"{synthesizer.info.get('model', type(model).__name__)}: {', '.join(values)}",
        points=judged(points, probe.better),
        better=dict(probe.better),
        facts={
            "requests": len(probe.requests),
            "repeats": repeats,
            "batch size": batch_size,
            **{name: str(value) for name, value in fields.items()},
            **probe.facts,
            "threads": get_num_threads(),
            "device": str(getattr(model, "device", "cpu")),
        },
        price=None if probe.price is None else probe.price[0],
    )


def judged(points: Sequence[Point], better: Mapping[str, str]) -> list[Point]:
    """Return points by cost, with their gains and a verdict; see the module's docstring for the rule."""
    ordered = sorted(points, key=lambda point: (point.cost, min(point.seconds)))
    done = []
    for point in ordered:
        cheaper = [other for other in ordered if other.cost < point.cost]
        gains = tuple(
            name
            for name, way in better.items()
            if cheaper and all(_beats(point.measures[name], other.measures[name], way) for other in cheaper)
        )
        if not better:
            verdict = ""
        elif not cheaper:
            verdict = "cheapest"
        else:
            verdict = f"better {', '.join(gains)}" if gains else NO_GAIN
        done.append(replace(point, gains=gains, verdict=verdict))
    return done


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of at least two values; NaN where one of them could not be measured."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return stdev(values) / math.sqrt(len(values))


def _apart(values: Sequence[float]) -> list[float]:
    """The values that are far enough from the one before on a logarithmic axis to be written there."""
    kept: list[float] = []
    least = (max(values) / min(values)) ** (1 / 8)
    for value in sorted(values):
        if not kept or value > kept[-1] * least:
            kept.append(value)
    return kept


def _beats(mine: Sequence[float], other: Sequence[float], way: str) -> bool:
    sign = -1 if way == "lower" else 1
    ahead = [sign * (a - b) for a, b in zip(mine, other, strict=True)]
    return fmean(ahead) > STANDARD_ERRORS * standard_error(ahead)
