"""Sizes: the group of a model's ``model:`` section that says how large its network is."""

from dataclasses import dataclass

from unisono.errors import Code, RecipeError


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Sizes of a transformer; ``filter_dim`` of its feed-forward, 0: 8/3 of ``dim``."""

    dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    filter_dim: int = 0
    dropout: float = 0.0

    def __post_init__(self):
        if not 0 <= self.dropout < 1:
            raise _refused("dropout", self.dropout, "must be in [0, 1)")
        for name, least in (("dim", 1), ("num_layers", 1), ("num_heads", 1), ("filter_dim", 0)):
            if getattr(self, name) < least:
                raise _refused(name, getattr(self, name), f"must be at least {least}")
        if self.dim % (2 * self.num_heads):
            raise _refused("dim", self.dim, f"must be a multiple of twice num_heads={self.num_heads}", "shape")

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.dim // self.num_heads


def _refused(name: str, value: float, why: str, code: Code = "range") -> RecipeError:
    path = f"model.network.{name}"
    return RecipeError(f"{path}={value} {why}", code=code, path=path, value=value)
