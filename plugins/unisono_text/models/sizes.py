"""Sizes: the groups of a text model's ``model:`` section in recipe format 2, and where format 1 had them."""

from dataclasses import dataclass, fields
from typing import ClassVar

from unisono.errors import RecipeError
from unisono.nn.swiglu import LayerSizes


@dataclass(frozen=True, kw_only=True)
class TransformerSizes(LayerSizes):
    """Sizes of a transformer, GPT-2's small ones; ``filter_dim`` of its feed-forward, 0: 8/3 of ``dim``."""

    head_multiple: ClassVar[int] = 2

    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class AnchorSpec:
    """The anchor network, and what is taught to it.

    num_layers: how many of the layers are the anchor network's.
    weight: of the anchors' cost in the objective.
    threshold: a token that occurs at most that often in its row is an anchor.
    skip: whether the denoiser reads the anchor network's states beside its logits.
    """

    num_layers: int = 12
    weight: float = 3e-3
    threshold: int = 5
    skip: bool = False

    def __post_init__(self):
        if self.threshold < 1:
            raise RecipeError(
                f"model.anchor.threshold={self.threshold} must be at least 1",
                code="range",
                path="model.anchor.threshold",
                value=self.threshold,
            )
        if not 0 <= self.weight <= 1:
            raise RecipeError(
                f"model.anchor.weight={self.weight} must be in [0, 1]",
                code="range",
                path="model.anchor.weight",
                value=self.weight,
            )


@dataclass(frozen=True, kw_only=True)
class PhaseSpec:
    """What is learnt beside masks, and when.

    edit_share: the last part of the steps, in which edits are learnt beside masks (published: 0.2).
    edit_rate: the largest share of a text that is edited (published: 0.1).
    order_share: the last part of the steps, in which orders are chosen.
    num_orders: how many ways to hide are compared for that; each costs a forward pass.
    """

    edit_share: float = 0.2
    edit_rate: float = 0.1
    order_share: float = 0.1
    num_orders: int = 4

    def __post_init__(self):
        shares = (("edit_share", self.edit_share), ("edit_rate", self.edit_rate), ("order_share", self.order_share))
        for name, value in shares:
            if not 0 <= value <= 1:
                raise RecipeError(
                    f"model.phases.{name}={value} must be in [0, 1]",
                    code="range",
                    path=f"model.phases.{name}",
                    value=value,
                )
        if self.num_orders < 1:
            raise RecipeError(
                f"model.phases.num_orders={self.num_orders} must be at least 1",
                code="range",
                path="model.phases.num_orders",
                value=self.num_orders,
            )


FLAT = {field.name: f"network.{field.name}" for field in fields(TransformerSizes)}
"""Where recipe format 1's sizes of a transformer are."""
