"""Sizes: the groups of Miipher's ``model:`` section."""

from dataclasses import dataclass

from unisono.errors import RecipeError

__all__ = ["AdapterSizes", "CleanerSizes", "HeadSizes", "MiipherObjective"]


@dataclass(frozen=True, kw_only=True)
class AdapterSizes:
    """Sizes of the adapters beside an encoder's layers.

    bottleneck: channels inside (published: 1024, of features with 1536).
    """

    bottleneck: int = 1024

    def __post_init__(self):
        _at_least_one(self, "adapters", "bottleneck")


@dataclass(frozen=True, kw_only=True)
class CleanerSizes:
    """Sizes of what cleans features that have no layers to adapt.

    dim, intermediate_dim: channels of the blocks, and inside them.
    num_blocks: ConvNeXt blocks.
    """

    dim: int = 384
    intermediate_dim: int = 1152
    num_blocks: int = 8

    def __post_init__(self):
        _at_least_one(self, "cleaner", "dim", "intermediate_dim", "num_blocks")


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """Sizes of what makes mels of features.

    dim, intermediate_dim: channels of the blocks, and inside them.
    num_blocks: ConvNeXt blocks.
    """

    dim: int = 384
    intermediate_dim: int = 1152
    num_blocks: int = 6

    def __post_init__(self):
        _at_least_one(self, "head", "dim", "intermediate_dim", "num_blocks")


@dataclass(frozen=True, kw_only=True)
class MiipherObjective:
    """Weights of the losses.

    l1, l2, convergence: of the distances between cleaned and clean features (published: 1 each).
    mel: of the distance of mels made of clean features, and of that of cleaned ones; only with an encoder.
    """

    l1: float = 1.0
    l2: float = 1.0
    convergence: float = 1.0
    mel: float = 1.0

    def __post_init__(self):
        for name in ("l1", "l2", "convergence", "mel"):
            value = getattr(self, name)
            if value < 0:
                path = f"model.objective.{name}"
                raise RecipeError(f"{path}={value} must be at least 0", code="range", path=path, value=value)


def _at_least_one(sizes: object, group: str, *names: str) -> None:
    for name in names:
        value = getattr(sizes, name)
        if value < 1:
            path = f"model.{group}.{name}"
            raise RecipeError(f"{path}={value} must be at least 1", code="range", path=path, value=value)
