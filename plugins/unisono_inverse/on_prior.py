"""Restorers on a prior: what they share, which learn nothing and have no weights of their own.

Shapes: h w of a picture.
"""

from typing import Any, ClassVar

from unisono import Model
from unisono.diffusion import Denoiser, HasDenoiser, Report
from unisono.errors import RecipeError

from unisono_inverse.facts import RestorerFacts
from unisono_inverse.tiled import Tiled

__all__ = ["OnPrior"]


class OnPrior(Model):
    """Restores pictures by a component, the prior.

    Attributes:
        evaluations, rounds: of the priors so far, one picture's and all batched ones.
        reports: of the last call, one for each group of requests that were restored together.
    """

    Facts: ClassVar[type[RestorerFacts]] = RestorerFacts
    facts: RestorerFacts
    text_field: ClassVar[str] = "picture"
    pipeline_tag: ClassVar[str] = "image-to-image"
    learns: ClassVar[bool] = False
    component_kinds: ClassVar[dict[str, Any]] = {"prior": HasDenoiser}
    builtin_components: ClassVar[dict[str, str]] = {"power-law": "unisono_inverse.priors:power_law"}

    def __init__(self):
        super().__init__()
        self.evaluations: int = 0
        self.rounds: int = 0
        self.reports: list[Report] = []

    def attach(self, role: str, component: Any) -> None:
        """Take a component; raises ``RecipeError`` for a prior of another size."""
        self.check_component(role, component)
        if role == "prior":
            check_prior(component.denoiser(), self.facts.size)
        super().attach(role, component)

    def prior_for(self, height: int, width: int, overlap: int | None = None) -> Denoiser:
        """Return the prior of pictures of a size: as it is, or tiled. Raises ``RequestError`` for smaller ones."""
        prior = self.component("prior").denoiser()
        return prior if prior.shape[1:] == (height, width) else Tiled(prior, height, width, overlap)


def check_prior(prior: Denoiser, size: int) -> None:
    """Raise ``RecipeError`` unless a prior is of pictures of three channels and this size."""
    shape = tuple(prior.shape)
    if shape != (3, size, size):
        fix = f"set data.size={shape[1]}" if len(shape) == 3 and shape[0] == 3 else "take a prior of colour pictures"
        raise RecipeError(
            f"the prior knows items of {list(shape)}, this restorer pictures of {[3, size, size]}: {fix}",
            code="conflict",
            path="components.prior",
            value=list(shape),
        )
