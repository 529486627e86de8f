"""The report: one table, valid JSON."""

import json
import math

import pytest
from refused import refused
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


def test_a_table_by_hand(report):
    """Digits, arrows and units of each row, in the columns of their systems."""
    from unisono.evaluation.report import _cell

    assert [_cell(1.256, 1), _cell(1.256, 2), _cell(2.0, 0), _cell("12 of 40", 3)] == ["1.3", "1.26", "2", "12 of 40"]
    assert [_cell(None, 2), _cell(math.nan, 2), _cell(math.inf, 2), _cell(0.0, 1)] == ["–", "–", "inf", "0.0"]
    table = report.table()
    assert [column.header for column in table.columns] == ["measure", "a", "b"]
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["[bold]words[/bold]", "  error (%) ↓", "  shift → 4"]
    assert cells[1][1:] == ["1.2", "–"] and cells[2][1:] == ["–", "3.90"]
    higher = Report("t", ["a"], [Section("s", [Row("m", {"a": 2}, better="higher")])])
    assert list(higher.table().columns[0].cells)[1] == "  m ↑"
    assert list(higher.table().columns[1].cells)[1] == "2.00"


def test_numbers_are_written_whole_or_not_at_all(report, tmp_path, monkeypatch):
    from pathlib import Path

    from unisono.errors import UnisonoError

    path = report.to_json(tmp_path / "r.json")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: (_ for _ in ()).throw(OSError(28, "No space left")))
    with refused(UnisonoError, "write", value="no space left on device"):
        report.to_json(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_values_are_found_by_name(report):
    assert report.value("shift", "b") == 3.9
    assert report.value("shift", "a") is None
    with pytest.raises(KeyError):
        report.value("shape", "a")
