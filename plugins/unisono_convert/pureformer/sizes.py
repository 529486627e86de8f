"""Sizes: those of Pureformer-VC, and the weights of its losses."""

import math
from dataclasses import dataclass
from typing import Literal

from unisono.errors import RecipeError

from unisono_convert.networks.conformer import ConformerSizes

__all__ = ["ContentSizes", "Objective", "SpeakerSizes"]


@dataclass(frozen=True, kw_only=True)
class ContentSizes(ConformerSizes):
    """Sizes of the content encoder: ``factors`` are the frames that each block averages, ``code_dim`` is the code's
    width; there are as many blocks as factors."""

    factors: tuple[int, ...] = (2, 2, 2, 2)
    code_dim: int = 64
    num_layers: int = 4

    def __post_init__(self):
        super().__post_init__()
        if len(self.factors) != self.num_layers or min(self.factors, default=0) < 1:
            message = f"model.content.factors={list(self.factors)}: give {self.num_layers} of at least 1, one a block"
            raise RecipeError(message, code="value", path="model.content.factors", value=list(self.factors))


@dataclass(frozen=True, kw_only=True)
class SpeakerSizes(ConformerSizes):
    """Sizes of the speaker encoder; ``voice_dim`` is the voice's width."""

    voice_dim: int = 128


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of the losses, and what belongs to them.

    mel: of the mean absolute error of the standardised mel.
    divergence: of the code's mean divergence from the standard normal, reached after ``ramp_steps``; ``free_nats`` of
        it are free in each channel.
    speaker: of AAM-softmax with ``margin`` (radians) and ``scale``; 0 where speakers have no names.
    triplet: of the triplet loss with ``triplet_margin``, a difference of cosines.
    style_of: whose voice styles the decoder.
    centre_share: of the items that are styled by their speaker's centre.
    """

    mel: float = 10.0
    divergence: float = 0.3
    ramp_steps: int = 5000
    free_nats: float = 0.05
    speaker: float = 1.0
    margin: float = 0.2
    scale: float = 30.0
    triplet: float = 1.0
    triplet_margin: float = 0.3
    style_of: Literal["itself", "another"] = "itself"
    centre_share: float = 0.3

    def __post_init__(self):
        for name, high in (("margin", math.pi / 2), ("centre_share", 1.0 + 1e-9)):
            if not 0 <= getattr(self, name) < high:
                message = f"model.objective.{name}={getattr(self, name)} must be from 0 to {high:.3g}"
                raise RecipeError(message, code="range", path=f"model.objective.{name}", value=getattr(self, name))
