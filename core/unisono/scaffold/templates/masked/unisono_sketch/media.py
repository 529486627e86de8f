"""TokenRow: what comes out: tokens, of which some may be open while it is made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unisono.media import Media

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPEN = -1
"""Stands for a token that is not filled yet, in live views."""


@dataclass(frozen=True)
class TokenRow(Media):
    """Tokens in a row; ``OPEN`` where one is not filled yet."""

    tokens: tuple[int, ...]

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".json")

    @property
    def amount(self) -> tuple[float, str]:
        """Its tokens."""
        return len(self.tokens), "tokens"

    def about(self) -> dict[str, Any]:
        """Return its tokens, as the server tells them."""
        return {"tokens": list(self.tokens)}

    def __rich__(self) -> str:
        return " ".join("·" if token == OPEN else str(token) for token in self.tokens)

    def plot(self) -> "Figure":
        """Draw each token as a point at its height."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 2.5), layout="constrained")
        filled = [place for place, token in enumerate(self.tokens) if token != OPEN]
        axes = figure.add_subplot()
        axes.plot(filled, [self.tokens[place] for place in filled], ".-")
        axes.set(xlabel="place", ylabel="token", xlim=(-1, len(self.tokens)))
        return figure

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".png":
            self.plot().savefig(path)
        else:
            path.write_text(json.dumps(self.about()), encoding="utf-8")
