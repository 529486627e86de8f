"""FastPitch: FastSpeech with pitch and energy predicted per symbol, and so under control.

Łańcucki, "FastPitch: Parallel Text-to-Speech with Pitch Prediction" (arXiv:2006.06873), in its second
version, which learns its own alignment (arXiv:2108.10447) and adds energy. Defaults are the published sizes.

Differences: pitch is the logarithm of F0, standardised by speaker, so that a shift in semitones is one
addition; symbols without voice take the pitch interpolated between their neighbours, where the published
code gives them zero, which is also the mean.

Shapes: b batch, s symbols, t frames, d channels. Pitch targets are in Hz per frame, 0 where unvoiced.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from unisono.duration import Alignment, log_durations
from unisono_sound.signal import fill_gaps
from unisono_sound.voice import MarkedRequest, Reading

from unisono_tts.acoustic import Asked
from unisono_tts.fastspeech import FastSpeech
from unisono_tts.sizes import FLAT, AlignerSchedule, NetworkSizes, PitchObjective, PredictorSizes

SEMITONE = math.log(2) / 12
DECIBEL = math.log(10) / 20


class FastPitch(FastSpeech):
    """Feed-forward text to speech with pitch and energy.

    ::

        symbols ─ embedding ─ FFT ─┬─ duration predictor ─ round ───────────────────────────────────┐
                                   ├─ pitch predictor ─ conv ─(+)                                   │
                                   └──────────────────────────(+)─┬─ energy predictor ─ conv ─(+)   │
                                                                  └───────────────────────────(+)───┴ repeat ─ FFT ─ mel

    Args as FastSpeech's; ``objective`` has weights of pitch and energy too.
    """

    class Request(MarkedRequest):
        """What can be asked of a voice with pitch and energy."""

        pitch_shift: float = Field(default=0.0, ge=-12, le=12, description="higher or lower, in semitones")
        pitch_range: float = Field(default=1.0, ge=0, le=3, description="livelier or flatter: 0 is monotone")
        energy: float = Field(default=0.0, ge=-12, le=12, description="louder or softer voice, in decibels")

    text_field: ClassVar[str] = "text"
    bends: ClassVar[bool] = True
    flat: ClassVar[dict[str, str]] = FLAT | {name: f"objective.{name}" for name in ("pitch_weight", "energy_weight")}

    pitch_mean: Tensor
    pitch_std: Tensor
    energy_mean: Tensor
    energy_std: Tensor

    def __init__(
        self,
        *,
        network: NetworkSizes = NetworkSizes(num_heads=1, head_dim=64),  # noqa: B008
        predictor: PredictorSizes = PredictorSizes(max_frames_per_symbol=75),  # noqa: B008
        objective: PitchObjective = PitchObjective(),  # noqa: B008
        aligner: AlignerSchedule = AlignerSchedule(),  # noqa: B008
        max_piece_characters: int = 220,
    ):
        super().__init__(
            network=network,
            predictor=predictor,
            objective=objective,
            aligner=aligner,
            max_piece_characters=max_piece_characters,
        )
        self.pitch_weight, self.energy_weight = objective.pitch_weight, objective.energy_weight

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build also for the speakers' pitch and energy."""
        super().build(facts)
        for name in ("pitch", "energy"):
            for part in ("mean", "std"):
                known = getattr(self.facts, name)
                values = [getattr(known[speaker], part) for speaker in self.voice.speakers]
                self.register_buffer(f"{name}_{part}", torch.tensor(values), persistent=False)
        self.pitch = self.temporal_predictor()
        self.energy = self.temporal_predictor()
        self.pitch_in = nn.Conv1d(1, self.network.dim, 3, padding=1)
        self.energy_in = nn.Conv1d(1, self.network.dim, 3, padding=1)

    def asked(self, readings: Sequence[Reading], num_symbols: int) -> Asked:
        requests = [reading.request for reading in readings]
        asked = super().asked(readings, num_symbols)
        for name in ("pitch_shift", "pitch_range", "energy"):
            asked[name] = torch.tensor([getattr(request, name) for request in requests], dtype=torch.float64)
        if any(reading.pitch for reading in readings):
            bend = asked["symbol_pitch"] = torch.zeros(len(readings), num_symbols, dtype=torch.float64)
            for row, reading in enumerate(readings):
                bend[row, : len(reading.ids)] = torch.tensor(reading.pitch or [0.0] * len(reading.ids))
        return {name: value.to(self.pitch_std.device) for name, value in asked.items()}

    def adapt(
        self,
        x: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"] | None,
        targets: dict[str, Float[Tensor, "b s"]] | None,
        asked: Asked | None,
    ) -> tuple[Float[Tensor, "b s d"], dict[str, Float[Tensor, "b s"]]]:
        def kept(track: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
            return track if mask is None else track * mask

        pitch = self.pitch(x, mask)
        used = pitch if asked is None else self._pitch_asked(pitch, asked)
        x = x + self.pitch_in(kept(targets["pitch"] if targets else used)[:, None]).mT
        energy = self.energy(x, mask)
        loudness = energy if asked is None else self._energy_asked(energy, asked)
        x = x + self.energy_in(kept(targets["energy"] if targets else loudness)[:, None]).mT
        if asked is None:
            return x, {"pitch": pitch, "energy": energy}
        speaker = asked["speaker"]
        hz = (used * self.pitch_std[speaker][:, None] + self.pitch_mean[speaker][:, None]).exp()
        norm = (loudness * self.energy_std[speaker][:, None] + self.energy_mean[speaker][:, None]).expm1()
        return x, {"pitch": hz, "energy": norm.clamp(min=1e-3).log() / DECIBEL}

    def _pitch_asked(self, pitch: Float[Tensor, "b s"], asked: Asked) -> Float[Tensor, "b s"]:
        shift, std = (asked["pitch_shift"].double() * SEMITONE).float(), self.pitch_std[asked["speaker"]]
        shifted = pitch * asked["pitch_range"].float()[:, None] + (shift / std)[:, None]
        if "symbol_pitch" not in asked:
            return shifted
        return shifted + (asked["symbol_pitch"] * SEMITONE).float() / std[:, None]

    def _energy_asked(self, energy: Float[Tensor, "b s"], asked: Asked) -> Float[Tensor, "b s"]:
        gain = (asked["energy"].double() * DECIBEL).float().exp()
        speaker = asked["speaker"]
        mean, std = self.energy_mean[speaker][:, None], self.energy_std[speaker][:, None]
        norm = (energy * std + mean).expm1().clamp(min=0)
        return ((norm * gain[:, None]).log1p() - mean) / std

    def predicted_weights(self) -> dict[str, float]:
        return {**super().predicted_weights(), "pitch": self.pitch_weight, "energy": self.energy_weight}

    def targets(self, batch: dict[str, Any], alignment: Alignment) -> dict[str, Float[Tensor, "b s"]]:
        """Voiced log-pitch and the logarithm of the energy, averaged over each symbol's frames, by speaker."""
        mask, speaker = alignment.src_mask, batch["speaker"]
        voiced = batch["pitch"] > 0
        log_pitch = batch["pitch"].clamp(min=1.0).log()
        shares = alignment.pool(voiced.float(), "mean")
        mean = alignment.pool(log_pitch * voiced, "sum") / alignment.pool(voiced.float(), "sum").clamp(min=1.0)
        pitch = (mean - self.pitch_mean[speaker][:, None]) / self.pitch_std[speaker][:, None]
        energy = alignment.pool(batch["energy"], "mean").log1p()
        energy = (energy - self.energy_mean[speaker][:, None]) / self.energy_std[speaker][:, None]
        return {
            "log_duration": log_durations(alignment.durations),
            "pitch": fill_gaps(pitch, (shares > 0) & mask) * mask,
            "energy": energy * mask,
        }
