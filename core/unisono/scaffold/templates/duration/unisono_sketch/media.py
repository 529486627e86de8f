"""Line: what comes out: a value for each frame, and which letter each frame belongs to."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from unisono.media import Media

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Line(Media):
    """``values`` float32 [t]; ``durations`` says how many frames each letter of ``text`` lasts."""

    values: np.ndarray
    text: str
    durations: tuple[int, ...]

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".json")

    def __repr__(self) -> str:
        return f"Line({self.text!r}, {len(self.values)} frames)"

    @property
    def amount(self) -> tuple[float, str]:
        """Its frames."""
        return len(self.values), "frames"

    def about(self) -> dict[str, Any]:
        """Return everything, as the server tells it."""
        return {"text": self.text, "durations": list(self.durations), "values": self.values.tolist()}

    def plot(self) -> "Figure":
        """Draw the line, with each letter where it is."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 2.5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(self.values)
        ends = np.cumsum(self.durations)
        axes.set_xticks(ends - np.array(self.durations) / 2, [letter.replace("$", r"\$") for letter in self.text])
        for end in ends[:-1]:
            axes.axvline(end - 0.5, color="0.85", linewidth=0.5)
        return figure

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".png":
            self.plot().savefig(path)
        else:
            path.write_text(json.dumps(self.about()), encoding="utf-8")
