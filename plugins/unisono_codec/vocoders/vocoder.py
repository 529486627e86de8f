"""Vocoder: what every vocoder of this plugin can be asked, whatever network stands behind it.

A vocoder is a component for any model that says mels: ``mel_spec`` names the spectrogram, ``decode`` turns whole
ones into waveforms, ``decode_stream`` pieces of one. By itself it resynthesises recordings.

Shapes: b batch, t frames, n samples (t · hop), m mel bins.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RequestError
from unisono.media import Audio
from unisono.model import Model, OnStep
from unisono.request import Request, file_of
from unisono_sound.corpus import AudioFacts
from unisono_sound.precision import check_precision
from unisono_sound.signal import AUDIO_SUFFIXES, LogMel, read_audio
from unisono_sound.signal.mel import LOG_FLOOR

SILENCE = math.log(LOG_FLOOR)
"""The log mel of digital silence."""


class Vocoder(Model):
    """The base of vocoders: a subclass sets ``net`` in ``build``, and trains it."""

    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[AudioFacts]] = AudioFacts
    facts: AudioFacts
    source_facts: ClassVar[tuple[str, ...]] = ("mel_spec",)
    net: Any
    """The network; open, so that each vocoder states its own kind. ``stream`` is its own."""
    text_field: ClassVar[str] = "audio"
    pipeline_tag: ClassVar[str] = "audio-to-audio"
    deterministic: ClassVar[bool] = True

    class Request(Request):
        """A recording to analyse and resynthesise, or a log mel spectrogram."""

        audio: str | None = Field(
            default=None, description="path of a recording to resynthesise", json_schema_extra=file_of(*AUDIO_SUFFIXES)
        )
        mel: Annotated[
            list[list[float]] | None,
            BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x),
        ] = Field(default=None, description="natural-log mel spectrogram, frames by bins, to turn into sound")

        @model_validator(mode="after")
        def _one_source(self):
            if (self.audio is None) == (self.mel is None):
                raise ValueError("give either audio, a path, or mel, a list of frames")
            return self

    def __init__(self):
        super().__init__()
        self._previews: list[Vocoder.Request] = []

    def build(self, facts: Mapping[str, Any]) -> None:
        """Read what spectrogram this is for, ``facts.mel_spec``; the subclass builds the network."""
        super().build(facts)
        self.mel_spec = self.facts.mel_spec
        self.log_mel = LogMel(self.mel_spec)

    # ---- as a vocoder --------------------------------------------------------------------------

    def decode(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b n"]:
        """Turn log mel spectrograms into waveforms of ``t · hop`` samples.

        ``lengths`` are frames; an item's samples do not depend on what stands beyond them, and are
        zero there.
        """
        check_precision(self)
        return self.net(mel, lengths)

    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Turn mel chunks [b, t, m] of any t into waves [b, n] that join up to ``decode``.

        Output lags ``net.context`` frames behind, which is all that the network sees ahead. Each
        chunk costs twice as many frames on top: prefer chunks longer than that.
        """
        check_precision(self)
        return self.net.stream(chunks)

    @torch.no_grad()
    def synthesize(
        self,
        requests: Sequence["Vocoder.Request"],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Audio]:
        """Resynthesise each request's recording, or speak its spectrogram."""
        check_precision(self)
        mels = [self._mel(request) for request in requests]
        lengths = torch.tensor([len(mel) for mel in mels], device=self.device)
        padded = nn.utils.rnn.pad_sequence(mels, batch_first=True, padding_value=SILENCE)
        waves = self.speak(padded, lengths, requests, generator).float().cpu()
        if on_step is not None:
            on_step(1, 1)
        hop, rate = self.mel_spec.hop_length, self.mel_spec.sample_rate
        return [
            Audio(wave[None, : length * hop].numpy(), rate)
            for wave, length in zip(waves, lengths.tolist(), strict=True)
        ]

    def speak(
        self,
        mel: Float[Tensor, "b t m"],
        lengths: Int[Tensor, "b"],
        requests: Sequence["Vocoder.Request"],
        generator: torch.Generator | None,
    ) -> Float[Tensor, "b n"]:
        """Decode the requests' mels; a vocoder that draws overrides this, all others are deterministic."""
        return self.decode(mel, lengths)

    def _mel(self, request: "Vocoder.Request") -> Float[Tensor, "t m"]:
        if request.mel is not None:
            widths = {len(frame) for frame in request.mel}
            if widths != {self.mel_spec.n_mels}:
                message = (
                    f"mel has frames of {sorted(widths)} bins: give at least one frame, "
                    f"each of {self.mel_spec.n_mels} bins"
                )
                raise RequestError(message, code="shape", path="mel", value=sorted(widths))
            return torch.tensor(request.mel, device=self.device)
        assert request.audio is not None  # a request holds one of both
        wave, _ = read_audio(request.audio, self.mel_spec.sample_rate)
        wave = wave.to(self.device)
        hop, needed = self.mel_spec.hop_length, self.mel_spec.n_fft
        if len(wave) < needed:
            wave = F.pad(wave, (0, needed - len(wave)))
        return self.log_mel(wave[None, : len(wave) // hop * hop])[0]

    def preview_requests(self) -> list["Vocoder.Request"]:
        """Two excerpts of the validation data; before any validation, a gliding buzz, long and short."""
        if self._previews:
            return self._previews
        seconds = torch.arange(self.mel_spec.sample_rate) / self.mel_spec.sample_rate
        phase = 2 * math.pi * (110 * seconds + 55 * seconds.square())
        buzz = sum((torch.sin(k * phase) / k for k in range(1, 12)), torch.zeros_like(phase)) * 0.1
        hop = self.mel_spec.hop_length
        wave = buzz[None, : len(buzz) // hop * hop].to(self.device)
        mel = self.log_mel(wave)[0].tolist()
        return [self.Request(mel=mel), self.Request(mel=mel[: len(mel) // 3])]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if batch_idx == 0:
            self._previews = [self.Request(mel=mel.tolist()) for mel in batch["mel"][:2]]
        super().validation_step(batch, batch_idx)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": batch["mel"].shape[0] * batch["mel"].shape[1]}
