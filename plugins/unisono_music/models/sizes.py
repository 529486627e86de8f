"""Sizes: the groups of a grid model's ``model:`` section."""

from dataclasses import dataclass

from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class GridSizes:
    """Sizes of the network: channels, blocks, heads of each, dropout."""

    dim: int = 256
    num_layers: int = 8
    num_heads: int = 4
    dropout: float = 0.1

    def __post_init__(self):
        for name in ("dim", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise _fault(name, getattr(self, name), "must be at least 1")
        if self.dim % self.num_heads or self.dim % 2:
            raise _fault("dim", self.dim, f"must be even, and a multiple of num_heads={self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise _fault("dropout", self.dropout, "must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Hiding:
    """What is hidden while training, in shares of the items; the rest have places hidden at random.

    voices: some voices are given, and only the others are hidden, so that a voice can be harmonised.
    bars: all but a stretch of bars is given, so that a gap can be filled and a beginning gone on from.
    controls: no control is told; of the other items a random share of bars is.
    """

    voices: float = 0.3
    bars: float = 0.2
    controls: float = 0.4

    def __post_init__(self):
        for name in ("voices", "bars", "controls"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(
                    f"model.hiding.{name}={getattr(self, name)} must be in [0, 1]",
                    code="range",
                    path=f"model.hiding.{name}",
                    value=getattr(self, name),
                )
        if self.voices + self.bars > 1:
            raise RecipeError(
                f"model.hiding.voices={self.voices} and bars={self.bars} are shares of all items: at most 1 together",
                code="range",
                path="model.hiding.voices",
                value=self.voices,
            )


def _fault(name: str, value: float, what: str) -> RecipeError:
    path = f"model.network.{name}"
    return RecipeError(f"{path}={value} {what}", code="range", path=path, value=value)
