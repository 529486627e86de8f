"""Learning durations: an aligner beside an acoustic model, its losses and its schedule (arXiv:2108.10447).

Shapes: b batch, s symbols, t frames, m mel bins, d channels. Durations are in frames; 0 on padding.
"""

from functools import reduce
from operator import add
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.duration import Aligner, beta_binomial_prior, binarisation_loss, forward_sum_loss, ramp, search

from unisono_tts.acoustic import AcousticModel
from unisono_tts.sizes import AlignerSchedule


class LearnsAlignment(AcousticModel):
    """An acoustic model whose durations come from the data's times, or from an aligner that is learnt beside it.

    A subclass sets ``schedule`` and ``align_weight``, and calls ``build_aligner`` in ``build``.
    """

    training_only: ClassVar[tuple[str, ...]] = ("aligner.",)
    schedule: AlignerSchedule
    align_weight: float
    aligner: Aligner | None
    beside_aligner: ClassVar[tuple[str, ...]] = ("aligner.", "embedding.")
    """Weights, by the beginnings of their names, that the first ``schedule.align_steps`` train."""

    def build_aligner(self, dim: int) -> None:
        """Make the aligner of symbols of ``dim`` channels, unless the data brings durations."""
        self.aligner = None if self.facts.given_durations else Aligner(dim, self.mel_spec.n_mels)

    @property
    def aligning(self) -> bool:
        """Whether this step trains the aligner alone."""
        return self.aligner is not None and self.training and self.global_step < self.schedule.align_steps

    def idle(self) -> Float[Tensor, ""]:
        """Return 0 times the weights that a step of the aligner alone does not use, so that all ranks see a gradient
        for every weight."""
        return 0.0 * reduce(add, [p.sum() for n, p in self.named_parameters() if not n.startswith(self.beside_aligner)])

    def align(
        self, batch: dict[str, Any], embedded: Float[Tensor, "b s d"], mel: Float[Tensor, "b t m"]
    ) -> tuple[Int[Tensor, "b s"], dict[str, Tensor]]:
        """Return durations and the aligner's weighted losses: none where the data brings durations.

        ``embedded`` are the symbols that the aligner reads, ``mel`` the standardised target.
        """
        if self.aligner is None:
            return batch["durations"], {}
        symbol_lengths, mel_lengths, ids = batch["symbol_lengths"], batch["mel_lengths"], batch["id"]
        prior = beta_binomial_prior(symbol_lengths, mel_lengths)
        if self.schedule.prior_steps:
            prior = prior * (1 - ramp(self.global_step, 0, self.schedule.prior_steps) if self.training else 0.0)
        log_attn = self.aligner(embedded, mel, symbol_lengths, mel_lengths, prior)
        durations = search(log_attn.detach(), symbol_lengths, mel_lengths, ids=ids)
        everyone = torch.ones_like(symbol_lengths, dtype=torch.bool)
        total = forward_sum_loss(log_attn, symbol_lengths, mel_lengths, reduction="none", ids=ids)
        parts = {"align": self.align_weight * self.global_mean(total, everyone)}
        strength = ramp(self.global_step, self.schedule.binarise_start, self.schedule.binarise_steps)
        if strength > 0:
            hard = binarisation_loss(log_attn, durations, symbol_lengths, mel_lengths, reduction="none")
            parts["binarise"] = self.align_weight * strength * self.global_mean(hard, everyone)
        return durations, parts

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self)

        def factor(step: int) -> float:
            if step < self.schedule.align_steps:
                return self.optim.factor(step, 2**31)
            return self.optim.factor(step - self.schedule.align_steps, self.total_steps - self.schedule.align_steps)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
