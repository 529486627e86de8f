"""Sizes: the groups of a motion model's ``model:`` section in recipe format 2, and where format 1 had them."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class TransformerSizes:
    """Sizes of the transformer, MMM's as published."""

    dim: int = 1024
    num_layers: int = 9
    num_heads: int = 16
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class TwoTransformerSizes(TransformerSizes):
    """Sizes of a masked and a residual transformer, MoMask's as published; ``residual_layers`` of the second."""

    dim: int = 384
    num_layers: int = 8
    residual_layers: int = 8
    num_heads: int = 6


@dataclass(frozen=True, kw_only=True)
class ConditionSizes:
    """What a model knows of its caption.

    text_encoder: ``small``, trained with the model, or ``clip:`` and a folder or hub id of a CLIP text tower.
    text_layers: of the small encoder.
    spell_share: the share of words that are spelled while training, so that letters are learnt.
    dropout: the share of training items without their caption, for guidance (published: 0.1).
    """

    text_encoder: str = "small"
    text_layers: int = 2
    spell_share: float = 0.1
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """What the losses count: the weight of the predicted length's cross-entropy, and how smooth tokens' labels are."""

    length_weight: float = 0.1
    label_smoothing: float = 0.0


NETWORK = {field.name: f"network.{field.name}" for field in fields(TransformerSizes)}
"""Where recipe format 1's sizes of a transformer are."""
FLAT = {
    **NETWORK,
    **{name: f"condition.{name}" for name in ("text_encoder", "text_layers", "spell_share")},
    "text_dropout": "condition.dropout",
    **{field.name: f"objective.{field.name}" for field in fields(ObjectiveSpec)},
}
"""Where recipe format 1's arguments of MMM are."""
