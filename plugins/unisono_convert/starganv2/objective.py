"""Objective of StarGANv2-VC: the weights of its losses, and from when they count."""

from dataclasses import dataclass

from unisono.errors import RecipeError

__all__ = ["Objective"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of the losses, as published.

    adversarial, classifier, style, diversity, content, pitch, loudness, cycle: of the generator. diversity is made
        larger, not smaller.
    penalty, source, consistency: of the judges: R1, the classifier's, and that of the discriminator under a tilt.
    classifier_start, consistency_start: steps from which these two count (epochs 50 and 30 as published).
    cycle_every: the cycle is closed in each so-manieth step; 1 as published.
    """

    adversarial: float = 2.0
    classifier: float = 0.5
    style: float = 1.0
    diversity: float = 1.0
    content: float = 10.0
    pitch: float = 5.0
    loudness: float = 1.0
    cycle: float = 5.0
    penalty: float = 1.0
    source: float = 0.1
    consistency: float = 10.0
    classifier_start: int = 60000
    consistency_start: int = 36000
    cycle_every: int = 1

    def __post_init__(self):
        if self.cycle_every < 1:
            message = f"model.objective.cycle_every={self.cycle_every} must be at least 1"
            raise RecipeError(message, code="range", path="model.objective.cycle_every", value=self.cycle_every)
