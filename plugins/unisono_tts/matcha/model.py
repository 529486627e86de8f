"""Matcha: speech drawn by a flow whose noise becomes a sharp mel around an encoder's mean one.

Mehta et al., "Matcha-TTS: A fast TTS architecture with conditional flow matching" (arXiv:2309.03199). Defaults are the
sizes of the published LJSpeech recipe. Differences: the encoder hears distances by relative positions, as Glow-TTS'
does, and not by rotary ones; durations are learnt and predicted by log(1 + d), as those of the toolkit are, and are
rounded cumulatively, where the code rounds each by itself; times run from noise at 1 to data at 0; nothing reads
padding, which the published normalisation and attention do; a speaker's vector is added to the symbols, where the code
puts it beside them.

The mean mel serves twice: alignment search gives symbols to frames by it (Glow-TTS, arXiv:2005.11129, §3.1), and the
field is told of it. With x0 = mel + σ·ε as the data and ε as the noise, the toolkit's `Flow` is the paper's path with
σ = ``sigma_min``: x = (1 − t)·mel + (t + (1 − t)·σ)·ε.

Shapes: b batch, s symbols, t frames, m mel bins, d channels. Durations are in frames; 0 on padding.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from unisono.data import derive_seed
from unisono.diffusion import Flow
from unisono.duration import Alignment, durations_from_log, log_durations
from unisono.nn.temporal import TemporalPredictor
from unisono_sound.voice import Reading, SpeechRequest

from unisono_tts.acoustic import Spoken
from unisono_tts.encoders import EncoderSizes, TextEncoder
from unisono_tts.flow import FlowRequest, FlowVoice, Velocity
from unisono_tts.matcha.alignment import Crop, crops, prior_durations, prior_loss
from unisono_tts.matcha.decoder import Decoder
from unisono_tts.matcha.sizes import FieldSizes, FlowObjective
from unisono_tts.rhythm import swung
from unisono_tts.sizes import PredictorSizes


class MatchaRequest(FlowRequest):
    """What can be asked of Matcha."""

    num_steps: int = Field(default=10, ge=0, le=1000, description="Euler steps; 0 says the mean mel, which is blurred")
    temperature: float = Field(default=0.667, ge=0, le=2, description="scale of the noise; 0 draws nothing")
    duration_temperature: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how much rhythm changes with the seed: spread of words' log lengths",
    )


class Matcha(FlowVoice):
    """Text to speech by flow matching.

    ::

        symbols ─ encoder ─┬─ mean mel of each symbol ─ over its frames ─ µ ┐
                           └─ duration predictor ─ round                    ├─ U-Net × num_steps ─ mel
                                                   noise · temperature ─ x ─┘

    Args:
        encoder, field: sizes of the text encoder and of the U-Net.
        predictor: of durations.
        objective: how the flow is learnt, and weights of the losses beside it.
        speaker_dim: channels of a speaker's vector, where there are several.
        max_piece_characters: longest piece of a text that is spoken at once.
    """

    Request: ClassVar[type[SpeechRequest]] = MatchaRequest
    salt: ClassVar[str] = "matcha"

    def __init__(
        self,
        *,
        encoder: EncoderSizes = EncoderSizes(),  # noqa: B008
        field: FieldSizes = FieldSizes(),  # noqa: B008
        predictor: PredictorSizes = PredictorSizes(),  # noqa: B008
        objective: FlowObjective = FlowObjective(),  # noqa: B008
        speaker_dim: int = 64,
        max_piece_characters: int = 220,
    ):
        super().__init__()
        self.encoder_sizes, self.field_sizes, self.predictor = encoder, field, predictor
        self.objective, self.speaker_dim = objective, speaker_dim
        self.max_piece_characters = max_piece_characters
        self.flow = Flow(std=0.0)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the symbols, speakers and mel statistics of the corpus."""
        super().build(facts)
        dim, n_mels, several = self.encoder_sizes.dim, self.mel_spec.n_mels, len(self.voice.speakers) > 1
        self.encoder = TextEncoder(len(self.voice.symbols), self.encoder_sizes)
        self.speaker = nn.Embedding(len(self.voice.speakers), self.speaker_dim) if several else None
        self.speaker_in = nn.Linear(self.speaker_dim, dim) if several else None
        self.to_mean = nn.Linear(dim, n_mels)
        self.durations = TemporalPredictor(dim, self.predictor.dim, dropout=self.predictor.dropout)
        self.field = Decoder(n_mels + self.speaker_dim * several, n_mels, self.field_sizes)

    # ---- the network ---------------------------------------------------------------------------

    def encode(
        self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"], speaker: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b s m"], Float[Tensor, "b s"]]:
        """Return each symbol's mean mel, standardised, and its predicted log duration."""
        x = self.encoder.embed(symbols, mask)
        if self.speaker is not None and self.speaker_in is not None:
            x = (x + self.speaker_in(self.speaker(speaker))[:, None]) * mask[..., None]
        x = self.encoder.blocks(x, mask)
        return self.to_mean(x) * mask[..., None], self.durations(x.detach(), mask)

    def condition(self, mean: Float[Tensor, "b t m"], speaker: Int[Tensor, " b"]) -> Float[Tensor, "b t c"]:
        """Return what the field is told at each frame: the mean mel, and the speaker where there are several."""
        if self.speaker is None:
            return mean
        return torch.cat([mean, self.speaker(speaker)[:, None].expand(-1, mean.shape[1], -1)], -1)

    def field_of(self, condition: Float[Tensor, "b t c"], inside: Bool[Tensor, "b t"]) -> Velocity:
        """Return the field of items under their conditions."""
        return lambda x, t, row: self.field(x, t, condition[row], inside[row])

    def say(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], readings: Sequence[Reading]) -> Spoken:
        """Speak a padded batch of pieces: predicted durations, then the flow from each one's own noise."""
        mask = torch.arange(symbols.shape[1], device=symbols.device) < lengths[:, None]
        asked = self.asked(readings, symbols.shape[1])
        mean, log_duration = self.encode(symbols, mask, asked["speaker"])
        predicted = durations_from_log(log_duration, self.predictor.max_frames_per_symbol)
        alignment = self.lay(swung(predicted, readings), lengths, asked, readings)
        mean, frames = alignment.expand(mean), alignment.tgt_mask
        condition = self.condition(mean, asked["speaker"])
        drawn = [row for row, reading in enumerate(readings) if reading.request.num_steps]
        mel = mean.clone()
        if drawn:
            rows = torch.tensor(drawn, device=mel.device)
            start = self.start(readings, alignment.tgt_lengths.tolist())[rows]
            field = self.field_of(condition[rows], frames[rows])
            mel[rows] = self.draw(field, start, [readings[row].request for row in drawn])
        return Spoken(mel * self.mel_std + self.mel_mean, alignment)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        target, mean, log_duration, alignment = self.aligned(batch)
        inside = alignment.tgt_mask
        error = log_duration - log_durations(alignment.durations)
        parts = {
            "flow": self.flow_loss(batch, target, mean, inside),
            "prior": self.objective.prior_weight * self.global_mean(prior_loss(mean, target), inside),
            "log_duration": self.objective.duration_weight * self.global_mean(error.square(), alignment.src_mask),
        }
        return {**parts, "loss": reduce(add, list(parts.values()))}

    def aligned(
        self, batch: dict[str, Any]
    ) -> tuple[Float[Tensor, "b t m"], Float[Tensor, "b t m"], Float[Tensor, "b s"], Alignment]:
        """Return the standardised target, the mean mel over its frames, the predicted log durations, and how symbols
        lie on frames: as the data says, or as the mean mels suit the target best."""
        target = (batch["mel"] - self.mel_mean) / self.mel_std
        symbol_lengths, mel_lengths = batch["symbol_lengths"], batch["mel_lengths"]
        mask = torch.arange(batch["symbols"].shape[1], device=target.device) < symbol_lengths[:, None]
        mean, log_duration = self.encode(batch["symbols"], mask, batch["speaker"])
        if self.facts.given_durations:
            durations = batch["durations"]
        else:
            durations = prior_durations(mean, target, symbol_lengths, mel_lengths, batch["id"])
        alignment = Alignment.from_durations(durations, symbol_lengths, mel_lengths)
        return target * alignment.tgt_mask[..., None], alignment.expand(mean), log_duration, alignment

    def flow_loss(
        self,
        batch: dict[str, Any],
        target: Float[Tensor, "b t m"],
        mean: Float[Tensor, "b t m"],
        inside: Bool[Tensor, "b t"],
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the flow, over each item's frames or a crop of them."""
        seeds = self.row_seeds(batch)
        crop = self.crops(seeds, batch["mel_lengths"])
        if crop is not None:
            target, mean, inside = crop.cut(target), crop.cut(mean), crop.inside
        noise, uniform = self.drawn(seeds, target.shape[1])
        noised = self.flow.corrupt(target + self.objective.sigma_min * noise, noise, self.flow.level(uniform))
        condition = self.condition(mean, batch["speaker"])
        output = self.field(noised.x * inside[..., None], noised.time / 1000, condition, inside)
        return self.global_mean((output.float() - noised.target).square(), inside)

    def crops(self, seeds: Sequence[int], lengths: Int[Tensor, " b"]) -> Crop | None:
        """Return which frames of each item the field is trained on; None for all."""
        size = self.objective.crop_frames
        return None if size is None else crops(lengths, size, [derive_seed(seed, "crop") for seed in seeds])

    def drawn(self, seeds: Sequence[int], frames: int) -> tuple[Float[Tensor, "b t m"], Float[Tensor, " b"]]:
        """Return normal noise and a uniform number for each item, from its own seed."""
        noise = torch.empty(len(seeds), frames, self.mel_spec.n_mels)
        uniform = torch.empty(len(seeds), dtype=torch.float64)
        for row, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(derive_seed(seed, "flow"))
            uniform[row] = torch.rand((), generator=generator, dtype=torch.float64)
            noise[row].normal_(generator=generator)
        return noise.to(self.device), uniform.to(self.device)

    @torch.no_grad()
    def teacher_forced(self, batch: dict[str, Any]) -> list[Float[Tensor, "t m"]]:
        """Return log mels drawn with the recordings' own durations, to tune a vocoder on."""
        _, mean, _, alignment = self.aligned(batch)
        lengths = batch["mel_lengths"].tolist()
        noise, _ = self.drawn([derive_seed(self.salt, name) for name in batch["id"]], mean.shape[1])
        field = self.field_of(self.condition(mean, batch["speaker"]), alignment.tgt_mask)
        requests = [MatchaRequest(text=text) for text in batch["id"]]
        mel = self.draw(field, noise * alignment.tgt_mask[..., None], requests) * self.mel_std + self.mel_mean
        return [row[:length] for row, length in zip(mel, lengths, strict=True)]
