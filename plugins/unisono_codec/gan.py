"""Vocos trained adversarially, as published: the GAN's two players and their alternating steps.

Siuzdak, Vocos (arXiv:2306.00814), section 3.3::

    discriminators   hinge(MPD) + 0.1 · hinge(MRD)
    generator        hinge(MPD) + 0.1 · hinge(MRD) + FM(MPD) + 0.1 · FM(MRD) + 45 · log-mel L1

Differences: the generator runs once per step, and its output serves both players; a GAN-free
warm-up (``pretrain_steps``) is an option, and so is a start from another generator, as of every
model (``run.init_from``).

What to know about the loop:

- ``global_step``, ``trainer.max_steps``, checkpoints and schedules count batches. Lightning counts
  every optimiser step under manual optimisation, two per batch here; the discriminators' step
  therefore goes through the strategy, uncounted.
- The discriminators exist only while training: exports hold the generator alone, and load as light
  as ``Vocos``.
- Gradients are averaged over ranks here, after each backward, because half of the parameters take
  no part in each: plain ``ddp`` works, and needs no search for unused parameters.
- Precisions ``32-true`` and ``bf16-mixed``. Two losses cannot share the one gradient scaler of
  ``16-mixed``, which is refused.
"""

from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from unisono.errors import RecipeError

from unisono_codec.discriminators import MultiPeriodDiscriminator, MultiResolutionDiscriminator
from unisono_codec.losses import discriminator_hinge, feature_matching, generator_hinge
from unisono_codec.vocos import Vocos


class VocosGAN(Vocos):
    """The vocoder with multi-period and multi-resolution discriminators.

    Args:
        dim: channels of the blocks (published: 512).
        intermediate_dim: channels inside a block (published: 1536).
        num_blocks: ConvNeXt blocks (published: 8).
        mel_weight: weight of the log-mel distance beside the adversarial losses (published: 45).
        source: as of ``Vocos``.
        pitch_weight: weight of the pitch's cross entropy, where there is a source.
        stft_weight: weight of the multi-resolution STFT distance (published: none), which a training
            too short for the game to settle needs.
        resolution_weight: weight of the multi-resolution discriminators (published: 0.1).
        periods: of the multi-period discriminators.
        period_channels: channels of their layers (published: 32, 128, 512, 1024, 1024).
        resolutions: FFT size and hop of the multi-resolution discriminators.
        resolution_channels: channels of their layers (published: 64).
        pretrain_steps: steps on the distance of spectra alone before the game begins.
    """

    training_only: ClassVar[tuple[str, ...]] = ("discriminators.",)

    def __init__(
        self,
        dim: int = 512,
        intermediate_dim: int = 1536,
        num_blocks: int = 8,
        source: Literal["none", "harmonic"] = "none",
        mel_weight: float = 45.0,
        pitch_weight: float = 1.0,
        stft_weight: float = 0.0,
        resolution_weight: float = 0.1,
        periods: tuple[int, ...] = (2, 3, 5, 7, 11),
        period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024),
        resolutions: tuple[tuple[int, int], ...] = ((1024, 256), (2048, 512), (512, 128)),
        resolution_channels: int = 64,
        pretrain_steps: int = 0,
    ):
        super().__init__(dim, intermediate_dim, num_blocks, source, pitch_weight=pitch_weight)
        self.adversarial_mel_weight = mel_weight
        self.stft_weight = stft_weight
        self.resolution_weight = resolution_weight
        self.periods = periods
        self.period_channels = period_channels
        self.resolutions = resolutions
        self.resolution_channels = resolution_channels
        self.pretrain_steps = pretrain_steps
        self.discriminators: nn.ModuleDict | None = None
        self.automatic_optimization = False

    def configure_model(self) -> None:
        """Add what only training needs; Lightning calls it before it restores a checkpoint."""
        if self.discriminators is not None:
            return
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(self.recipe.get("seed", 0) + 1)
            self.discriminators = nn.ModuleDict(
                {
                    "period": MultiPeriodDiscriminator(self.periods, self.period_channels),
                    "resolution": MultiResolutionDiscriminator(
                        self.resolutions, self.resolution_channels
                    ),
                }
            )
        self.discriminators.to(self.device)

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Load weights; a model that is not in training leaves the discriminators' out."""
        if self.discriminators is None:
            state_dict = {
                k: v for k, v in state_dict.items() if not k.startswith(self.training_only)
            }
        return super().load_state_dict(state_dict, strict, assign)

    def configure_optimizers(self):
        if self.trainer.precision == "16-mixed":
            raise RecipeError(
                "trainer.precision='16-mixed': two losses cannot share one gradient scaler; "
                "use bf16-mixed or 32-true"
            )
        generator = self.optim.optimizer(self.net)
        discriminator = self.optim.optimizer(self.discriminators)
        adversarial_steps = max(self.total_steps - self.pretrain_steps, 1)
        return [generator, discriminator], [
            self.optim.scheduler(generator, self.total_steps),
            self.optim.scheduler(discriminator, adversarial_steps),
        ]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        generator, discriminator = self.optimizers()
        generator_schedule, discriminator_schedule = self.lr_schedulers()
        if self.global_step < self.pretrain_steps:
            parts = self.losses(batch)
        else:
            (wave, beside), target = self.net.teach(batch), batch["wave"]
            hinge = self._discriminator_loss(wave.detach(), target)
            self._backward(hinge, self.discriminators)
            self._clip(discriminator)
            # Not discriminator.step(), which Lightning would count as a training step.
            self.trainer.strategy.optimizer_step(discriminator.optimizer, lambda: None)
            discriminator_schedule.step()
            # Frozen, they still hand the gradient on, but spend no time on their own.
            self.discriminators.requires_grad_(False)
            parts = self._generator_losses(wave, target)
            for name, counted in beside.items():
                parts[name] = self.global_mean(*counted)
                parts["loss"] = parts["loss"] + self.pitch_weight * parts[name]
            parts["discriminator"] = hinge
        generator.zero_grad()
        self._backward(parts["loss"], self.net)
        self._clip(generator)
        generator.step()
        generator_schedule.step()
        self.discriminators.requires_grad_(True)
        self.log_losses("train", parts)

    def _discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        self.discriminators.zero_grad()
        total = 0.0
        for name, weight in self._players():
            judged = self.discriminators[name](torch.cat([real, fake]))
            halves = [judgement.split(len(real)) for judgement in judged]
            loss = discriminator_hinge([r for r, _ in halves], [f for _, f in halves])
            total = total + weight * self._mean(loss)
        return total

    def _generator_losses(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        adversarial, features = 0.0, 0.0
        for name, weight in self._players():
            judges = self.discriminators[name]
            with torch.no_grad():
                truth = judges(real)
            guess = judges(fake)
            adversarial = adversarial + weight * self._mean(generator_hinge(guess))
            features = features + weight * self._mean(feature_matching(truth, guess))
        mel = self._mean(self.mel_loss(fake, real))
        loss = adversarial + features + self.adversarial_mel_weight * mel
        parts = {"mel": mel, "adversarial": adversarial, "features": features}
        if self.stft_weight:
            parts["stft"] = self._mean(self.stft_loss(fake, real))
            loss = loss + self.stft_weight * parts["stft"]
        return {"loss": loss, **parts}

    def _players(self) -> tuple[tuple[str, float], ...]:
        return ("period", 1.0), ("resolution", self.resolution_weight)

    def _mean(self, values: Tensor) -> Tensor:
        return self.global_mean(values, torch.ones_like(values, dtype=torch.bool))

    def _backward(self, loss: Tensor, module: nn.Module) -> None:
        strategy = self.trainer.strategy
        alone = self.trainer.world_size == 1
        with nullcontext() if alone else strategy.block_backward_sync():
            self.manual_backward(loss)
        if not alone:
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            flat = nn.utils.parameters_to_vector(gradients)
            torch.distributed.all_reduce(flat)
            nn.utils.vector_to_parameters(flat / self.trainer.world_size, gradients)

    def _clip(self, optimizer: Any) -> None:
        if self.optim.clip_norm:
            self.clip_gradients(optimizer, self.optim.clip_norm, "norm")
