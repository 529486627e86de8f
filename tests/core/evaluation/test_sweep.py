"""Sweeps: what counts as a gain, what is counted and measured, and what is refused. A counting stand-in is swept."""

import json
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from refused import refused
from unisono.errors import RequestError
from unisono.evaluation import Point, Probe, Sweep, sweep
from unisono.evaluation.sweep import NO_GAIN, judged, standard_error
from unisono.request import Request


class Ask(Request):
    """What the stand-in takes."""

    text: str = ""
    num_steps: int = 1
    noise: float = 0.0


class Counter:
    """A synthesizer whose outputs are worth min(num_steps, 4) plus noise; counts one evaluation a step and call."""

    def __init__(self, counted: bool = True):
        self.model = SimpleNamespace(evaluations=0 if counted else None, device="cpu")
        self.info = {"model": "test/counter"}
        self.seeds: list[int] = []
        self.calls: list[int] = []

    def request(self, first):
        return Ask.parse(**first)

    def __call__(self, requests):
        if self.model.evaluations is not None:
            self.model.evaluations += max(request.num_steps for request in requests)
        self.calls.append(len(requests))
        self.seeds.extend(request.seed for request in requests)
        return [
            SimpleNamespace(worth=min(r.num_steps, 4) + r.noise * math.sin(r.seed % 1000), seconds=2.0)
            for r in requests
        ]


def mean_worth(made):
    return {"worth": sum(output.worth for output in made) / len(made)}


PROBE = Probe([{"text": "a"}, {"text": "b"}, {"text": "c"}], mean_worth, {"worth": "higher"})


def point(cost, *values, seconds=1.0):
    return Point({"num_steps": cost}, cost, (seconds,) * len(values), None, {"m": values})


def test_standard_error_by_hand():
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / math.sqrt(3))


def test_the_error_in_table_and_json_is_of_the_mean_over_repeats():
    """Four repeats with a standard deviation of 2: an error of 1."""
    values = (1.0, 5.0, 1.0, 5.0)
    spread = math.sqrt(sum((v - 3) ** 2 for v in values) / 3)
    points = [Point({"n": n}, n, (0.1, 0.4, 0.2, 0.2), (1.0, 3.0, 2.0, 5.0), {"m": values}) for n in (1, 2)]
    result = Sweep("t", judged(points, {"m": "lower"}), {"m": "lower"})
    row = result.to_dict()["points"][0]
    assert row["measures"]["m"]["mean"] == 3.0
    assert row["measures"]["m"]["standard_error"] == pytest.approx(spread / 2)
    assert (row["seconds"]["min"], row["seconds"]["median"]) == (0.1, 0.2)
    assert (row["real_time_factor"]["min"], row["real_time_factor"]["median"]) == (1.0, 2.5)
    table = result.table()
    heads = [str(column.header) for column in table.columns]
    cells = {head: next(iter(column.cells)) for head, column in zip(heads, table.columns, strict=True)}
    assert cells["m ↓"] == f"3.0000 ± {spread / 2:.4f}"
    assert cells["evaluations"] == "1" and cells["seconds, min"] == "0.1000"


def test_what_could_not_be_measured_is_no_gain():
    nothing = float("nan")
    assert math.isnan(standard_error([1.0, nothing])) and math.isnan(standard_error([float("inf"), 1.0]))
    points = judged([point(1, 2.0, 2.0), point(2, 1.0, nothing), point(4, 1.0, 1.0)], {"m": "lower"})
    assert [p.gains for p in points] == [(), (), ()]


def test_a_gain_is_better_than_every_cheaper_row_beyond_its_noise():
    """Differences to the first row: 1 ± 0; 0.1 ± 0.1; −2; and 1.05 ± 0.03, which beats the second by 0.05 ± 0.03."""
    rows = [
        point(4, 0.9, 2.1, 3.3),  # mean difference 0.1, standard error 0.115…: within noise
        point(1, 1.0, 2.0, 3.0),
        point(2, 2.0, 3.0, 4.0),
        point(8, 2.0, 3.06, 4.09),  # beats the row of 2 by 0.05, standard error 0.0265: below twice that
        point(16, 3.0, 4.0, 5.0),
    ]
    done = judged(rows, {"m": "higher"})
    assert [row.cost for row in done] == [1, 2, 4, 8, 16]
    assert [row.verdict for row in done] == ["cheapest", "better m", NO_GAIN, NO_GAIN, "better m"]
    down = judged(rows, {"m": "lower"})
    assert [row.verdict for row in down][1:] == [NO_GAIN] * 4


def test_rows_of_one_cost_are_not_held_against_each_other():
    done = judged([point(1, 1.0, 1.0), point(2, 2.0, 2.0), point(2, 3.0, 3.0, seconds=2.0)], {"m": "higher"})
    assert [row.verdict for row in done] == ["cheapest", "better m", "better m"]
    tied = judged([point(1, 1.0, 1.0), point(2, 1.0, 1.0)], {"m": "higher"})
    assert tied[1].verdict == NO_GAIN


def test_without_a_count_time_is_the_cost():
    rows = [Point({"pace": s}, None, (s, s + 1), None, {"m": (s, s)}) for s in (3.0, 1.0)]
    assert [row.cost for row in judged(rows, {"m": "higher"})] == [1.0, 3.0]


def test_a_price_is_the_cost_where_the_probe_names_one(tmp_path):
    """Eight steps that are said to cost less than one: the order and the verdicts follow the price."""
    probe = replace(PROBE, price=("bits", lambda setting: 10.0 / setting["num_steps"]))
    result = sweep(Counter(), probe, {"num_steps": [1, 2, 8]}, repeats=2)
    assert [(p.setting["num_steps"], p.price) for p in result.points] == [(8, 1.25), (2, 5.0), (1, 10.0)]
    assert [p.verdict for p in result.points] == ["cheapest", NO_GAIN, NO_GAIN]
    assert json.loads(result.to_json(tmp_path / "sweep.json").read_text())["points"][0]["bits"] == 1.25
    assert result.figure().axes[0].get_xlabel() == "bits"
    assert result.table().columns[1].header == "bits"


def test_a_sweep_counts_measures_and_judges():
    counter = Counter()
    result = sweep(counter, PROBE, {"num_steps": [8, 1, 2, 4]}, repeats=3)
    assert [p.setting["num_steps"] for p in result.points] == [1, 2, 4, 8]
    assert [p.evaluations for p in result.points] == [1, 2, 4, 8]
    assert [p.measures["worth"][0] for p in result.points] == [1, 2, 4, 4]
    assert [p.verdict for p in result.points] == ["cheapest", "better worth", "better worth", NO_GAIN]
    for p in result.points:
        assert len(p.seconds) == 3
        assert [3 * s / 6 for s in p.seconds] == pytest.approx(p.real_time)  # three requests, six seconds
    assert counter.calls == [1] * (4 + 4 * 3 * 3)  # each setting once to warm up, then three requests, three times


def test_repeats_have_seeds_of_their_own_which_settings_share():
    counter = Counter()
    sweep(counter, PROBE, {"num_steps": [1, 2]}, repeats=3)
    turns = [counter.seeds[2:][i : i + 3] for i in range(0, 18, 3)]
    assert turns[0] == turns[1] and turns[2] == turns[3] and turns[4] == turns[5]
    assert len({seed for turn in turns for seed in turn}) == 9


def test_noise_makes_a_small_step_no_gain():
    """A worth of 2 against 1 is no gain where noise of ±50 hits each setting its own way."""

    class Noisy(Counter):
        def request(self, first):
            return super().request({**first, "noise": 50.0 * (1 if first["num_steps"] == 1 else -1)})

    result = sweep(Noisy(), PROBE, {"num_steps": [1, 2]}, repeats=4)
    assert result.points[1].verdict == NO_GAIN
    assert sweep(Counter(), PROBE, {"num_steps": [1, 2]}, repeats=4).points[1].verdict == "better worth"


def test_batches_are_counted_per_call():
    counter = Counter()
    result = sweep(counter, PROBE, {"num_steps": [1, 2]}, repeats=2, batch_size=2)
    assert [p.evaluations for p in result.points] == [1, 2]
    assert counter.calls[2:] == [2, 1] * 4


def test_seconds_are_of_one_request_and_of_one_second_of_output(monkeypatch):
    """By a clock that a request alone moves, by half a second; each output lasts two."""
    counter, clock = Counter(), [100.0]
    made = counter.__call__

    def slow(requests):
        clock[0] += 0.5 * len(requests)
        return made(requests)

    monkeypatch.setattr(Counter, "__call__", lambda self, requests: slow(requests))
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    for point_ in sweep(counter, PROBE, {"num_steps": [1, 2]}, repeats=2, batch_size=2).points:
        assert point_.seconds == pytest.approx((0.5, 0.5)) and point_.real_time == pytest.approx((0.25, 0.25))


class SideBySide(Counter):
    """Two rounds a call, whatever the steps; a hundred were made before."""

    def __init__(self):
        super().__init__()
        self.model.rounds = 100

    def __call__(self, requests):
        self.model.rounds += 2
        return super().__call__(requests)


def test_rounds_are_counted_where_evaluations_run_side_by_side(tmp_path):
    result = sweep(SideBySide(), PROBE, {"num_steps": [2, 4]}, repeats=2)
    assert [(p.evaluations, p.rounds) for p in result.points] == [(2, 2), (4, 2)]
    assert [p["rounds"] for p in json.loads(result.to_json(tmp_path / "s.json").read_text())["points"]] == [2, 2]
    assert "rounds" in [column.header for column in result.table().columns]
    plain = sweep(Counter(), PROBE, {"num_steps": [2, 4]}, repeats=2)
    assert plain.points[0].rounds is None
    assert "rounds" not in plain.to_dict()["points"][0]
    assert "rounds" not in [column.header for column in plain.table().columns]


def test_table_json_and_picture(tmp_path):
    result = sweep(Counter(), PROBE, {"num_steps": [1, 8], "noise": [0.0, 0.5]}, {"text": "x"}, repeats=2)
    assert len(result.points) == 4
    assert result.table().row_count == 4
    kept = json.loads(result.to_json(tmp_path / "new" / "sweep.json").read_text())
    assert [row["setting"]["num_steps"] for row in kept["points"]] == [1, 1, 8, 8]
    assert kept["points"][0]["verdict"] == "cheapest"
    assert kept["points"][0]["seconds"]["min"] <= kept["points"][0]["seconds"]["median"]
    axes = result.figure().axes
    assert [a.get_xlabel() for a in axes] == ["evaluations of the network", "real-time factor, median"]
    assert axes[0].get_ylabel() == "worth (higher is better)"


def test_without_a_measure_or_a_count_only_time_is_told():
    result = sweep(Counter(counted=False), Probe([{"text": "a"}]), {"num_steps": [1, 2]}, repeats=2)
    assert {p.evaluations for p in result.points} == {None}
    assert {p.verdict for p in result.points} == {""}
    (axes,) = result.figure().axes
    assert axes.get_xlabel() == "real-time factor, median"
    assert [patch.get_width() for patch in axes.patches] == [pytest.approx(sum(p.real_time) / 2) for p in result.points]


@pytest.mark.parametrize(
    ("values", "fields", "options", "code", "path", "value"),
    [
        ({}, {}, {}, "empty", "values", None),
        ({"num_steps": [1]}, {}, {}, "empty", "values", None),
        ({"num_steps": [1, 1]}, {}, {}, "conflict", "values", {"num_steps": [1, 1]}),
        ({"num_steps": [1, "x"]}, {}, {}, "type", "num_steps", "x"),
        ({"num_step": [1, 2]}, {}, {}, "unknown", "num_step", 1),
        ({"num_steps": [1, 2]}, {"seed": 3}, {}, "unsupported", "seed", None),
        ({"num_steps": [1, 2], "seed": [1, 2]}, {}, {}, "unsupported", "seed", None),
        ({"num_steps": [1, 2]}, {}, {"repeats": 1}, "range", "repeats", 1),
        ({"num_steps": [1, 2]}, {}, {"batch_size": 0}, "range", "batch_size", 0),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_made(values, fields, options, code, path, value):
    counter = Counter()
    with refused(RequestError, code, path, value=value):
        sweep(counter, PROBE, values, fields, **options)
    assert len(counter.calls) <= 1  # a good setting before the bad one is tried


def test_nothing_to_ask_for():
    with refused(RequestError, "empty", "requests"):
        sweep(Counter(), Probe([]), {"num_steps": [1, 2]})


def test_names_are_drawn_as_lines_of_their_own_and_no_line_leads_between_them():
    """Two samplers at two lengths each, and interleaved costs: a line for each sampler, through its own points."""
    points = judged(
        [
            Point({"sampler": s, "num_steps": n}, n + shift, (1.0, 1.0), None, {"m": (shift + n, shift + n)})
            for s, shift in (("maskgit", 0.0), ("halton", 0.5))
            for n in (1, 2)
        ],
        {"m": "higher"},
    )
    result = Sweep("t", points, {"m": "higher"})
    assert result.numbers() == ["num_steps"]
    assert result.series() == {"sampler=maskgit": [0, 2], "sampler=halton": [1, 3]}
    axes = result.figure().axes[0]
    lines = {tuple(line[0].get_xdata()): line for line in axes.containers}
    assert set(lines) == {(1.0, 2.0), (1.5, 2.5)}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["sampler=maskgit", "sampler=halton"]
    assert sorted(text.get_text() for text in axes.texts) == ["num_steps=1"] * 2 + ["num_steps=2"] * 2
    assert lines[(1.0, 2.0)][0].get_color() != lines[(1.5, 2.5)][0].get_color()


def test_names_alone_have_no_line_and_switches_are_names():
    points = [
        Point({"mode": mode, "flag": True}, i + 1.0, (1.0, 1.0), None, {"m": (i, i)}) for i, mode in enumerate("abc")
    ]
    result = Sweep("t", points, {"m": "lower"})
    assert result.numbers() == [] and [len(places) for places in result.series().values()] == [1, 1, 1]
    assert all(len(line[0].get_xdata()) == 1 for line in result.figure().axes[0].containers)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_long_setting_is_not_cut(width):
    import io

    from rich.console import Console

    name = "a-sampler-of-a-very-long-name-that-no-column-holds"
    points = [Point({"sampler": f"{name}-{i}"}, i + 1.0, (1.0, 1.0), None, {"m": (i, i)}) for i in (0, 1)]
    out = io.StringIO()
    Console(file=out, width=width).print(Sweep("t", points, {"m": "lower"}).table())
    letters = "".join(out.getvalue().split())
    assert "…" not in letters
    if width == 200:
        assert f"{name}-1" in out.getvalue()
