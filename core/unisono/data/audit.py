"""Audit: what a corpus amounts to: what is kept, how much of it, and everything dropped, with the reason."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from unisono.errors import DataError


class Drop(Exception):
    """Raised while an item is prepared, to drop it with a reason and go on with the rest."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Dropped:
    """One item that is not used: ``reason`` is one of few, ``detail`` says what was measured."""

    id: str
    reason: str
    detail: str = ""


@dataclass
class Audit:
    """What was kept and what was dropped; any stage of a preparation may add to it.

    ``items`` is what one entry is called, in the plural: "recordings", "pictures", "documents".
    """

    items: str = "items"
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unit: str = ""
    _kept: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)
    _counted: list[tuple[int, float, str]] = field(default_factory=list, repr=False)

    def keep(self, id: str, amount: float = 0.0, unit: str = "", group: str = "") -> None:
        """List an item as kept.

        Args:
            amount: how much it is, in ``unit``: hours of a recording, tokens of a document. Items that are only
                counted need neither. All items of an audit have the same unit; another raises ``DataError``.
            group: a class or another part that the table has a row for.
        """
        self._measure(repr(id), unit)
        self._kept[id] = (amount, group)

    def keep_many(self, count: int, amount: float = 0.0, unit: str = "", group: str = "") -> None:
        """List ``count`` items of one group, ``amount`` together, as kept: of a corpus that is too large for ids."""
        self._measure(f"{group or 'a stream'!r}", unit)
        self._counted.append((count, amount, group))

    def _measure(self, what: str, unit: str) -> None:
        if (self._kept or self._counted) and unit != self.unit:
            raise DataError(
                f"{what} is measured in {unit!r}, the items before in {self.unit!r}: use one unit",
                code="conflict",
                path="unit",
                value=unit,
            )
        self.unit = unit

    def drop(self, id: str, reason: str, detail: str = "") -> None:
        """List an item as dropped, whether it had been kept before or not."""
        self._kept.pop(id, None)
        self.dropped.append(Dropped(id, reason, detail))

    def note(self, sentence: str) -> None:
        """Add a remark that concerns the corpus as a whole."""
        self.notes.append(sentence)

    @property
    def kept(self) -> int:
        """How many items are kept."""
        return len(self._kept) + sum(count for count, _, _ in self._counted)

    @property
    def amount(self) -> float:
        """How much is kept, in ``unit``."""
        return sum(amount for amount, _ in self._kept.values()) + sum(amount for _, amount, _ in self._counted)

    @property
    def reasons(self) -> dict[str, int]:
        """How many were dropped, by reason, most frequent first."""
        return dict(Counter(item.reason for item in self.dropped).most_common())

    def by_group(self) -> dict[str, dict[str, int | float]]:
        """How many items are kept of each group, and how much they are, in the order of their first item."""
        groups: dict[str, dict[str, int | float]] = {}
        for count, amount, group in [*((1, *kept) for kept in self._kept.values()), *self._counted]:
            row = groups.setdefault(group, {"kept": 0, "amount": 0.0})
            row["kept"] += count
            row["amount"] += amount
        return groups

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; items that are only counted have an empty ``unit`` and no amount."""
        groups = self.by_group()
        if not self.unit:
            groups = {name: {"kept": row["kept"]} for name, row in groups.items()}
        return {
            "items": self.items,
            "kept": self.kept,
            "unit": self.unit,
            **({"amount": self.amount} if self.unit else {}),
            "groups": groups,
            "dropped": [asdict(item) for item in self.dropped],
            "notes": list(self.notes),
        }

    def table(self, num_examples: int = 3) -> Table:
        """Return a rich table: kept per group, then each reason with its count and a few examples."""
        table = Table(title="audit", title_justify="left")
        table.add_column("")
        table.add_column(self.items, justify="right")
        if self.unit:
            table.add_column(self.unit, justify="right")
        table.add_column("examples", overflow="fold")

        def add(label: str, count: int, amount: float | None, examples: str = "", style: str | None = None) -> None:
            amounts = [] if not self.unit else ["" if amount is None else _shown(amount)]
            table.add_row(label, f"{count:,}", *amounts, examples, style=style)

        groups = self.by_group()
        for group, row in groups.items():
            add(f"kept, {group}" if group else "kept", int(row["kept"]), row["amount"])
        if len(groups) != 1:
            add("kept, all", self.kept, self.amount)
        for reason, count in self.reasons.items():
            of_reason = [item for item in self.dropped if item.reason == reason]
            examples = [f"{d.id} ({d.detail})" if d.detail else d.id for d in of_reason]
            more = [f"and {count - num_examples} more"] if count > num_examples else []
            add(f"dropped: {reason}", count, None, "\n".join(examples[:num_examples] + more), "yellow")
        if self.notes:
            table.caption = "\n".join(self.notes)
            table.caption_justify = "left"
        return table


def _shown(amount: float) -> str:
    """Whole numbers with all digits, others with two."""
    return f"{amount:,.0f}" if amount == int(amount) and amount >= 100 else f"{amount:.2f}"
