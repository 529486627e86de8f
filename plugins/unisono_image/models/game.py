"""PictureGame: what autoencoders of pictures share when they train: patches judged, features of a classifier compared.

The losses of VQGAN (Esser et al., arXiv:2012.09841, section 3.1) and latent diffusion's autoencoders: a discriminator
of patches, and a perceptual distance. Difference: the perceptual distance is between features of the data's own
classifier (component ``classifier``), not of a VGG network that was trained on ImageNet and on people's judgement, for
those weights come with no package; without the component, ``objective.perceptual_weight`` must be 0.

Shapes: b batch, y x height and width of pictures.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.nn.wide import wide
from unisono.train.adversarial import Adversarial

from unisono_image.models.classifier import ImageClassifier
from unisono_image.models.patches import PatchDiscriminator, perceptual_distance
from unisono_image.models.sizes import PatchGame


class PictureGame(Adversarial):
    """A model of pictures that trains against a discriminator of patches; mix it in before the model.

    It has ``objective``, with a ``perceptual_weight``, and calls ``set_game`` in its constructor.
    """

    roles: ClassVar[dict[str, str]] = {"classifier": "gives the features of the perceptual distance in training"}
    component_kinds: ClassVar[dict[str, Any]] = {"classifier": ImageClassifier}
    objective: Any
    game: PatchGame

    def set_game(self, game: PatchGame) -> None:
        """Take over how the game is played."""
        self.game = game
        self.adversarial_weight, self.feature_weight = game.adversarial_weight, 0.0
        self.pretrain_steps, self.anchor_weight = game.pretrain_steps, game.lecam_weight

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        if not self.adversarial_weight:
            return {}
        return {"patches": (PatchDiscriminator(self.game.channels, num_layers=self.game.num_layers), 1.0)}

    def attach(self, role: str, component: Any) -> None:
        """Take the component, which is not trained any further."""
        super().attach(role, component.requires_grad_(False))

    def on_train_start(self) -> None:
        if self.objective.perceptual_weight and "classifier" not in self.components:
            weight = self.objective.perceptual_weight
            raise RecipeError(
                f"model.objective.perceptual_weight={weight:g} compares features of a classifier: "
                "add --components.classifier=FOLDER, or set it to 0",
                code="missing",
                path="components.classifier",
                value=weight,
            )

    def perceptual(self, real: Float[Tensor, "b 3 y x"], fake: Float[Tensor, "b 3 y x"]) -> dict[str, Tensor]:
        """Return the perceptual distance by its name, or nothing where it has no weight or no classifier."""
        if not self.objective.perceptual_weight or "classifier" not in self.components:
            return {}
        layers = self.component("classifier").layers
        with torch.no_grad():
            wanted = layers(real)
        return {"perceptual": self.mean(perceptual_distance(wanted, layers(wide(fake))))}
