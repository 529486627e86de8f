"""Outline: what comes out: a closed line in the plane."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from unisono.media import Media

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Outline(Media):
    """Points of a closed line, float32 [n, 2]."""

    points: np.ndarray

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".json")

    def __repr__(self) -> str:
        return f"Outline({len(self.points)} points)"

    @property
    def amount(self) -> tuple[float, str]:
        """Its points."""
        return len(self.points), "points"

    def about(self) -> dict[str, Any]:
        """Return its points, as the server tells them."""
        return {"points": self.points.tolist()}

    def plot(self) -> "Figure":
        """Draw it."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 3), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(*np.concatenate([self.points, self.points[:1]]).T, ".-")
        axes.set_aspect("equal", adjustable="datalim")
        return figure

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".png":
            self.plot().savefig(path)
        else:
            path.write_text(json.dumps(self.about()), encoding="utf-8")
