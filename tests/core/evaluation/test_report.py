"""The report: one table, valid JSON."""

import json
import math

import pytest
from rich.console import Console
from unisono.evaluation import Report, Row, Section


@pytest.fixture
def report():
    rows = [
        Row("error", {"a": 1.25, "b": math.nan}, unit="%", digits=1, better="lower"),
        Row("shift", {"b": 3.9}, better="4"),
    ]
    return Report(
        "a test",
        ["a", "b"],
        [Section("words", rows)],
        facts={"sentences": 2},
        items=[{"id": "x", "score": math.inf}],
        failures=[{"id": "y", "system": "b", "reason": "no [sound]"}],
    )


def test_table_shows_every_value_and_every_failure(report):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(report.table())
    text = console.export_text()
    for part in ("error (%) ↓", "1.2", "–", "shift → 4", "3.90", "sentences: 2", "no [sound]"):
        assert part in text


def test_json_is_valid_and_keeps_order(report, tmp_path):
    written = json.loads(report.to_json(tmp_path / "new" / "r.json").read_text())
    assert written["systems"] == ["a", "b"]
    assert written["sections"][0]["rows"][0]["values"] == {"a": 1.25, "b": None}
    assert written["items"] == [{"id": "x", "score": None}]
    assert written["failures"][0]["reason"] == "no [sound]"


def test_values_are_found_by_name(report):
    assert report.value("shift", "b") == 3.9
    assert report.value("shift", "a") is None
    with pytest.raises(KeyError):
        report.value("shape", "a")
