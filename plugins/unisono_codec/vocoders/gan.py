"""Vocos GAN: Vocos trained adversarially, as published.

Siuzdak, Vocos (arXiv:2306.00814), section 3.3::

    discriminators   hinge(MPD) + 0.1 · hinge(MRD)
    generator        hinge(MPD) + 0.1 · hinge(MRD) + FM(MPD) + 0.1 · FM(MRD) + 45 · log-mel L1

Differences: the generator runs once per step, and its output serves both players; a GAN-free
warm-up (``pretrain_steps``) is an option, and so is a start from another generator, as of every
model (``run.init_from``).

The loop is that of ``adversarial``.
"""

from typing import Any, ClassVar, Literal

from torch import nn
from unisono.train.adversarial import Adversarial, Played
from unisono_sound.discriminators import MultiPeriodDiscriminator, MultiResolutionDiscriminator

from unisono_codec.vocoders.sizes import VOCOS_GAN, VocosGame, VocosGANObjective, VocosSizes
from unisono_codec.vocoders.vocos import Vocos


class VocosGAN(Adversarial, Vocos):
    """The vocoder with multi-period and multi-resolution discriminators.

    Args:
        network, source: as of ``Vocos``.
        objective: weights beside the adversarial losses.
        game: discriminators and when they begin.
    """

    objective: VocosGANObjective
    flat: ClassVar[dict[str, str]] = VOCOS_GAN

    def __init__(
        self,
        *,
        network: VocosSizes = VocosSizes(),  # noqa: B008
        source: Literal["none", "harmonic"] = "none",
        objective: VocosGANObjective = VocosGANObjective(),  # noqa: B008
        game: VocosGame = VocosGame(),  # noqa: B008
    ):
        super().__init__(network=network, source=source, objective=objective)
        self.game, self.pretrain_steps = game, game.pretrain_steps

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        period = MultiPeriodDiscriminator(self.game.periods, self.game.period_channels)
        resolution = MultiResolutionDiscriminator(self.game.resolutions, self.game.resolution_channels)
        return {"period": (period, 1.0), "resolution": (resolution, self.game.resolution_weight)}

    def play(self, batch: dict[str, Any]) -> Played:
        fake, beside = self.net.teach(batch)
        real = batch["wave"]
        parts = {"mel": self.mean(self.mel_loss(fake, real))}
        loss = self.objective.mel_weight * parts["mel"]
        if self.objective.stft_weight:
            parts["stft"] = self.mean(self.stft_loss(fake, real))
            loss = loss + self.objective.stft_weight * parts["stft"]
        for name, counted in beside.items():
            parts[name] = self.global_mean(*counted)
            loss = loss + self.objective.pitch_weight * parts[name]
        return Played(fake, real, {"loss": loss, **parts})
