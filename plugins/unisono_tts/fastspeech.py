"""FastSpeech: a spectrogram in one pass, its length from predicted durations.

Ren et al., "FastSpeech: Fast, Robust and Controllable Text to Speech" (arXiv:1905.09263). Defaults are the
published sizes. Differences: durations are learnt with the model by alignment (Badlani et al.,
arXiv:2108.10447) or come from files, instead of from an autoregressive teacher, and so the targets are the
recordings, not a teacher's spectrograms; durations are rounded cumulatively, so that rounding does not
change the pace; a speaker embedding is added to the encoder's input where there are several.

Shapes: b batch, s symbols, t frames, m mel bins, d channels. Durations are in frames; 0 on padding.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.duration import Alignment, durations_from_log, log_durations
from unisono.graphs import Graphs
from unisono.nn.fft import FFTStack
from unisono.nn.temporal import TemporalPredictor
from unisono_sound.voice import Reading

from unisono_tts.acoustic import Asked, Spoken
from unisono_tts.learning import LearnsAlignment
from unisono_tts.sizes import FLAT, AlignerSchedule, NetworkSizes, Objective, PredictorSizes


class FastSpeech(LearnsAlignment):
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

    flat: ClassVar[dict[str, str]] = FLAT

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
        self.objective, self.align_weight = objective, objective.align_weight
        self.max_piece_characters = max_piece_characters

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the symbols, speakers and mel statistics of the corpus."""
        super().build(facts)
        dim = self.network.dim
        self.embedding = nn.Embedding(len(self.voice.symbols), dim)
        self.speaker = nn.Embedding(len(self.voice.speakers), dim) if len(self.voice.speakers) > 1 else None
        self.encoder = FFTStack(self.network.encoder_layers, self.network)
        self.durations = self.temporal_predictor()
        self.decoder = FFTStack(self.network.decoder_layers, self.network)
        self.to_mel = nn.Linear(dim, self.mel_spec.n_mels)
        self.build_aligner(dim)

    def temporal_predictor(self) -> TemporalPredictor:
        """Make what predicts a number per symbol."""
        return TemporalPredictor(self.network.dim, self.predictor.dim, dropout=self.predictor.dropout)

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
        alignment = self.lay(predicted, lengths, asked, readings)
        mel = self.decode(x, alignment) * self.mel_std + self.mel_mean
        return Spoken(mel, alignment, tracks)

    def graph_modules(self) -> Graphs:
        """Return the graphs ``speak``, and ``mel`` and the vocoder's ``wave`` apart; see ``graphs``."""
        from unisono_tts.graphs import speech_graphs

        return speech_graphs(self)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        target = (batch["mel"] - self.mel_mean) / self.mel_std
        durations, parts = self.align(batch, self.embedding(batch["symbols"]), target)
        if self.aligning:
            return {**parts, "loss": reduce(add, list(parts.values())) + self.idle()}
        alignment = Alignment.from_durations(durations, batch["symbol_lengths"], batch["mel_lengths"])
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
        durations, _ = self.align(batch, self.embedding(batch["symbols"]), target)
        alignment = Alignment.from_durations(durations, batch["symbol_lengths"], batch["mel_lengths"])
        mel = self.teach(batch, alignment)[0] * self.mel_std + self.mel_mean
        return [row[:length] for row, length in zip(mel, batch["mel_lengths"].tolist(), strict=True)]
