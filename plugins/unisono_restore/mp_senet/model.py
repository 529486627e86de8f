"""MP-SENet: an enhancer that makes magnitude and phase of clean speech side by side.

Lu, Ai and Ling (arXiv:2305.13686 and 2308.08926). Losses and weights as published, all at the level where the noisy
crop has a mean square of 1::

    generator       0.9 · magnitude MSE + 0.3 · (IP + GD + IAF) + 0.2 · complex MSE + 0.2 · consistency
                    + 0.2 · waveform L1 + 0.05 · (D(clean, restored) − 1)²
    discriminator   (D(clean, clean) − 1)² + (D(clean, restored) − (PESQ − 1) / 3.5)²

Magnitudes and complex spectra are compressed. Differences: those of ``network``; the discriminator is left out unless
its weight is set, since PESQ cannot judge who was trained on it; long sounds are restored in windows.

Shapes: b batch, c channels, n samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn
from unisono.extras import optional
from unisono.train.adversarial import Adversarial, Played
from unisono_sound.signal.phase import TransformSizes
from unisono_sound.signal.phase_losses import complex_loss, kept_mean, phase_losses

from unisono_restore.baselines import DENOISERS
from unisono_restore.mp_senet.evaluate import conditions
from unisono_restore.mp_senet.facts import NoisyFacts
from unisono_restore.mp_senet.metric import MetricDiscriminator, qualities
from unisono_restore.mp_senet.network import SENet
from unisono_restore.mp_senet.sizes import (
    SPECTRUM,
    MetricGame,
    SENetObjective,
    SENetSizes,
    WindowSizes,
    check_spectrum,
)
from unisono_restore.mp_senet.spectra import LEAST_POWER, compressed, gain_to_unit
from unisono_restore.overlap import CrossFade
from unisono_restore.restorer import Restorer
from unisono_restore.trial import Baseline, Condition

__all__ = ["MPSENet"]


class MPSENet(Adversarial, Restorer):
    """The enhancer.

    Args:
        network: sizes, and which paper's blocks.
        spectrum: sizes of the transform.
        objective: weights of the losses.
        game: the discriminator that learns PESQ, where ``objective.metric`` is not 0.
        windows: how long sounds are divided.
    """

    Facts: ClassVar[type[NoisyFacts]] = NoisyFacts
    facts: NoisyFacts
    net: SENet

    def __init__(
        self,
        *,
        network: SENetSizes = SENetSizes(),  # noqa: B008
        spectrum: TransformSizes = SPECTRUM,
        objective: SENetObjective = SENetObjective(),  # noqa: B008
        game: MetricGame = MetricGame(),  # noqa: B008
        windows: WindowSizes = WindowSizes(),  # noqa: B008
    ):
        super().__init__()
        check_spectrum(spectrum)
        self.network, self.spectrum, self.objective, self.game = network, spectrum, objective, game
        self.windows = windows
        self.scoring = "squares"
        self.feature_weight, self.adversarial_weight = 0.0, objective.metric
        self.pretrain_steps = game.pretrain_steps
        self.failures = 0
        """Items of this run whose PESQ could not be measured."""

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.net = SENet(self.spectrum, self.network)

    # ---- restoring -----------------------------------------------------------------------------

    def pieces(self, streamed: bool) -> CrossFade:
        """Windows that fade into each other; the same for a stream."""
        seconds, overlap = self.windows.seconds, self.windows.overlap_seconds
        return CrossFade(round(seconds * self.sample_rate), round(overlap * self.sample_rate))

    def restore(self, wave: Float[Tensor, "c n"], known: None) -> Float[Tensor, "c n"]:
        """Return a window without its noise."""
        return self.net.enhance(wave)

    def conditions(self) -> list[Condition]:
        """Clean speech, and every kind of noise that needs no recordings; ``unisono evaluate`` adds babble."""
        return conditions(self.facts)

    def baselines(self) -> Sequence[Baseline]:
        """RNNoise and spectral gating."""
        return DENOISERS

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.play(batch).parts

    def play(self, batch: dict[str, Any]) -> Played:
        """Restore a batch; what is judged are pairs, the clean wave first. Crops of silence count for nothing."""
        gain = gain_to_unit(batch["heard"])
        clean, made = batch["wave"] * gain, self.net.estimate(batch["heard"] * gain)
        with torch.autocast(clean.device.type, enabled=False):
            power, transform = self.network.compression, self.net.transform
            target, again = compressed(transform(clean), power), compressed(transform(made.wave), power)
            phases = phase_losses(made.spectrum.phase, target.phase)
            values = {
                "magnitude": kept_mean((made.spectrum.magnitude - target.magnitude).square()),
                "phase": phases.total,
                "complex": complex_loss(made.spectrum.complex, target.complex),
                "consistency": complex_loss(made.spectrum.complex, again.complex),
                "waveform": (made.wave - clean).abs().mean(1),
            }
            sounding = batch["heard"].square().mean(1) > LEAST_POWER  # silence has no phase to learn
            parts = {name: self.global_mean(value, sounding) for name, value in values.items()}
            loss = torch.stack([getattr(self.objective, name) * part for name, part in parts.items()]).sum()
        pair = torch.stack([clean, made.wave], dim=1)
        return Played(pair, torch.stack([clean, clean], dim=1), {"loss": loss, **parts})

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        """Return the discriminator; raises ``MissingExtra`` where it is wanted and ``pesq`` is absent."""
        if not self.objective.metric:
            return {}
        optional("pesq", extra="pesq")
        return {"metric": (MetricDiscriminator(self.spectrum, self.network.compression, self.game.channels), 1.0)}

    def discriminator_loss(self, fake: Float[Tensor, "b 2 n"], real: Float[Tensor, "b 2 n"]) -> Tensor:
        """Return how far the discriminator is from 1 for the clean, and from its PESQ for the restored."""
        self.discriminators.zero_grad()
        goal = qualities(fake, self.sample_rate, self.game.processes)
        known = ~goal.isnan()
        if not bool(known.all()):
            self.failures += int((~known).sum())
            rank_zero_warn(
                f"PESQ failed for {int((~known).sum())} of {len(goal)} crops of this step, {self.failures} of the run: "
                "the discriminator learns nothing of them; crops without speech are the usual cause"
            )
        (true,), (said,) = (self.discriminators["metric"](pairs) for pairs in (real, fake))
        clean = self.mean((true.scores[:, 0].float() - 1).square())
        restored = self.global_mean((said.scores[:, 0].float() - goal.nan_to_num(0.0)).square(), known)
        return clean + restored

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"samples": batch["wave"].numel()}
