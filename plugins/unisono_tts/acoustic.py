"""Acoustic models: what every model of a voice that says mels has, whatever network stands behind it.

`AcousticModel` reads requests, speaks and streams them piece by piece, and has a vocoder; a subclass gives ``say``.
Those that learn durations by an aligner stand on ``unisono_tts.learning``.

Shapes: b batch, s symbols, t frames, m mel bins. Durations are in frames; 0 on padding.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono import Audio, Model
from unisono.duration import Alignment, round_durations
from unisono.errors import RequestError
from unisono.model import OnStep
from unisono.seeds import MAX_SEED
from unisono_sound.vocoder import check_vocoder
from unisono_sound.voice import MarkedRequest, Reading, SpeechRequest, Voice

from unisono_tts.facts import VoiceFacts
from unisono_tts.speaking import held_durations, speak
from unisono_tts.streaming import stream

Asked = dict[str, Tensor]
"""What readings ask for, by name: ``speaker`` [b], ``pace`` [b, s] and a model's own; numbers in float64."""

DRAWN_TOGETHER = 16
"""Normal numbers that torch makes at once; of a rest that is fewer it makes other ones."""


@dataclass
class Spoken:
    """What the network says: ``mel`` [b, t, m] (natural log), how symbols lie on frames, and per-symbol tracks."""

    mel: Float[Tensor, "b t m"]
    alignment: Alignment
    tracks: dict[str, Float[Tensor, "b s"]] = field(default_factory=dict)


class AcousticModel(Model):
    """A model of a voice that says mels; the longest piece of a text that it says at once is ``max_piece_characters``.

    A subclass gives ``say`` and ``losses``, sets ``max_piece_characters``, and builds its network in ``build``, after
    this class' has read the facts: ``voice``, ``mel_spec``, and the buffers ``mel_mean`` and ``mel_std``.
    """

    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[VoiceFacts]] = VoiceFacts
    facts: VoiceFacts
    source_facts: ClassVar[tuple[str, ...]] = ("symbols", "mel_spec")
    Request: ClassVar[type[SpeechRequest]] = MarkedRequest
    choices: ClassVar[dict[str, str]] = {"speaker": "speakers"}
    pipeline_tag: ClassVar[str] = "text-to-speech"
    roles: ClassVar[dict[str, str]] = {"vocoder": "turns log mels into sound"}
    builtin_components: ClassVar[dict[str, str]] = {"griffin-lim": "unisono_tts.speaking:griffin_lim"}

    mel_mean: Tensor
    mel_std: Tensor
    max_piece_characters: int
    bends: ClassVar[bool] = False
    """Whether each symbol's pitch can be changed."""
    deterministic: ClassVar[bool] = True
    streams_the_whole: ClassVar[bool] = False  # the first piece of a stream is a short one, so texts are cut elsewhere

    def build(self, facts: Mapping[str, Any]) -> None:
        """Read the symbols, speakers and mel statistics of the corpus; the subclass builds its network."""
        super().build(facts)
        self.voice = Voice.from_facts(self.facts)
        self.mel_spec = self.facts.mel_spec
        self.register_buffer("mel_mean", torch.tensor(self.facts.mel_mean), persistent=False)
        self.register_buffer("mel_std", torch.tensor(self.facts.mel_std), persistent=False)

    def say(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], readings: Sequence[Reading]) -> Spoken:
        """Speak a padded batch of pieces, each as if alone."""
        raise TypeError(f"{type(self).__name__} defines no say()")

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

    def lay(
        self,
        predicted: Float[Tensor, "b s"],
        lengths: Int[Tensor, " b"],
        asked: Asked,
        readings: Sequence[Reading],
    ) -> Alignment:
        """Return how symbols lie on frames: predicted frames at each symbol's pace, rounded so that the whole keeps its
        length, and those that are asked for as they are."""
        durations = round_durations(predicted, lengths, speed=asked["pace"])
        return Alignment.from_durations(held_durations(durations, readings), lengths)

    def noise(self, readings: Sequence[Reading], lengths: Sequence[int], width: int) -> Float[Tensor, "b t width"]:
        """Return standard normal noise for a model that samples, 0 beyond an item's length.

        An item's depends on its request's seed and its symbols alone, not on who shares the batch; a longer item of the
        same symbols begins like a shorter one.
        """
        result = torch.zeros(len(readings), max(lengths, default=0), width)
        for row, (reading, length) in enumerate(zip(readings, lengths, strict=True)):
            piece = zlib.crc32(torch.tensor(reading.ids, dtype=torch.int32).numpy().tobytes())
            generator = torch.Generator().manual_seed((reading.request.seed + (piece << 20)) & MAX_SEED)
            drawn = torch.randn(length * width + -length * width % DRAWN_TOGETHER, generator=generator)
            result[row, :length] = drawn[: length * width].unflatten(0, (length, width))
        return result.to(self.device)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["mel_lengths"].sum())}

    @property
    def vocoder(self) -> Any:
        """The component that turns mels into sound."""
        return self.component("vocoder")

    def attach(self, role: str, component: Any) -> None:
        check_vocoder(self.mel_spec, component)
        super().attach(role, component)

    def synthesize(
        self,
        requests: Sequence[SpeechRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Audio]:
        return speak(self, [self.seeded(request, generator) for request in requests], on_step)

    def stream(self, request: SpeechRequest, generator: torch.Generator | None = None) -> Iterator[Audio]:
        return stream(self, self.seeded(request, generator))

    def seeded(self, request: SpeechRequest, generator: torch.Generator | None) -> SpeechRequest:
        """Return a request with the seed that a generator gives it, where there is one and the model draws."""
        if generator is None or self.deterministic:
            return request
        return request.model_copy(update={"seed": self.seed_of(request, generator)})

    def preview_requests(self) -> list[SpeechRequest]:
        texts = self.facts.sample_texts[:3]
        return [self.Request(text=text, speaker=name) for text in texts for name in self.voice.speakers[:2]]
