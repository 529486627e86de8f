"""Card: what a reader of an export must know, as Markdown."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Card:
    """What a reader of an export must know; every field lands in the card and in ``unisono.json``."""

    title: str = ""
    data: str = ""
    licence: str = ""
    command: str = ""
    hardware: str = ""
    time: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    headline: str = ""
    """The name of the metric that listings show; without, the first one."""


def render_card(name: str, info: dict[str, Any], card: Card) -> str:
    """Return the card as Markdown."""
    rows = [
        ("Model", f"`{name}`, {info['parameters'] / 1e6:.2f} M parameters, weights as {info['dtype']}"),
        ("Data", card.data or "not stated"),
        ("Licence of the weights", card.licence or "not stated"),
        ("Command", f"`{card.command}`" if card.command else "see `recipe.yaml`"),
        ("Hardware", card.hardware or "not stated"),
        ("Time", card.time or "not stated"),
        ("Made with", f"unisono {info['unisono']} ({info['distribution']}), plugin API {info['api']}"),
    ]
    lines = [f"# {card.title or name}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows]
    if card.metrics:
        lines += ["", "## Measured", "", "| | |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in card.metrics.items()]
    if card.notes:
        lines += ["", card.notes]
    return "\n".join([*lines, ""])
