"""Hum: a text to tones, all at once.

Shapes: b batch, s letters, t frames, n samples, d channels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from unisono import Audio, Model, Request, Segment
from unisono.duration import Alignment, durations_from_log, log_durations, round_durations
from unisono.errors import RequestError
from unisono.model import OnStep

from unisono_hum.data import HumFacts


class HumRequest(Request):
    """What can be asked of a hummer."""

    text: str = Field(min_length=1, description="what to hum; letters that it knows")
    pace: float = Field(default=1.0, ge=0.25, le=4.0, description="speed: 2 is twice as fast")


class Hum(Model):
    """::

        letters ─ embedding ─ conv ─┬─ log duration ─ round ──┐
                                    └─ log hertz ─ repeat ────┴─ sine

    Args:
        dim: channels.
    """

    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[HumFacts]] = HumFacts
    facts: HumFacts
    Request: ClassVar[type[HumRequest]] = HumRequest
    deterministic: ClassVar[bool] = True  # nothing is drawn, so that a seed changes nothing

    def __init__(self, dim: int = 32):
        super().__init__()
        self.dim = dim

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the letters, frame length and rate of the corpus."""
        super().build(facts)
        self.letters, self.sample_rate, self.hop = self.facts.letters, self.facts.sample_rate, self.facts.hop
        self.embedding = nn.Embedding(len(self.letters), self.dim)
        self.conv = nn.Conv1d(self.dim, self.dim, kernel_size=3, padding=1)
        self.heads = nn.Linear(self.dim, 2)

    def predict(
        self, letters: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b s"], Float[Tensor, "b s"]]:
        """Return log durations, as log(1 + frames), and log frequencies relative to 220 Hz."""
        x = self.embedding(letters) * mask[..., None]
        log_duration, log_hz = self.heads(self.conv(x.mT).mT.relu()).unbind(-1)
        return log_duration, log_hz

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        mask = batch["durations"] > 0
        log_duration, log_hz = self.predict(batch["letters"], mask)
        duration = self.global_mean((log_duration - log_durations(batch["durations"])).square(), mask)
        pitch = self.global_mean((log_hz - batch["log_hz"]).square(), mask)
        return {"loss": duration + pitch, "duration": duration, "pitch": pitch}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"letters": int((batch["durations"] > 0).sum())}

    def synthesize(
        self,
        requests: Sequence[HumRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Audio]:
        """Hum each text."""
        rows = [torch.tensor([self._index(letter) for letter in request.text]) for request in requests]
        lengths = torch.tensor([len(row) for row in rows])
        letters = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        mask = torch.arange(letters.shape[1]) < lengths[:, None]
        log_duration, log_hz = (out.cpu() for out in self.predict(letters, mask.to(self.device)))
        pace = torch.tensor([request.pace for request in requests])
        durations = round_durations(durations_from_log(log_duration, 100), lengths, speed=pace, min_frames=1)
        alignment = Alignment.from_durations(durations, lengths)
        hz = 220 * alignment.expand(log_hz.double().exp()) * alignment.tgt_mask
        phase = (2 * math.pi / self.sample_rate * hz.repeat_interleave(self.hop, dim=1)).cumsum(1)
        waves = 0.2 * phase.sin().float().numpy()
        if on_step is not None:
            on_step(1, 1)
        ends = (alignment.ends.double() * self.hop / self.sample_rate).tolist()
        return [
            Audio(
                wave[None, : frames * self.hop],
                self.sample_rate,
                tuple(map(Segment, request.text, [0.0, *row], row)),
            )
            for wave, frames, request, row in zip(waves, alignment.tgt_lengths.tolist(), requests, ends, strict=True)
        ]

    def preview_requests(self) -> list[HumRequest]:
        return [self.Request(text=text) for text in ("la", "hum along")]

    def _index(self, letter: str) -> int:
        if letter not in self.letters:
            message = f"text holds {letter!r}: use only {self.letters!r}"
            raise RequestError(message, code="value", path="text", value=letter)
        return self.letters.index(letter)
