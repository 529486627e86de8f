"""Training of StyleTTS: two stages, each a game against a discriminator of mels (arXiv:2205.15439).

Stage 1 learns text, alignment, style and the decoder from recordings' own pitch and energy; by transferable monotonic
alignment (TMA) the decoder reads the aligner's posterior in one half of the batches and its best monotonic path in the
other, as a coin of the run's seed and the step falls. Stage 2 learns prosody; what stage 1 made stays as it is, and
what is real is what the decoder makes of a recording's own prosody.

Shapes: b batch, s symbols, t frames, n frames of a clip, m mel bins, k numbers of a style.
"""

from functools import reduce
from operator import add
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.duration import Alignment, beta_binomial_prior, forward_sum_loss, ramp, round_durations, search
from unisono.errors import RecipeError
from unisono.peers import add_up
from unisono.train.adversarial import Adversarial, Played
from unisono_sound.signal import fill_gaps

from unisono_tts.acoustic import AcousticModel
from unisono_tts.styletts.blocks import within
from unisono_tts.styletts.clips import Clips, draw_stretch, stretched
from unisono_tts.styletts.halves import distance_to_path, in_pairs, pair_shares
from unisono_tts.styletts.network import VoiceNetwork
from unisono_tts.styletts.pictures import MelDiscriminator, with_mask
from unisono_tts.styletts.sizes import StyleGame, StyleObjective, StyleSchedule

MEMORY = 0.99
"""What a batch leaves of earlier ones in a speaker's mean style."""


class Made(NamedTuple):
    """What a step made of a batch: clips, what they should have been, and losses before their weights."""

    fake: Float[Tensor, "b n m"]
    real: Float[Tensor, "b n m"]
    clips: Clips
    parts: dict[str, Tensor]


class LearnsStyle(Adversarial, AcousticModel):
    """The training half of ``StyleTTS``, which sets ``objective``, ``game`` and ``schedule`` and builds ``net``.

    Buffers that travel with the weights: ``style_total`` [speakers, k] and ``style_count`` [speakers], whose quotient
    is a speaker's mean style, and ``trained`` [2], the steps that each stage took. ``aligned`` are those of the
    aligner, which stay out of an export as the aligner does.
    """

    training_only: ClassVar[tuple[str, ...]] = ("discriminators.", "net.aligner.", "aligned")
    kept_whole: ClassVar[tuple[str, ...]] = ("discriminators.", "net.style.")
    salt: ClassVar[str] = "styletts"
    net: VoiceNetwork
    objective: StyleObjective
    game: StyleGame
    schedule: StyleSchedule

    pitch_mean: Tensor
    pitch_std: Tensor
    energy_mean: Tensor
    energy_std: Tensor
    style_total: Tensor
    style_count: Tensor
    trained: Tensor
    aligned: Tensor

    # ---- stages --------------------------------------------------------------------------------

    @property
    def stage(self) -> int:
        """1 while text, style and decoder are learnt, 2 while prosody is."""
        start = self.schedule.prosody_start
        return 2 if start is not None and self.global_step >= start else 1

    @property
    def aligning(self) -> bool:
        """Whether this step trains the aligner alone."""
        alone = self.global_step < self.schedule.align_steps
        return self.net.aligner is not None and self.training and self.stage == 1 and alone

    def on_train_start(self) -> None:
        """Refuse a second stage that no first one precedes."""
        if self.schedule.prosody_start != 0:
            return
        if not self.trained[0]:
            message = (
                "model.schedule.prosody_start=0 learns prosody for a decoder that is random: "
                "give --run.init_from=RUN, a run of the first stage"
            )
            raise RecipeError(message, code="missing", path="run.init_from")
        if self.net.aligner is not None and not self.aligned:
            message = (
                "run.init_from has no aligner, which an export leaves out: give the folder of the first stage's run"
            )
            raise RecipeError(message, code="missing", path="run.init_from")

    def _begin_step(self) -> None:
        """Let the stage's own parts learn; the others are as in use: frozen, without dropout."""
        stage = self.stage
        if self._free is None:
            self._free = {name for name, parameter in self.net.named_parameters() if parameter.requires_grad}
        for part, module in self.net.named_children():
            learns = (part == "prosody") == (stage == 2)
            module.train(learns)
            for name, parameter in module.named_parameters():
                if f"{part}.{name}" in self._free:
                    parameter.requires_grad_(learns)
        self.trained[stage - 1] += 1
        self.aligned += int(stage == 1 and self.net.aligner is not None)

    # ---- the game ------------------------------------------------------------------------------

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        if not self.game.adversarial_weight:
            return {}
        judge = MelDiscriminator(self.game.picture_dim, self.game.max_dim, self.mel_spec.n_mels)
        return {"mel": (judge, 1.0)}

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        if self.training:
            self._begin_step()
        if self.aligning:
            parts: dict[str, Tensor] = {}
            self._align(batch, self.standardised(batch["mel"]), parts)
            return self._weighed(parts)
        return self._weighed(self.make(batch).parts)

    def play(self, batch: dict[str, Any]) -> Played:
        self._begin_step()
        made = self.make(batch)
        mask = made.clips.mask
        return Played(with_mask(made.fake, mask), with_mask(made.real, mask), self._weighed(made.parts))

    def make(self, batch: dict[str, Any]) -> Made:
        """Make clips of a batch as the stage learns them; whole utterances in validation."""
        return self._make_sound(batch) if self.stage == 1 else self._make_prosody(batch)

    def _weighed(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        weighed = [getattr(self.objective, name) * value for name, value in parts.items()]
        return {**parts, "loss": reduce(add, weighed)}

    def _clips(self, batch: dict[str, Any], lengths: Int[Tensor, " b"]) -> Clips:
        if not self.training:
            return Clips.whole(lengths)
        return Clips.drawn(lengths, self.schedule.crop_frames, self.row_seeds(batch))

    # ---- stage 1 -------------------------------------------------------------------------------

    def _make_sound(self, batch: dict[str, Any]) -> Made:
        target, lengths = self.standardised(batch["mel"]), batch["mel_lengths"]
        pitch, energy = self.curves(batch)
        parts: dict[str, Tensor] = {}
        alignment, soft = self._align(batch, target, parts)
        text = self.net.text(batch["symbols"], batch["symbol_lengths"])
        clips = self._clips(batch, lengths)
        rows = in_pairs(alignment).matrix().to(text.dtype)
        if soft is not None and self.reads_posterior:
            rows = pair_shares(soft, lengths)
        real = clips.frames(target)
        style = self.net.style(real, clips.lengths)
        self._remember(style, batch["speaker"])
        fake = self.net.decoder(
            clips.pairs(rows) @ text, clips.frames(pitch), clips.frames(energy), style, clips.lengths
        )
        parts["mel"] = self.global_mean((fake - real).abs(), clips.mask)
        return Made(fake, real, clips, parts)

    @property
    def reads_posterior(self) -> bool:
        """How the coin of this step falls: the same on any rank and after a restart; never in validation."""
        coin = derive_seed(self.salt, "alignment", self.recipe.get("seed", 0), self.global_step)
        return self.training and bool(coin & 1)

    def _align(
        self, batch: dict[str, Any], mel: Float[Tensor, "b t m"], parts: dict[str, Tensor]
    ) -> tuple[Alignment, Float[Tensor, "b t s"] | None]:
        """Return the monotonic alignment and the posterior, None where the data brings durations; add losses."""
        symbol_lengths, mel_lengths, aligner = batch["symbol_lengths"], batch["mel_lengths"], self.net.aligner
        if aligner is None:
            return Alignment.from_durations(batch["durations"], symbol_lengths, mel_lengths), None
        prior = beta_binomial_prior(symbol_lengths, mel_lengths)
        if self.schedule.prior_steps:
            first = self.training and self.stage == 1
            prior = prior * (1 - ramp(self.global_step, 0, self.schedule.prior_steps) if first else 0.0)
        embedded = self.net.text.embedding(batch["symbols"])
        log_attn = aligner(embedded, mel, symbol_lengths, mel_lengths, prior)
        durations = search(log_attn.detach(), symbol_lengths, mel_lengths, ids=batch["id"])
        alignment = Alignment.from_durations(durations, symbol_lengths, mel_lengths)
        everyone = torch.ones_like(symbol_lengths, dtype=torch.bool)
        total = forward_sum_loss(log_attn, symbol_lengths, mel_lengths, reduction="none", ids=batch["id"])
        parts["align"] = self.global_mean(total, everyone)
        soft = log_attn.softmax(-1)
        if self.global_step < self.schedule.mono_start:
            return alignment, soft.detach()
        parts["mono"] = self.global_mean(distance_to_path(soft, alignment), alignment.tgt_mask)
        return alignment, soft

    @torch.no_grad()
    def _remember(self, style: Float[Tensor, "b k"], speaker: Int[Tensor, " b"]) -> None:
        """Take styles into their speakers' means."""
        if not self.training:
            return
        told = torch.cat([style.float(), torch.ones_like(style[:, :1], dtype=torch.float32)], dim=1)
        summed = add_up(told.new_zeros(len(self.style_count), told.shape[1]).index_add(0, speaker, told))
        self.style_total.mul_(MEMORY).add_(summed[:, :-1])
        self.style_count.mul_(MEMORY).add_(summed[:, -1])

    # ---- stage 2 -------------------------------------------------------------------------------

    def _make_prosody(self, batch: dict[str, Any]) -> Made:
        net, symbol_lengths, lengths = self.net, batch["symbol_lengths"], batch["mel_lengths"]
        with torch.no_grad():
            mel = self.standardised(batch["mel"])
            pitch, energy = self.curves(batch)
            alignment, _ = self._align(batch, mel, {})
            text = net.text(batch["symbols"], symbol_lengths)
            style = net.style(mel, lengths)
            self._remember(style, batch["speaker"])
        parts: dict[str, Tensor] = {}
        encoded = net.prosody.encode(text, style, symbol_lengths)
        error = net.prosody.durations(encoded, symbol_lengths) - alignment.durations / 2
        parts["duration"] = self.global_mean(error.abs(), alignment.src_mask)
        if self.training and self.schedule.stretch:
            seeds = [derive_seed("stretch", seed) for seed in self.row_seeds(batch)]
            factors = draw_stretch(seeds, self.schedule.stretch).to(mel.device)
            wanted = (lengths * factors).round().long().clamp(min=1)
            durations = round_durations(alignment.durations.double(), symbol_lengths, total=wanted)
            alignment = Alignment.from_durations(durations, symbol_lengths, wanted)
            mel, pitch, energy = (stretched(x, lengths, wanted) for x in (mel, pitch, energy))
            lengths = wanted
        clips = self._clips(batch, lengths)
        rows = clips.pairs(in_pairs(alignment).matrix()).to(text.dtype)
        pitch, energy = clips.frames(pitch), clips.frames(energy)
        with torch.no_grad():
            said, own = rows @ text, net.style(clips.frames(mel), clips.lengths)
            real = net.decoder(said, pitch, energy, own, clips.lengths)
        told = net.prosody.curves(rows @ encoded, own, clips.lengths)
        fake = net.decoder(said, *told, own, clips.lengths)
        parts["mel"] = self.global_mean((fake - real).abs(), clips.mask)
        for name, guess, truth in zip(("pitch", "energy"), told, (pitch, energy), strict=True):
            parts[name] = self.global_mean(F.smooth_l1_loss(guess, truth, reduction="none"), clips.mask)
        return Made(fake, real, clips, parts)

    # ---- targets -------------------------------------------------------------------------------

    def standardised(self, mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b t m"]:
        """Return log mels with mean 0 and variance 1 over the corpus."""
        return (mel - self.mel_mean) / self.mel_std

    def curves(self, batch: dict[str, Any]) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Return pitch and energy per frame, logarithms standardised over the corpus, 0 beyond an item's end.

        Frames without voice have the pitch interpolated between their neighbours.
        """
        inside = within(batch["mel_lengths"], batch["pitch"].shape[1])
        log_pitch = (batch["pitch"].clamp(min=1.0).log() - self.pitch_mean) / self.pitch_std
        pitch = fill_gaps(log_pitch, (batch["pitch"] > 0) & inside) * inside
        return pitch, (batch["energy"].log1p() - self.energy_mean) / self.energy_std * inside

    @torch.no_grad()
    def teacher_forced(self, batch: dict[str, Any]) -> list[Float[Tensor, "t m"]]:
        """Return log mels with the recordings' own durations, pitch, energy and style, to tune a vocoder on."""
        mel, lengths = self.standardised(batch["mel"]), batch["mel_lengths"]
        alignment, _ = self._align(batch, mel, {})
        text = self.net.text(batch["symbols"], batch["symbol_lengths"])
        clips = Clips.whole(lengths)
        pitch, energy = (clips.frames(curve) for curve in self.curves(batch))
        rows = in_pairs(alignment).matrix().to(text.dtype)
        said = self.net.decoder(rows @ text, pitch, energy, self.net.style(mel, lengths), lengths)
        said = said * self.mel_std + self.mel_mean
        return [row[:length] for row, length in zip(said, lengths.tolist(), strict=True)]
