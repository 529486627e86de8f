"""Audit: what a corpus came to: kept, hours, and everything dropped, with the reason."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table


class Drop(Exception):
    """Raised while an utterance is prepared, to drop it with a reason and go on with the rest."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Dropped:
    """One utterance that is not used: ``reason`` is one of few, ``detail`` says what was
    measured."""

    id: str
    reason: str
    detail: str = ""


@dataclass
class Audit:
    """What was kept and what was dropped; any stage of a preparation may add to it."""

    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _kept: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)

    def keep(self, id: str, seconds: float, speaker: str = "") -> None:
        self._kept[id] = (seconds, speaker)

    def drop(self, id: str, reason: str, detail: str = "") -> None:
        """List an utterance as dropped, whether it had been kept before or not."""
        self._kept.pop(id, None)
        self.dropped.append(Dropped(id, reason, detail))

    def note(self, sentence: str) -> None:
        """Add a remark that concerns the corpus as a whole."""
        self.notes.append(sentence)

    @property
    def kept(self) -> int:
        return len(self._kept)

    @property
    def hours(self) -> float:
        return sum(seconds for seconds, _ in self._kept.values()) / 3600

    @property
    def reasons(self) -> dict[str, int]:
        """How many were dropped, by reason, most frequent first."""
        return dict(Counter(item.reason for item in self.dropped).most_common())

    def by_speaker(self) -> dict[str, dict[str, int | float]]:
        speakers: dict[str, dict[str, int | float]] = {}
        for seconds, speaker in self._kept.values():
            row = speakers.setdefault(speaker, {"kept": 0, "hours": 0.0})
            row["kept"] += 1
            row["hours"] += seconds / 3600
        return speakers

    def to_dict(self) -> dict[str, Any]:
        return {
            "kept": self.kept,
            "hours": self.hours,
            "speakers": self.by_speaker(),
            "dropped": [asdict(item) for item in self.dropped],
            "notes": list(self.notes),
        }

    def table(self, num_examples: int = 3) -> Table:
        """Return a rich table: kept per speaker, then each reason with its count and a few
        examples."""
        table = Table(title="audit", title_justify="left")
        table.add_column("")
        table.add_column("utterances", justify="right")
        table.add_column("hours", justify="right")
        table.add_column("examples", overflow="fold")
        for speaker, row in self.by_speaker().items():
            label = f"kept, {speaker}" if speaker else "kept"
            table.add_row(label, str(row["kept"]), f"{row['hours']:.2f}", "")
        if len(self.by_speaker()) != 1:
            table.add_row("kept, all", str(self.kept), f"{self.hours:.2f}", "")
        for reason, count in self.reasons.items():
            of_reason = [item for item in self.dropped if item.reason == reason]
            examples = [f"{d.id} ({d.detail})" if d.detail else d.id for d in of_reason]
            more = [f"and {count - num_examples} more"] if count > num_examples else []
            shown = "\n".join(examples[:num_examples] + more)
            table.add_row(f"dropped: {reason}", str(count), "", shown, style="yellow")
        if self.notes:
            table.caption = "\n".join(self.notes)
            table.caption_justify = "left"
        return table
