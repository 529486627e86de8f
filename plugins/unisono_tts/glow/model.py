"""Glow-TTS: an invertible network speaks, and its own likelihood tells which frames are a symbol's.

Kim, Kim, Kong and Yoon, "Glow-TTS: A Generative Flow for Text-to-Speech via Monotonic Alignment Search"
(arXiv:2005.11129). Defaults are the published sizes (28.6 million weights). Several speakers are heard by the duration
predictor and by each coupling, as published; symbols have the same means for all of them.

Differences: mels are standardised; durations are rounded cumulatively, where the published code rounds each up, which
makes speech longer by half a frame a symbol (``rounding: ceil`` does so here too); the duration predictor learns
log(1 + d) in place of log d, as all predictors here, so that a symbol may be given no frame; mels of odd length are
filled up by a frame, instead of cut by one (see `decoder`); digital silence gets noise in training where its mel is
constant, in place of a step of 16 bits in every sample; the data-dependent start is part of the first step,
over all processes (see `unisono.nn.flow.norm`). The published code counts the likelihood per channel and frame; so
does the loss here.

Shapes: b batch, s symbols, n tokens (symbols, and blanks between them if there are any), t frames, w frames filled up,
m mel bins, g channels of the speaker. Durations are in frames.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.duration import Alignment, durations_from_log, log_durations, round_durations, search
from unisono.errors import RecipeError
from unisono.nn.temporal import TemporalPredictor
from unisono_sound.signal.mel import LOG_FLOOR
from unisono_sound.voice import MarkedRequest, Reading

from unisono_tts.acoustic import AcousticModel, Spoken
from unisono_tts.encoders import EncoderSizes, TextEncoder
from unisono_tts.glow.blanks import apart, for_both, interleaved, of_symbols
from unisono_tts.glow.decoder import FILL, FlowDecoder, FlowSizes
from unisono_tts.glow.prior import LOG_TWO_PI, Prior, gaussian_log_likelihood, log_likelihoods
from unisono_tts.sizes import PredictorSizes
from unisono_tts.speaking import held_durations

FLOOR_SPREAD = 0.3
"""Deviation, in nats, of the noise that the floor of log mels gets in training."""
FILL_ENTROPY = 0.5 * (LOG_TWO_PI + 1) + math.log(FILL)
"""Of the noise in a channel of a frame that is filled up, in nats."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What the network makes of texts with their recordings.

    Attributes:
        latents: of the recordings, filled up; ``log_det`` is of the map to them.
        alignment: how tokens lie on frames; it has no gradient.
        mean, log_std: of the tokens' latents.
        log_duration: what is predicted, log(1 + frames).
    """

    latents: Float[Tensor, "b w m"]
    log_det: Float[Tensor, " b"]
    alignment: Alignment
    mean: Float[Tensor, "b n m"]
    log_std: Float[Tensor, "b n m"]
    log_duration: Float[Tensor, "b n"]


class GlowTTS(AcousticModel):
    """Text to speech by a normalising flow.

    ::

        symbols ─ encoder ─┬─ means of the latents ─ repeat ─ + temperature · noise ─┐
                           └─ duration predictor ─ round ─────┘                      └─ flow, inverse ─ mel

        training:   mel ─ flow ─ latents ─ monotonic alignment search against the means ─ durations

    Args:
        encoder, decoder, predictor: sizes of the text encoder, of the flow and of what predicts durations.
        speaker_dim: channels of a speaker, where there are several.
        given_durations: whether durations that the data brings are used; otherwise, and where it brings none, the
            alignment is searched. Validation then tells, as ``border_frames``, how far the borders of symbols are from
            those which the data brings.
        learnt_std: whether each symbol's latents have a deviation of their own, instead of 1.
        blanks: whether a blank token stands between symbols, so that no frame of a transition need be either's. A
            symbol's frames are its own and those of the blank behind it; recordings need a frame for each token.
        rounding: how predicted durations become whole: ``cumulative`` keeps the pace, ``ceil`` is as published.
        duration_weight: of the duration predictor's loss.
        max_piece_characters: longest piece of a text that is spoken at once.
    """

    class Request(MarkedRequest):
        """What can be asked of a voice that samples."""

        temperature: float = Field(
            default=0.333, ge=0, le=1, description="how much readings differ: 0 is the same for every seed"
        )

    text_field: ClassVar[str] = "text"
    salt: ClassVar[str] = "glow"
    deterministic: ClassVar[bool] = False
    adapter_targets: ClassVar[tuple[str, ...]] = ("encoder.layers.*.qkv", "encoder.layers.*.out")

    def __init__(
        self,
        *,
        encoder: EncoderSizes = EncoderSizes(),  # noqa: B008
        decoder: FlowSizes = FlowSizes(),  # noqa: B008
        predictor: PredictorSizes = PredictorSizes(),  # noqa: B008
        speaker_dim: int = 192,
        given_durations: bool = True,
        learnt_std: bool = False,
        blanks: bool = False,
        rounding: Literal["cumulative", "ceil"] = "cumulative",
        duration_weight: float = 1.0,
        max_piece_characters: int = 220,
    ):
        super().__init__()
        self.encoder_sizes, self.decoder_sizes, self.predictor = encoder, decoder, predictor
        self.speaker_dim, self.learnt_std, self.blanks, self.rounding = speaker_dim, learnt_std, blanks, rounding
        self.duration_weight, self.given_durations = duration_weight, given_durations
        self.max_piece_characters = max_piece_characters

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the symbols, speakers and mel statistics of the corpus."""
        super().build(facts)
        self.searches = not (self.given_durations and self.facts.given_durations)
        if self.blanks and not self.searches:
            message = (
                "model.blanks=true, and the data brings durations, which have none of blanks: "
                "set model.given_durations=false"
            )
            raise RecipeError(message, code="conflict", path="model.blanks", value=True)
        several = len(self.voice.speakers) > 1
        condition_dim = self.speaker_dim if several else 0
        dim, num_mels = self.encoder_sizes.dim, self.mel_spec.n_mels
        self.encoder = TextEncoder(len(self.voice.symbols) + self.blanks, self.encoder_sizes)
        self.prior = Prior(dim, num_mels, self.learnt_std)
        self.durations = TemporalPredictor(dim + condition_dim, self.predictor.dim, dropout=self.predictor.dropout)
        self.decoder = FlowDecoder(num_mels, self.decoder_sizes, condition_dim)
        self.speaker = nn.Embedding(len(self.voice.speakers), condition_dim) if several else None
        if self.speaker is not None:
            nn.init.uniform_(self.speaker.weight, -0.1, 0.1)

    def shard_units(self) -> list[nn.Module]:
        """Return what is gathered at a time: blocks of the encoder, couplings of the flow."""
        couplings = [layer for layer in self.decoder.flow.layers if any(True for _ in layer.children())]
        return [*self.encoder.layers, *couplings]

    # ---- the network ---------------------------------------------------------------------------

    def tokens(
        self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"]
    ) -> tuple[Int[Tensor, "b n"], Int[Tensor, " b"]]:
        """Return what the encoder reads: symbols, with a blank between two of them if there are blanks."""
        return interleaved(symbols, lengths, len(self.voice.symbols)) if self.blanks else (symbols, lengths)

    def condition(self, speaker: Int[Tensor, " b"]) -> Float[Tensor, "b g"] | None:
        """Return the speakers' vectors, of length 1; None where there is one speaker."""
        return None if self.speaker is None else F.normalize(self.speaker(speaker), dim=-1)

    def read(
        self, tokens: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"], condition: Float[Tensor, "b g"] | None
    ) -> tuple[Float[Tensor, "b n m"], Float[Tensor, "b n m"], Float[Tensor, "b n"]]:
        """Return means and log-deviations of the tokens' latents, and log(1 + duration).

        What predicts durations teaches the encoder nothing.
        """
        x = self.encoder(tokens, mask)
        mean, log_std = self.prior(x)
        heard = x.detach()
        if condition is not None:
            heard = torch.cat([heard, condition[:, None].expand(-1, x.shape[1], -1).to(x.dtype)], -1)
        return mean, log_std, self.durations(heard, mask)

    # ---- speaking ------------------------------------------------------------------------------

    def say(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], readings: Sequence[Reading]) -> Spoken:
        """Speak a padded batch of pieces; each has noise of its own, from its request's seed."""
        asked = self.asked(readings, symbols.shape[1])
        tokens, token_lengths = self.tokens(symbols, lengths)
        condition = self.condition(asked["speaker"])
        mean, log_std, log_duration = self.read(tokens, _inside(tokens, token_lengths), condition)
        predicted = durations_from_log(log_duration, self.predictor.max_frames_per_symbol)
        pace = asked["pace"].to(predicted.device)
        pace = for_both(pace) if self.blanks else pace
        durations = round_durations(predicted, token_lengths, method=self.rounding, speed=pace)
        heard = held_durations(self._of_symbols(durations), readings)
        lie = Alignment.from_durations(apart(durations, heard) if self.blanks else heard, token_lengths)
        temperature = torch.tensor([reading.request.temperature for reading in readings], device=self.device)
        noise = self.noise(readings, self.decoder.whole(lie.tgt_lengths).tolist(), self.mel_spec.n_mels)
        mel = self.sample(mean, log_std, lie, temperature, condition, noise)
        return Spoken(mel * self.mel_std + self.mel_mean, Alignment.from_durations(heard, lengths))

    def sample(
        self,
        mean: Float[Tensor, "b n m"],
        log_std: Float[Tensor, "b n m"],
        alignment: Alignment,
        temperature: Float[Tensor, " b"],
        condition: Float[Tensor, "b g"] | None,
        noise: Float[Tensor, "b w m"],
    ) -> Float[Tensor, "b t m"]:
        """Return standardised mels of latents that are drawn around the means of the tokens on their frames."""
        frames = alignment.tgt_lengths
        centre = self.decoder.fill(alignment.expand(mean), frames, None)
        std = self.decoder.fill(alignment.expand(log_std), frames, None).exp()
        z = centre + temperature[:, None, None] * std * noise
        mel = self.decoder.inverse(z, self.decoder.whole(frames), condition)
        return mel[:, : alignment.tgt_mask.shape[1]] * alignment.tgt_mask[..., None]

    def _of_symbols(self, durations: Int[Tensor, "b n"]) -> Int[Tensor, "b s"]:
        return of_symbols(durations) if self.blanks else durations

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the negative log-likelihood, in nats per channel and frame, and the error of the log-durations."""
        fitted = self.fit(batch, [torch.Generator().manual_seed(seed) for seed in self.row_seeds(batch)])
        alignment, num_mels = fitted.alignment, fitted.latents.shape[2]
        frames = alignment.tgt_lengths
        whole = self.decoder.whole(frames)
        centre = self.decoder.fill(alignment.expand(fitted.mean), frames, None)
        log_std = self.decoder.fill(alignment.expand(fitted.log_std), frames, None)
        inside = _inside(fitted.latents, whole)
        likelihood = (gaussian_log_likelihood(fitted.latents, centre, log_std) * inside).sum(1) + fitted.log_det
        likelihood = likelihood + (whole - frames) * num_mels * FILL_ENTROPY
        per_frame = (likelihood / frames)[:, None].expand(-1, alignment.tgt_mask.shape[1])
        error = (fitted.log_duration - log_durations(alignment.durations)).square()
        parts = {
            "likelihood": -self.global_mean(per_frame, alignment.tgt_mask) / num_mels,
            "log_duration": self.duration_weight * self.global_mean(error, alignment.src_mask),
        }
        parts["loss"] = parts["likelihood"] + parts["log_duration"]
        if self.searches and not self.training and "durations" in batch:
            found = self._of_symbols(alignment.durations).cumsum(1)
            off = (found - batch["durations"].cumsum(1)).abs().float()
            parts["border_frames"] = self.global_mean(off, _inside(batch["symbols"], batch["symbol_lengths"]))
        return parts

    def fit(self, batch: dict[str, Any], generators: list[torch.Generator] | None) -> Fitted:
        """Return the recordings' latents, and the alignment under which they are likeliest, or that which the data
        brings. ``generators`` draw what odd lengths are filled up with and noise at the floor of mels; None for none.
        """
        frames = batch["mel_lengths"]
        target = (_off_the_floor(batch["mel"], frames, generators) - self.mel_mean) / self.mel_std
        tokens, token_lengths = self.tokens(batch["symbols"], batch["symbol_lengths"])
        condition = self.condition(batch["speaker"])
        mean, log_std, log_duration = self.read(tokens, _inside(tokens, token_lengths), condition)
        mel = self.decoder.fill(target, frames, generators)
        latents, log_det = self.decoder(mel, self.decoder.whole(frames), condition)
        if self.searches:
            scores = log_likelihoods(latents.detach(), mean.detach(), log_std.detach())[:, : target.shape[1]]
            durations = search(scores, token_lengths, frames, ids=batch["id"])
        else:
            durations = batch["durations"]
        alignment = Alignment.from_durations(durations, token_lengths, frames)
        return Fitted(latents, log_det, alignment, mean, log_std, log_duration)

    @torch.no_grad()
    def teacher_forced(self, batch: dict[str, Any]) -> list[Float[Tensor, "t m"]]:
        """Return log mels with the recordings' own durations, drawn at the default temperature, to tune a vocoder."""
        fitted = self.fit(batch, None)
        frames = self.decoder.whole(fitted.alignment.tgt_lengths).tolist()
        noise = torch.zeros(len(frames), max(frames), fitted.mean.shape[2])
        for row, (name, length) in enumerate(zip(batch["id"], frames, strict=True)):
            generator = torch.Generator().manual_seed(derive_seed(self.salt, name))
            noise[row, :length] = torch.randn(length, noise.shape[2], generator=generator)
        temperature = torch.full((len(frames),), self.Request.model_fields["temperature"].default, device=self.device)
        mel = self.sample(
            fitted.mean, fitted.log_std, fitted.alignment, temperature, self.condition(batch["speaker"]),
            noise.to(self.device),
        )  # fmt: skip
        mel = mel * self.mel_std + self.mel_mean
        return [row[:length] for row, length in zip(mel, batch["mel_lengths"].tolist(), strict=True)]


def _inside(x: Tensor, lengths: Int[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    return torch.arange(x.shape[1], device=x.device) < lengths[:, None]


def _off_the_floor(
    mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"], generators: list[torch.Generator] | None
) -> Float[Tensor, "b t m"]:
    """Return log mels with noise where they are at their floor: of a constant, likelihood would grow without bound."""
    low = (mel <= math.log(LOG_FLOOR) + 0.01) & _inside(mel, lengths)[..., None]
    if generators is None or not low.any():
        return mel
    noise = torch.zeros(mel.shape, dtype=mel.dtype)
    for row in low.flatten(1).any(1).nonzero()[:, 0].tolist():
        length = int(lengths[row])
        noise[row, :length] = torch.randn(length, mel.shape[2], generator=generators[row])
    return torch.where(low, mel + FLOOR_SPREAD * noise.to(mel), mel)
