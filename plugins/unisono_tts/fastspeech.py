"""FastSpeech: a spectrogram in one pass, its length from predicted durations.

Ren et al., "FastSpeech: Fast, Robust and Controllable Text to Speech" (arXiv:1905.09263). Defaults are the
published sizes. Differences: durations are learnt with the model by alignment (Badlani et al.,
arXiv:2108.10447) or come from files, instead of from an autoregressive teacher, and so the targets are the
recordings, not a teacher's spectrograms; durations are rounded cumulatively, so that rounding does not
change the pace; a speaker embedding is added to the encoder's input where there are several.

Shapes: b batch, s symbols, t frames, m mel bins, d channels. Durations are in frames; 0 on padding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import Audio, Model
from unisono.duration import (
    Aligner,
    Alignment,
    beta_binomial_prior,
    binarisation_loss,
    durations_from_log,
    forward_sum_loss,
    log_durations,
    ramp,
    round_durations,
    search,
)
from unisono.errors import CheckpointError, RequestError
from unisono.graphs import Graphs
from unisono.model import OnStep
from unisono.nn.fft import FFTStack
from unisono.nn.temporal import TemporalPredictor
from unisono_sound.voice import MarkedRequest, Reading, SpeechRequest, Voice

from unisono_tts.facts import VoiceFacts
from unisono_tts.sizes import FLAT, AlignerSchedule, NetworkSizes, Objective, PredictorSizes
from unisono_tts.speaking import check_vocoder, held_durations, speak
from unisono_tts.streaming import stream

Asked = dict[str, Tensor]
"""What readings ask for, by name: ``speaker`` [b], ``pace`` [b, s] and a model's own; numbers in float64."""


@dataclass
class Spoken:
    """What the network says: ``mel`` [b, t, m] (natural log), how symbols lie on frames, and per-symbol tracks."""

    mel: Float[Tensor, "b t m"]
    alignment: Alignment
    tracks: dict[str, Float[Tensor, "b s"]] = field(default_factory=dict)


class FastSpeech(Model):
    """Feed-forward text to speech.

    ::

        symbols ─ embedding ─ FFT × encoder_layers ─┬─ duration predictor ─ round ─┐
                      │                             └────────── repeat ────────────┴─ FFT × decoder_layers ─ mel
                      └─ aligner (training) ─ monotonic alignment search ─ durations

    Args:
        network, predictor: sizes of the transformer and of what predicts durations.
        objective: weights of the losses.
        aligner: how the alignment is learnt.
        max_piece_characters: longest piece of a text that is spoken at once.
    """

    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[VoiceFacts]] = VoiceFacts
    facts: VoiceFacts
    Request: ClassVar[type[SpeechRequest]] = MarkedRequest
    choices: ClassVar[dict[str, str]] = {"speaker": "speakers"}
    pipeline_tag: ClassVar[str] = "text-to-speech"
    roles: ClassVar[dict[str, str]] = {"vocoder": "turns log mels into sound"}
    builtin_components: ClassVar[dict[str, str]] = {"griffin-lim": "unisono_tts.speaking:griffin_lim"}
    training_only: ClassVar[tuple[str, ...]] = ("aligner.",)

    mel_mean: Tensor
    mel_std: Tensor
    bends: ClassVar[bool] = False
    """Whether each symbol's pitch can be changed."""
    flat: ClassVar[dict[str, str]] = FLAT
    deterministic: ClassVar[bool] = True
    streams_the_whole: ClassVar[bool] = False  # the first piece of a stream is a short one, so texts are cut elsewhere

    def __init__(
        self,
        *,
        network: NetworkSizes = NetworkSizes(),  # noqa: B008
        predictor: PredictorSizes = PredictorSizes(),  # noqa: B008
        objective: Objective = Objective(),  # noqa: B008
        aligner: AlignerSchedule = AlignerSchedule(),  # noqa: B008
        max_piece_characters: int = 220,
    ):
        super().__init__()
        self.network, self.predictor, self.schedule = network, predictor, aligner
        self.objective = objective
        self.max_piece_characters = max_piece_characters

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the symbols, speakers and mel statistics of the corpus."""
        super().build(facts)
        self.voice = Voice.from_facts(self.facts)
        self.mel_spec = self.facts.mel_spec
        self.register_buffer("mel_mean", torch.tensor(self.facts.mel_mean), persistent=False)
        self.register_buffer("mel_std", torch.tensor(self.facts.mel_std), persistent=False)
        dim = self.network.dim
        self.embedding = nn.Embedding(len(self.voice.symbols), dim)
        self.speaker = nn.Embedding(len(self.voice.speakers), dim) if len(self.voice.speakers) > 1 else None
        self.encoder = FFTStack(self.network.encoder_layers, self.network)
        self.durations = self.temporal_predictor()
        self.decoder = FFTStack(self.network.decoder_layers, self.network)
        self.to_mel = nn.Linear(dim, self.mel_spec.n_mels)
        given = self.facts.given_durations
        self.aligner = None if given else Aligner(dim, self.mel_spec.n_mels)

    def temporal_predictor(self) -> TemporalPredictor:
        """Make what predicts a number per symbol."""
        return TemporalPredictor(self.network.dim, self.predictor.dim, dropout=self.predictor.dropout)

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a voice of other symbols or another mel spectrogram."""
        for name in ("symbols", "mel_spec"):
            if facts.get(name) != self.facts[name]:
                message = (
                    f"run.init_from has {name}={facts.get(name)!s:.80}, the data has {self.facts[name]!s:.80}: "
                    "prepare the data with the same front end and mel spectrogram"
                )
                raise CheckpointError(message, code="conflict", path="run.init_from", value=name)

    # ---- the network ---------------------------------------------------------------------------

    def encode(
        self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"] | None, speaker: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s d"]]:
        """Return what the symbols mean in context, and their plain embeddings."""
        embedded = self.embedding(symbols)
        x = embedded if self.speaker is None else embedded + self.speaker(speaker)[:, None]
        return self.encoder(x, mask), embedded

    def adapt(
        self,
        x: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"] | None,
        targets: dict[str, Float[Tensor, "b s"]] | None,
        asked: Asked | None,
    ) -> tuple[Float[Tensor, "b s d"], dict[str, Float[Tensor, "b s"]]]:
        """Add what else is predicted per symbol; FastSpeech has nothing, FastPitch pitch and energy."""
        return x, {}

    def decode(self, x: Float[Tensor, "b s d"], alignment: Alignment) -> Float[Tensor, "b t m"]:
        """Repeat symbols over their frames and return the standardised mel."""
        frames = self.decoder(alignment.expand(x), alignment.tgt_mask)
        return self.to_mel(frames) * alignment.tgt_mask[..., None]

    def asked(self, readings: Sequence[Reading], num_symbols: int) -> Asked:
        """Return what readings ask for, as tensors; symbols beyond a reading's have pace 1.

        Raises ``RequestError`` where one asks for a pitch, which this model has not.
        """
        if not self.bends and (bent := [p for reading in readings for p in reading.pitch or () if p]):
            message = "this model has no pitch of its own to change: leave pitch and emphasis out of the markup"
            raise RequestError(message, code="unsupported", path="text", value=bent[0])
        pace = torch.ones(len(readings), num_symbols, dtype=torch.float64)
        for row, reading in enumerate(readings):
            pace[row, : len(reading.pace)] = torch.tensor(reading.pace, dtype=torch.float64)
        speaker = torch.tensor([reading.speaker for reading in readings])
        return {"speaker": speaker.to(self.mel_mean.device), "pace": pace}

    def plan(
        self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"] | None, asked: Asked
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s"], dict[str, Float[Tensor, "b s"]]]:
        """Return what the decoder reads, durations in frames before pace and rounding, and the tracks.

        ``mask`` is None where nothing is padding.
        """
        x, _ = self.encode(symbols, mask, asked["speaker"])
        frames = durations_from_log(self.durations(x, mask), self.predictor.max_frames_per_symbol)
        x, tracks = self.adapt(x, mask, None, asked)
        return x, frames, tracks

    def say(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], readings: Sequence[Reading]) -> Spoken:
        """Speak a padded batch of pieces: predicted durations, each symbol's own pace."""
        mask = torch.arange(symbols.shape[1], device=symbols.device) < lengths[:, None]
        asked = self.asked(readings, symbols.shape[1])
        x, predicted, tracks = self.plan(symbols, mask, asked)
        durations = held_durations(round_durations(predicted, lengths, speed=asked["pace"]), readings)
        alignment = Alignment.from_durations(durations, lengths)
        mel = self.decode(x, alignment) * self.mel_std + self.mel_mean
        return Spoken(mel, alignment, tracks)

    def graph_modules(self) -> Graphs:
        """Return the graphs ``speak``, and ``mel`` and the vocoder's ``wave`` apart; see ``graphs``."""
        from unisono_tts.graphs import speech_graphs

        return speech_graphs(self)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        target = (batch["mel"] - self.mel_mean) / self.mel_std
        symbol_lengths, mel_lengths = batch["symbol_lengths"], batch["mel_lengths"]
        if self.aligner is None:
            durations = batch["durations"]
        else:
            durations, aligning = self._align(batch, target)
            parts |= aligning
            if self.training and self.global_step < self.schedule.align_steps:
                resting = [p for n, p in self.named_parameters() if not n.startswith(("aligner.", "embedding."))]
                idle = reduce(add, [p.sum() for p in resting])
                parts["loss"] = (
                    reduce(add, list(parts.values())) + 0.0 * idle
                )  # all ranks see a gradient for every weight
                return parts
        alignment = Alignment.from_durations(durations, symbol_lengths, mel_lengths)
        spoken, predicted, targets = self.teach(batch, alignment)
        distance = F.mse_loss if self.objective.mel == "mse" else F.l1_loss
        parts["mel"] = self.global_mean(distance(spoken, target, reduction="none"), alignment.tgt_mask)
        for name, weight in self.predicted_weights().items():
            error = (predicted[name] - targets[name]).square()
            parts[name] = weight * self.global_mean(error, alignment.src_mask)
        parts["loss"] = reduce(add, list(parts.values()))
        return parts

    def predicted_weights(self) -> dict[str, float]:
        """Return what is predicted per symbol, and the weight of its squared error."""
        return {"log_duration": self.objective.duration_weight}

    def targets(self, batch: dict[str, Any], alignment: Alignment) -> dict[str, Float[Tensor, "b s"]]:
        """Return the per-symbol targets."""
        return {"log_duration": log_durations(alignment.durations)}

    def teach(
        self, batch: dict[str, Any], alignment: Alignment
    ) -> tuple[Float[Tensor, "b t m"], dict[str, Tensor], dict[str, Tensor]]:
        """Return the standardised mel for true durations (and tracks), the predictions, and their targets."""
        mask = alignment.src_mask
        targets = self.targets(batch, alignment)
        x, _ = self.encode(batch["symbols"], mask, batch["speaker"])
        log_duration = self.durations(x, mask)
        x, predicted = self.adapt(x, mask, targets, None)
        return self.decode(x, alignment), {"log_duration": log_duration, **predicted}, targets

    @torch.no_grad()
    def teacher_forced(self, batch: dict[str, Any]) -> list[Float[Tensor, "t m"]]:
        """Return log mels with the recordings' own durations, pitch and energy, to tune a vocoder on."""
        target = (batch["mel"] - self.mel_mean) / self.mel_std
        durations = batch["durations"] if self.aligner is None else self._align(batch, target)[0]
        alignment = Alignment.from_durations(durations, batch["symbol_lengths"], batch["mel_lengths"])
        mel = self.teach(batch, alignment)[0] * self.mel_std + self.mel_mean
        return [row[:length] for row, length in zip(mel, batch["mel_lengths"].tolist(), strict=True)]

    def _align(self, batch: dict[str, Any], mel: Tensor) -> tuple[Int[Tensor, "b s"], dict[str, Tensor]]:
        symbol_lengths, mel_lengths, ids = batch["symbol_lengths"], batch["mel_lengths"], batch["id"]
        prior = beta_binomial_prior(symbol_lengths, mel_lengths)
        if self.schedule.prior_steps:
            prior = prior * (1 - ramp(self.global_step, 0, self.schedule.prior_steps) if self.training else 0.0)
        assert self.aligner is not None  # durations are learnt
        log_attn = self.aligner(self.embedding(batch["symbols"]), mel, symbol_lengths, mel_lengths, prior)
        durations = search(log_attn.detach(), symbol_lengths, mel_lengths, ids=ids)
        everyone = torch.ones_like(symbol_lengths, dtype=torch.bool)
        total = forward_sum_loss(log_attn, symbol_lengths, mel_lengths, reduction="none", ids=ids)
        parts = {"align": self.objective.align_weight * self.global_mean(total, everyone)}
        strength = ramp(self.global_step, self.schedule.binarise_start, self.schedule.binarise_steps)
        if strength > 0:
            hard = binarisation_loss(log_attn, durations, symbol_lengths, mel_lengths, reduction="none")
            parts["binarise"] = self.objective.align_weight * strength * self.global_mean(hard, everyone)
        return durations, parts

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self)

        def factor(step: int) -> float:
            if step < self.schedule.align_steps:
                return self.optim.factor(step, 2**31)
            return self.optim.factor(step - self.schedule.align_steps, self.total_steps - self.schedule.align_steps)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["mel_lengths"].sum())}

    # ---- speaking ------------------------------------------------------------------------------

    @property
    def vocoder(self) -> Any:
        """The component that turns mels into sound."""
        return self.component("vocoder")

    def attach(self, role: str, component: Any) -> None:
        check_vocoder(self.facts, component)
        super().attach(role, component)

    def synthesize(
        self,
        requests: Sequence[SpeechRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Audio]:
        return speak(self, requests, on_step)

    def stream(self, request: SpeechRequest, generator: torch.Generator | None = None) -> Iterator[Audio]:
        return stream(self, request)

    def preview_requests(self) -> list[SpeechRequest]:
        texts = self.facts.sample_texts[:3]
        return [self.Request(text=text, speaker=name) for text in texts for name in self.voice.speakers[:2]]
