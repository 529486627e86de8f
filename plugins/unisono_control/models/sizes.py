"""Sizes: the group of a policy's ``model:`` section that says how large its network is."""

from dataclasses import dataclass

from unisono.errors import RecipeError


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
            raise RecipeError(
                f"model.network.dropout={self.dropout} must be in [0, 1)",
                code="range",
                path="model.network.dropout",
                value=self.dropout,
            )
        least = {"dim": 1, "num_layers": 1, "num_heads": 1, "filter_dim": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise RecipeError(
                    f"model.network.{name}={getattr(self, name)} must be at least {bound}",
                    code="range",
                    path=f"model.network.{name}",
                    value=getattr(self, name),
                )
        if self.dim % self.num_heads:
            raise RecipeError(
                f"model.network.dim={self.dim} must be a multiple of num_heads={self.num_heads}",
                code="shape",
                path="model.network.dim",
                value=self.dim,
            )
