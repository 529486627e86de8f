"""AP-BWE: bandwidth extension, which gives a narrow sound the band that it lacks.

Lu et al. (arXiv:2401.06387). Losses, weights and discriminators as published::

    generator        45 · log-amplitude MSE + 100 · (IP + GD + IAF) + 90 · complex MSE + 90 · consistency
                     + Σ_periods (hinge + FM) + 0.1 · Σ_resolutions (hinge + FM) of amplitudes and of phases
    discriminators   Σ_periods hinge + 0.1 · Σ_resolutions hinge, likewise

Differences: those of ``network``; the gradients of all discriminators are clipped together. What is made joins what was
there by ``band``, which nothing in the published code does: the low band comes out as it went in. Where a sound ends is
measured, or told by the request; one that is wide already is returned as it came.

Shapes: b batch, c channels, n samples.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from unisono.errors import CheckpointError, DataError, RequestError
from unisono.train.adversarial import Adversarial, Played
from unisono_sound.discriminators import (
    MultiPeriodDiscriminator,
    MultiResolutionAmplitudeDiscriminator,
    MultiResolutionPhaseDiscriminator,
)
from unisono_sound.signal.phase import TransformSizes, phase
from unisono_sound.signal.phase_losses import complex_loss, consistency_loss, kept_mean, phase_losses
from unisono_sound.signal.stft import same_padding

from unisono_restore.ap_bwe.band import KEPT, WIDE, Band, Edge, above, taps_for
from unisono_restore.ap_bwe.network import BandNet, Spectrum, log_amplitude
from unisono_restore.ap_bwe.rivals import conditions, copied_up
from unisono_restore.ap_bwe.sizes import SPECTRUM, BandGame, BandObjective, BandSizes
from unisono_restore.facts import BandFacts
from unisono_restore.overlap import OverlapSave
from unisono_restore.request import RestorationRequest
from unisono_restore.restorer import Restorer
from unisono_restore.sounds import Sound
from unisono_restore.trial import Baseline, Condition

__all__ = ["APBWE"]

PIECE_SECONDS, STREAMED_SECONDS = 8.0, 0.25
Bands = tuple[Band | None, ...]
"""How each channel is made wide; None for one that is wide already."""


class BandRequest(RestorationRequest):
    """A narrow sound, and where it ends, if that is known."""

    cutoff: float | None = Field(
        default=None, gt=0, description="highest frequency that the sound holds, in hertz; default: it is measured"
    )


class APBWE(Adversarial, Restorer):
    """The extender of bands.

    Args:
        network: sizes of the generator.
        spectrum: sizes of its transform.
        objective: weights of the losses beside the adversarial ones.
        game: discriminators and when they begin.
    """

    Request: ClassVar[type[BandRequest]] = BandRequest
    Facts: ClassVar[type[BandFacts]] = BandFacts
    facts: BandFacts
    net: BandNet

    def __init__(
        self,
        *,
        network: BandSizes = BandSizes(),  # noqa: B008
        spectrum: TransformSizes = SPECTRUM,
        objective: BandObjective = BandObjective(),  # noqa: B008
        game: BandGame = BandGame(),  # noqa: B008
    ):
        super().__init__()
        self.network, self.spectrum, self.objective, self.game = network, spectrum, objective, game
        self.pretrain_steps = game.pretrain_steps

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for sound at ``facts.sample_rate`` that ends from ``lowest_cutoff`` to ``highest_cutoff``."""
        super().build(facts)
        self.net = BandNet(self.spectrum, self.network)

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a model of another pair of rates."""
        super().check_source(facts)
        its = facts.get("from_rate")
        if its != self.facts.from_rate:
            raise CheckpointError(
                f"run.init_from extends sound of {its} Hz, the data is narrowed to {self.facts.from_rate} Hz: set "
                f"data.narrow.from_rate={its}",
                code="conflict",
                path="run.init_from",
                value=its,
            )

    # ---- restoring -----------------------------------------------------------------------------

    def pieces(self, streamed: bool) -> OverlapSave:
        """Pieces whose joins are exact: the network sees ``net.reach`` samples, the filters half of their taps."""
        hop = self.spectrum.hop_length
        seconds = STREAMED_SECONDS if streamed else PIECE_SECONDS
        size = max(1, round(seconds * self.sample_rate / hop)) * hop
        return OverlapSave(size, self.net.reach + 2 * (taps_for(self.facts.lowest_cutoff, self.sample_rate) // 2), hop)

    def survey(self, request: BandRequest, sound: Sound) -> Bands:
        """Return how each channel of the sound is made wide; None where it is wide already.

        A channel that ends below the lowest known cut-off is taken to end there: what it lacks below stays lacking.
        Raises ``RequestError`` where its rate alone makes it narrower than that, and for a cut-off out of range.
        """
        facts, half = self.facts, self.sample_rate / 2
        if sound.rate < 2 * facts.lowest_cutoff:
            raise RequestError(
                f"a sound at {sound.rate} Hz ends at {sound.rate / 2:g} Hz; this model extends what ends at "
                f"{facts.lowest_cutoff:g} Hz or above: take a model that was trained from {sound.rate} Hz",
                code="unsupported",
                path="sample_rate" if request.audio is None else "audio",
                value=sound.rate,
            )
        if request.cutoff is None:
            edge = Edge(self.sample_rate)
            for block in sound.at(self.sample_rate):
                edge.hear(block)
            cutoffs = [max(cutoff, facts.lowest_cutoff) for cutoff in edge.cutoffs()]
        elif facts.lowest_cutoff <= request.cutoff <= half:
            cutoffs = [request.cutoff] * sound.num_channels
        else:
            raise RequestError(
                f"cutoff={request.cutoff:g} must be from {facts.lowest_cutoff:g}, the lowest that this model knows, to "
                f"{half:g} Hz, half of its rate",
                code="range",
                path="cutoff",
                value=request.cutoff,
            )
        bands = {
            cutoff: None if cutoff >= WIDE * half else Band.of(cutoff, facts.highest_cutoff, self.sample_rate)
            for cutoff in set(cutoffs)
        }
        return tuple(bands[cutoff] for cutoff in cutoffs)

    def restore(self, wave: Float[Tensor, "c n"], known: Bands) -> Float[Tensor, "c n"]:
        """Make a narrow stretch wide."""
        made = wave.clone()
        for band in {id(band): band for band in known if band is not None}.values():
            rows = [row for row, own in enumerate(known) if own is band]
            narrow = wave[rows]
            heard = narrow - above(narrow, band.unheard)
            made[rows] = narrow + above(self.net(heard) - narrow, band.made)
        return made

    def conditions(self) -> list[Condition]:
        """The resampler of the papers, filters, µ-law and Opus, as far as the rates allow it."""
        options = self.recipe.get("data", {}).get("narrow") or {}
        return conditions(self.facts, self.sample_rate, options)

    def baselines(self) -> list[Baseline]:
        """The low band copied up."""
        return [Baseline("low band copied", copied_up)]

    def check_requests(self) -> list[RestorationRequest]:
        """Those of every restorer, and a sound whose end is told."""
        first = self.preview_requests()[0]
        told = [self.facts.lowest_cutoff, (self.facts.lowest_cutoff + KEPT * self.sample_rate / 2) / 2]
        return [*super().check_requests(), *(self.Request(samples=first.samples, cutoff=hz) for hz in told)]

    # ---- training ------------------------------------------------------------------------------

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        """Weights are times the number of discriminators of a kind: published losses add up over them."""
        game = self.game
        amplitudes, phases = (
            kind(game.resolutions, game.resolution_channels)
            for kind in (MultiResolutionAmplitudeDiscriminator, MultiResolutionPhaseDiscriminator)
        )
        weight = game.spectrum_weight * len(game.resolutions)
        period = MultiPeriodDiscriminator(game.periods, game.period_channels)
        return {"period": (period, len(game.periods)), "amplitude": (amplitudes, weight), "phase": (phases, weight)}

    def play(self, batch: dict[str, Any]) -> Played:
        real = batch["wave"]
        self._check_crops(real.shape[1])
        with torch.autocast(real.device.type, enabled=False):
            truth = self.net.transform(real)
            heard = self.net.analysed(self.net.transform(batch["heard"]))
        target = Spectrum(log_amplitude(truth), phase(truth))
        made = self.net.predict(heard)
        fake = self.net.transform.inverse(made.complex, real.shape[1])
        values = {
            "amplitude": kept_mean((made.log_amplitude - target.log_amplitude).square()),
            "phase": phase_losses(made.phase, target.phase).total,
            "complex": complex_loss(made.complex, target.complex),
            "consistency": consistency_loss(made.complex, fake, self.net.transform),
        }
        parts = {name: self.mean(value) for name, value in values.items()}
        weights = self.objective
        loss = (
            weights.amplitude * parts["amplitude"]
            + weights.phase * parts["phase"]
            + weights.complex * parts["complex"]
            + weights.consistency * parts["consistency"]
        )
        return Played(fake, real, {"loss": loss, **parts})

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.play(batch).parts

    def _check_crops(self, num_samples: int) -> None:
        """Raise ``DataError`` where a discriminator's window has more to mirror than a crop holds."""
        least = 1 + max((same_padding(n_fft, hop)[1] for n_fft, hop in self.game.resolutions), default=0)
        if self.discriminators and num_samples < least:
            raise DataError(
                f"crops of {num_samples} samples are too short for the discriminators' windows: set "
                f"data.crops.samples to {least} or more",
                code="shape",
                path="data.crops.samples",
                value=num_samples,
            )

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"samples": batch["wave"].numel()}
