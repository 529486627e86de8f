"""Report: measures by system, shown as one table and written as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisono.files import written_aside

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One measure over all systems. ``values`` maps a system to a number, a ready text, or None."""

    measure: str
    values: Mapping[str, float | str | None]
    unit: str = ""
    digits: int = 2
    better: str = ""
    """``"lower"``, ``"higher"``, or what the value should come near, such as ``"1"``."""


@dataclass(frozen=True)
class Section:
    """Rows under one heading."""

    name: str
    rows: list[Row]


@dataclass(frozen=True)
class Report:
    """What was measured of which systems, on what, and what could not be measured.

    ``facts`` say how: data, items, recogniser, machine. ``items`` hold one plain record per
    item and system.
    """

    title: str
    systems: list[str]
    sections: list[Section]
    facts: dict[str, Any] = field(default_factory=dict)
    items: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    def value(self, measure: str, system: str) -> float | str | None:
        """Return one cell; raises ``KeyError`` if there is no such measure."""
        for section in self.sections:
            for row in section.rows:
                if row.measure == measure:
                    return row.values.get(system)
        raise KeyError(measure)

    def table(self) -> "Table":
        """Return a rich table: a line per measure, a column per system; arrows say which way is
        better.
        """
        from rich.markup import escape
        from rich.table import Table

        failed = "\n".join(f"{f['id']} ({f['system']}): {f['reason']}" for f in self.failures)
        facts = ", ".join(f"{name}: {value}" for name, value in self.facts.items())
        caption = facts + (f"\n{len(self.failures)} could not be measured:\n{failed}" if failed else "")
        table = Table(title=escape(self.title), caption=escape(caption), caption_justify="left")
        table.add_column("measure")
        for system in self.systems:
            table.add_column(system, justify="right")
        for section in self.sections:
            if table.row_count:
                table.add_section()
            table.add_row(f"[bold]{section.name}[/bold]")
            for row in section.rows:
                arrow = {"lower": " ↓", "higher": " ↑", "": ""}.get(row.better, f" → {row.better}")
                unit = f" ({row.unit})" if row.unit else ""
                cells = [_cell(row.values.get(system), row.digits) for system in self.systems]
                table.add_row(f"  {row.measure}{unit}{arrow}", *cells)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; NaN and infinity become None, which is all that JSON knows of
        them.
        """
        return plain(asdict(self))

    def to_json(self, path: str | Path) -> Path:
        """Write the report, items included, and return the path."""
        return write_json(self.to_dict(), path)


def _cell(value: float | str | None, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def write_json(values: dict[str, Any], path: str | Path) -> Path:
    """Write plain values as JSON, whole or not at all, and return the path."""
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with written_aside(path) as aside:
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def plain(value: Any) -> Any:
    """Return a value with NaN and infinity as None, which is all that JSON knows of them."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
