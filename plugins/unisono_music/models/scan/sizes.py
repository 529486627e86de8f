"""Sizes: the groups of the ``model:`` section of state-space models."""

from dataclasses import dataclass

from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ScanSizes:
    """Sizes of one network: channels, blocks, real numbers of the state of a channel, dropout.

    ``selective``: so many of the blocks, the last ones, are `unisono.nn.selective.SelectiveBlock`, which hold notes
    better. An encoder, which reads both ways, has none.
    """

    dim: int = 96
    num_layers: int = 3
    state_dim: int = 32
    selective: int = 0
    dropout: float = 0.0

    def __post_init__(self):
        if not 0 <= self.selective <= self.num_layers:
            raise _fault("selective", self.selective, f"must be in [0, num_layers={self.num_layers}]")
        for name in ("dim", "num_layers", "state_dim"):
            if getattr(self, name) < 1:
                raise _fault(name, getattr(self, name), "must be at least 1")
        if self.state_dim % 2:
            raise _fault("state_dim", self.state_dim, "must be even: modes are pairs of numbers")
        if not 0 <= self.dropout < 1:
            raise _fault("dropout", self.dropout, "must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """The latents of a VSSM, and what they cost while it learns.

    dim: numbers of a step's latent.
    free_nats: of each of them, mean over the steps, that are not paid for.
    warmup_steps: over which their price rises to what it is.
    """

    dim: int = 16
    free_nats: float = 0.1
    warmup_steps: int = 0

    def __post_init__(self):
        for name, least in (("dim", 1), ("free_nats", 0), ("warmup_steps", 0)):
            value = getattr(self, name)
            if value < least:
                path = f"model.latents.{name}"
                raise RecipeError(f"{path}={value} must be at least {least}", code="range", path=path, value=value)


@dataclass(frozen=True, kw_only=True)
class Beginnings:
    """What of a training item is given and what is written, in shares of the items; the rest is written whole.

    share: a beginning is given, of any number of steps.
    stops: of these, what is written ends before the item does, after any number of steps.
    """

    share: float = 0.5
    stops: float = 0.5

    def __post_init__(self):
        for name in ("share", "stops"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                path = f"model.beginnings.{name}"
                raise RecipeError(f"{path}={value} must be in [0, 1]", code="range", path=path, value=value)


def _fault(name: str, value: float, what: str) -> RecipeError:
    return RecipeError(f"{name}={value} {what}", code="range", path=f"model.{name}", value=value)
