"""Parallel Tacotron: a spectrogram in one pass, from a text and from latents for what the text leaves open.

Elias et al., "Parallel Tacotron: Non-Autoregressive and Controllable TTS" (arXiv:2010.11439) and "Parallel Tacotron 2:
A Non-Autoregressive Neural TTS Model with Differentiable Duration Modeling" (arXiv:2103.14574). Differences:

- durations come from the data's times or are learnt beside the model by an aligner (arXiv:2108.10447), where the first
  paper has an external one; no symbol is of no length then, so that there is no second output that says which are;
- where a learned prior of symbols reads the text, it is a Gaussian from convolutions, all symbols at once, and trained
  by its divergence from the posterior; as published it is a recurrent network that predicts the posterior's mean;
- learned upsampling begins on known durations, and soft-DTW when that is learnt (``stages``): nobody has reported the
  second paper's training from nothing on public data. Until then it learns which symbol a frame is of. ``stages`` of
  0 is the published way;
- an item whose predicted length is beyond soft-DTW's band is left out of a step's reconstruction, and counted;
- the posterior of a whole item is of the mean over its frames.

Shapes: b batch, s symbols, t frames, m mel bins, d channels, e channels of a speaker, z latent coordinates.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from unisono.duration import Alignment, ramp
from unisono.errors import RecipeError, UnisonoError
from unisono.nn.variational import Gaussian, gaussian_noise, kl_divergence, mean_divergence
from unisono_sound.voice import MarkedRequest, Reading, SpeechRequest

from unisono_tts.acoustic import Spoken
from unisono_tts.learning import LearnsAlignment
from unisono_tts.parallel_tacotron.latents import SpeakerPrior, TextPrior
from unisono_tts.parallel_tacotron.losses import warped_distances
from unisono_tts.parallel_tacotron.net import TacotronNet
from unisono_tts.parallel_tacotron.sizes import LatentSizes, SoftDTWOptions, Stages, TacotronObjective, TacotronSizes
from unisono_tts.sizes import AlignerSchedule


class ParallelTacotron(LearnsAlignment):
    """Feed-forward text to speech with a variational residual encoder.

    ::

        symbols ─ embedding ─ text encoder ─┬───────────────┬─ Linear ─ x ─ duration decoder ─ v, durations
        recording (training) ─ posterior ─ z ─ bottleneck ──┘
        x ─ repeat + positions ─┐
        v ─ learned upsampling ─┴─ LConv ─┬─ LConv ─┬─ … ─ LConv ─┬
                                         mel       mel           mel, the one that is said

    Args:
        network: sizes.
        latents: what they belong to, and their prior and posterior.
        objective: the losses.
        upsampling: ``repeat`` (the first paper) or ``learned`` (the second).
        stages: when the learned upsampling and soft-DTW begin.
        soft_dtw: its numbers.
        aligner: how the alignment is learnt.
        max_piece_characters: longest piece of a text that is spoken at once.
    """

    class Request(MarkedRequest):
        """What can be asked of a voice with latents."""

        latent_temperature: float = Field(
            default=0.0,
            ge=0,
            le=2,
            description="how far delivery may be from the expected: 0 is one for all seeds, 1 as varied as learnt",
        )

    salt: ClassVar[str] = "parallel-tacotron"
    deterministic: ClassVar[bool] = False
    training_only: ClassVar[tuple[str, ...]] = ("aligner.", "net.posterior.")
    beside_aligner: ClassVar[tuple[str, ...]] = ("aligner.", "net.embedding.")

    upsamples: Tensor

    def __init__(
        self,
        *,
        network: TacotronSizes = TacotronSizes(),  # noqa: B008
        latents: LatentSizes = LatentSizes(),  # noqa: B008
        objective: TacotronObjective = TacotronObjective(),  # noqa: B008
        upsampling: Literal["repeat", "learned"] = "repeat",
        stages: Stages = Stages(),  # noqa: B008
        soft_dtw: SoftDTWOptions = SoftDTWOptions(),  # noqa: B008
        aligner: AlignerSchedule = AlignerSchedule(),  # noqa: B008
        max_piece_characters: int = 220,
    ):
        super().__init__()
        self.network, self.latents, self.objective, self.schedule = network, latents, objective, aligner
        self.upsampling, self.stages, self.soft_dtw = upsampling, stages, soft_dtw
        self.align_weight = objective.align_weight
        self.max_piece_characters = max_piece_characters
        self.warps = objective.reconstruction == "soft-dtw"
        self._check()

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the symbols, speakers and mel statistics of the corpus."""
        super().build(facts)
        learns = self.upsampling == "learned"
        self.net = TacotronNet(
            self.network,
            self.latents,
            num_symbols=len(self.voice.symbols),
            num_speakers=len(self.voice.speakers),
            n_mels=self.mel_spec.n_mels,
            repeats=not learns or self.stages.learned_from > 0,
            learns=learns,
        )
        # Which upsampling was trained last, since a run may end, or be listened to, before the learned one begins.
        self.register_buffer("upsamples", torch.tensor(int(self.net.repeats is None)))
        self.build_aligner(self.network.dim)
        if self.warps and not self.stages.soft_dtw_from:
            self.aligner = None  # nothing needs known durations

    # ---- speaking ------------------------------------------------------------------------------

    def say(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], readings: Sequence[Reading]) -> Spoken:
        """Speak a padded batch of pieces: latents by each request's temperature and seed, each symbol's own pace."""
        mask = torch.arange(symbols.shape[1], device=symbols.device) < lengths[:, None]
        asked = self.asked(readings, symbols.shape[1])
        text, speaker = self.net.encode(symbols, mask, asked["speaker"])
        prior = self.net.prior(text, mask, asked["speaker"], speaker)
        temperature = torch.tensor([reading.request.latent_temperature for reading in readings])
        latents = prior.draw(self.drawn(readings, lengths), temperature.to(text)[:, None, None])
        x, v, frames = self.net.plan(text, latents, speaker, mask)
        alignment = self.lay(frames.clamp(max=self.network.max_frames_per_symbol), lengths, asked, readings)
        mel = self.net.decode(x, v, alignment, bool(self.upsamples))[-1] * self.mel_std + self.mel_mean
        return Spoken(mel, alignment)

    def drawn(self, readings: Sequence[Reading], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b l z"]:
        """Return the noise of latents; that of an item's own latent is the same for all pieces of a request."""
        if self.latents.level == "phoneme":
            return self.noise(readings, lengths.tolist(), self.latents.dim)
        seeds = [reading.request.seed for reading in readings]
        shape = (1, self.latents.dim)
        return gaussian_noise(seeds, [shape] * len(seeds), self.mel_mean.new_zeros(len(seeds), *shape))

    def preview_requests(self) -> list[SpeechRequest]:
        """Return the texts as they are expected to be said, and the first of them drawn."""
        expected = super().preview_requests()
        return [*expected, *(request.model_copy(update={"latent_temperature": 1.0}) for request in expected[:1])]

    # ---- training ------------------------------------------------------------------------------

    @property
    def learning(self) -> bool:
        """Whether this step's frames come from the learned upsampling; beside training, by what was trained last."""
        if not self.training:
            return bool(self.upsamples)
        return self.net.upsampler is not None and self.global_step >= self.stages.learned_from

    @property
    def warping(self) -> bool:
        """Whether this step has predicted durations, and soft-DTW."""
        return self.warps and self.global_step >= self.stages.soft_dtw_from

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        target = (batch["mel"] - self.mel_mean) / self.mel_std
        parts: dict[str, Tensor] = {}
        if self.warping:
            known = None
        else:
            durations, parts = self.align(batch, self.net.embedding(batch["symbols"]), target)
            if self.aligning:
                return {**parts, "loss": reduce(add, list(parts.values())) + self.idle()}
            known = Alignment.from_durations(durations, batch["symbol_lengths"], batch["mel_lengths"])
        if self.training:
            self.upsamples.fill_(int(self.learning))
        mask, tgt_mask = (
            torch.arange(x.shape[1], device=x.device) < batch[lengths][:, None]
            for x, lengths in ((batch["symbols"], "symbol_lengths"), (batch["mel"], "mel_lengths"))
        )
        text, speaker = self.net.encode(batch["symbols"], mask, batch["speaker"])
        prior = self.net.prior(text, mask, batch["speaker"], speaker)
        posterior = self.net.posterior(target, speaker, text, (mask, tgt_mask), known)
        latents = posterior.draw(self.training_noise(batch, posterior))
        x, v, frames = self.net.plan(text, latents, speaker, mask)
        parts |= self.duration_losses(frames, known, mask, batch["mel_lengths"])
        parts |= self.latent_losses(posterior, prior, mask)
        if known is None:
            parts |= self.warped_losses(v, frames, batch, target)
        else:
            mels = self.net.decode(x, v, known, self.learning)
            distances = [self.global_mean((mel - target).abs(), tgt_mask) for mel in mels]
            parts |= {"mel": distances[-1], "mel_before": reduce(add, distances[:-1], distances[-1].new_zeros(()))}
            if self.net.upsampler is not None and self.net.repeats is not None and not self.learning:
                weights = self.net.upsampler(v.detach(), known.durations, known.src_lengths)[1].matrix()
                right = weights.gather(2, known.index[..., None])[..., 0].float()
                parts["upsampling"] = self.objective.duration_weight * self.global_mean(-(right + 1e-6).log(), tgt_mask)
        told = {name: parts.pop(name).detach() for name in ("nats", "outside") if name in parts}
        idle = [p for module in self.unused() for p in module.parameters()]
        total = reduce(add, list(parts.values())) + 0.0 * sum(p.sum() for p in idle)
        if not self.training and known is not None:
            told["mel_expected"] = self.expected_distance(text, prior, speaker, mask, known, target)
        return {**parts, **told, "loss": total}

    def unused(self) -> list[nn.Module]:
        """Return what this step's loss does not read, or not all of; all ranks must see a gradient of each weight."""
        idle = (self.aligner if self.warping else None, self.net.repeats if self.learning else self.net.upsampler)
        return [module for module in idle if module is not None]

    def training_noise(self, batch: dict[str, Any], posterior: Gaussian) -> Float[Tensor, "b l z"]:
        """Return noise of each item's own seed and length."""
        places = [1] * len(batch["id"]) if self.latents.level == "global" else batch["symbol_lengths"].tolist()
        return gaussian_noise(self.row_seeds(batch), [(n, self.latents.dim) for n in places], posterior.mean)

    def duration_losses(
        self,
        frames: Float[Tensor, "b s"],
        known: Alignment | None,
        mask: Bool[Tensor, "b s"],
        totals: Int[Tensor, " b"],
    ) -> dict[str, Tensor]:
        """Return the weighted error of durations; where none are known, of their totals, by symbol."""
        if known is not None:
            error = self.global_mean((frames - known.durations).abs(), mask)
        else:
            error = (frames.sum(1) - totals).abs() / mask.sum(1)
            error = self.global_mean(error, torch.ones_like(totals, dtype=torch.bool))
        return {"duration": self.objective.duration_weight * error}

    def latent_losses(self, posterior: Gaussian, prior: Gaussian, mask: Bool[Tensor, "b s"]) -> dict[str, Tensor]:
        """Return the weighted divergence of the posterior, its nats, and the loss of a prior that reads the text."""
        objective = self.objective
        by_speaker = isinstance(self.net.prior, SpeakerPrior)
        kept = mask if self.latents.level == "phoneme" else mask[:, :1]
        divergence = kl_divergence(posterior, prior if by_speaker else None)
        weight = objective.kl_weight * ramp(self.global_step, objective.kl_start, objective.kl_steps)
        nats = mean_divergence(divergence.detach(), kept)
        parts = {"kl": weight * mean_divergence(divergence, kept, objective.free_nats), "nats": nats}
        if isinstance(self.net.prior, TextPrior):
            divergence = kl_divergence(posterior.detach(), prior)
            parts["prior"] = objective.prior_weight * mean_divergence(divergence, kept)
        return parts

    def warped_losses(
        self, v: Float[Tensor, "b s d"], frames: Float[Tensor, "b s"], batch: dict[str, Any], target: Tensor
    ) -> dict[str, Tensor]:
        """Return soft-DTW of each block with predicted durations, and the share of items that are not in its band."""
        assert self.net.upsampler is not None
        predicted = frames.clamp(max=self.network.max_frames_per_symbol)
        upsampled, soft = self.net.upsampler(v, predicted, batch["symbol_lengths"])
        mels = self.net.decoder(upsampled, soft.tgt_mask)
        distances, inside = warped_distances(mels, soft.tgt_lengths, target, batch["mel_lengths"], self.soft_dtw)
        means = [self.global_mean(distance, inside) for distance in distances]
        outside = self.global_mean((~inside).float(), torch.ones_like(inside))
        before = reduce(add, means[:-1], means[-1].new_zeros(()))
        return {"mel": means[-1], "mel_before": before, "outside": outside}

    def expected_distance(
        self,
        text: Tensor,
        prior: Gaussian,
        speaker: Tensor,
        mask: Tensor,
        known: Alignment,
        target: Tensor,
    ) -> Float[Tensor, ""]:
        """Return the mel error without the recording's latents: what a text alone gives, at known durations."""
        x, v, _ = self.net.plan(text, prior.mean, speaker, mask)
        said = self.net.decode(x, v, known, self.learning)[-1]
        return self.global_mean((said - target).abs(), known.tgt_mask)

    @torch.no_grad()
    def teacher_forced(self, batch: dict[str, Any]) -> list[Float[Tensor, "t m"]]:
        """Return log mels with the recordings' own durations and latents, to tune a vocoder on.

        Raises ``UnisonoError`` where neither the data nor an aligner knows durations.
        """
        if self.aligner is None and not self.facts.given_durations:
            message = "this model has learnt no alignment, for soft-dtw needs none: train with soft_dtw_from above 0"
            raise UnisonoError(message, code="unsupported", path="model.stages.soft_dtw_from", value=0)
        target = (batch["mel"] - self.mel_mean) / self.mel_std
        durations, _ = self.align(batch, self.net.embedding(batch["symbols"]), target)
        known = Alignment.from_durations(durations, batch["symbol_lengths"], batch["mel_lengths"])
        text, speaker = self.net.encode(batch["symbols"], known.src_mask, batch["speaker"])
        latents = self.net.posterior(target, speaker, text, (known.src_mask, known.tgt_mask), known).mean
        x, v, _ = self.net.plan(text, latents, speaker, known.src_mask)
        mel = self.net.decode(x, v, known, bool(self.upsamples))[-1] * self.mel_std + self.mel_mean
        return [row[:length] for row, length in zip(mel, batch["mel_lengths"].tolist(), strict=True)]

    def _check(self) -> None:
        """Refuse what excludes each other, and heads that do not divide the channels."""
        for name in ("encoder_heads", "lconv_heads"):
            heads = getattr(self.network, name)
            if heads < 1 or self.network.dim % heads:
                message = f"model.network.{name}={heads} must divide model.network.dim={self.network.dim}"
                raise RecipeError(message, code="value", path=f"model.network.{name}", value=heads)
        for wrong, path, value, fix in (
            (self.warps and self.upsampling == "repeat", "objective.reconstruction", "soft-dtw",
             "needs durations that gradients reach: take upsampling=learned"),
            (self.warps and self.stages.soft_dtw_from < self.stages.learned_from, "stages.soft_dtw_from",
             self.stages.soft_dtw_from, f"must be at least stages.learned_from={self.stages.learned_from}"),
            (self.warps and self.latents.level == "phoneme" and self.latents.posterior == "durations",
             "latents.posterior", "durations", "needs known durations, and soft-dtw has none: take attention"),
        ):  # fmt: skip
            if wrong:
                message = f"model.{path}={value} {fix}"
                raise RecipeError(message, code="conflict", path=f"model.{path}", value=value)
