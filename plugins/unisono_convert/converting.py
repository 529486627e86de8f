"""Converting: what models of conversion share: from a sound of any length and rate to the same in another voice.

::

    file, samples ─ mono ─ level ─ resampled ─ pieces ─ log mel ─ convert ─ log mel ─ vocoder ─ joined ─ resampled
                                                          │          └ voice: a name, or a prompt
                                                          └ silent pieces stay silence

What comes out has as many samples as what went in, at its rate and at its level; so every word stays where it was.
Pieces are converted one after the other, so that the memory of a stream does not grow with the sound.

Shapes: n samples, t mel frames, m mel channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from unisono import Audio, Model
from unisono.batching import Progress
from unisono.errors import RequestError, did_you_mean
from unisono.model import OnStep
from unisono.recipe import data_of
from unisono.stopping import may_stop
from unisono_sound.corpus import SoundOptions
from unisono_sound.measure import Listener
from unisono_sound.precision import check_precision
from unisono_sound.signal import LogMel
from unisono_sound.vocoder import Vocoder, check_vocoder

from unisono_convert.corpus.facts import ConversionFacts
from unisono_convert.prompts import buzz, prompt_of
from unisono_convert.request import ConversionRequest
from unisono_convert.sound import loudness, pieces, resampled, source_of
from unisono_convert.vocoding import Joining

__all__ = ["Converter"]

LONGEST_SECONDS, SHORTEST_SECONDS = 20.0, 3.0
"""Of the pieces that are converted at once: as the longest training recording, between these."""
SILENT_DBFS, FAINTER_DB = -70.0, 50.0
"""A piece whose loudest 20 ms are below this, or so much below the sound's loudest, is silent."""
Voice = Float[Tensor, "1 e"]


class Converter(Model):
    """The base of models that convert: ``voice_named``, ``voice_heard`` and ``convert`` are a model's own."""

    Request: ClassVar[type[ConversionRequest]] = ConversionRequest
    Media: ClassVar[type[Audio]] = Audio
    Facts: ClassVar[type[ConversionFacts]] = ConversionFacts
    facts: ConversionFacts
    source_facts: ClassVar[tuple[str, ...]] = ("speakers", "mel_spec")
    text_field: ClassVar[str] = "audio"
    choices: ClassVar[dict[str, str]] = {"speaker": "speakers"}
    pipeline_tag: ClassVar[str] = "audio-to-audio"
    deterministic: ClassVar[bool] = True
    roles: ClassVar[dict[str, str]] = {
        "vocoder": "turns log mels into sound",
        "listener": "tells who speaks and which word it is; evaluation of single words needs it",
    }
    component_kinds: ClassVar[dict[str, Any]] = {"listener": Listener}
    builtin_components: ClassVar[dict[str, str]] = {"griffin-lim": "unisono_convert.vocoding:griffin_lim"}

    mel_mean: Tensor
    mel_std: Tensor

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the speakers and the mel statistics of the corpus."""
        super().build(facts)
        self.mel_spec = self.facts.mel_spec
        self.log_mel = LogMel(self.mel_spec)
        self.register_buffer("mel_mean", torch.tensor(self.facts.mel.mean), persistent=False)
        self.register_buffer("mel_std", torch.tensor(self.facts.mel.std).clamp(min=1e-3), persistent=False)

    # ---- what a model defines ------------------------------------------------------------------

    def voice_named(self, speaker: int, generator: torch.Generator) -> Voice:
        """Return the voice of a speaker of the training data; where a voice is drawn, by the generator."""
        raise TypeError(f"{type(self).__name__} defines no voice_named()")

    def voice_heard(self, mel: Float[Tensor, "1 t m"]) -> Voice:
        """Return the voice of a recording, from its standardised mel."""
        raise TypeError(f"{type(self).__name__} defines no voice_heard()")

    def convert(self, mel: Float[Tensor, "1 t m"], voice: Voice, wave: Float[Tensor, "n"]) -> Float[Tensor, "1 t m"]:
        """Convert a standardised mel; ``wave`` is what it was made of, t whole hops."""
        raise TypeError(f"{type(self).__name__} defines no convert()")

    # ---- components ----------------------------------------------------------------------------

    def attach(self, role: str, component: Any) -> None:
        self.check_component(role, component)
        if role == "vocoder":
            check_vocoder(self.mel_spec, component)
        super().attach(role, component)

    @property
    def vocoder(self) -> Vocoder:
        """The attached vocoder."""
        return self.component("vocoder")

    # ---- voices --------------------------------------------------------------------------------

    def standardised(self, mel: Float[Tensor, "*b t m"]) -> Float[Tensor, "*b t m"]:
        """Return a log mel with mean 0 and deviation 1 in each channel, over the training data."""
        return (mel - self.mel_mean) / self.mel_std

    def voice(self, request: ConversionRequest, generator: torch.Generator | None = None) -> Voice:
        """Return the voice that a request asks for; raises ``RequestError``."""
        if request.speaker is not None:
            return self.voice_named(self.speaker_id(request.speaker), self.request_generator(request, generator))
        return self.voice_heard(self.standardised(self.prompt(request))[None])

    @property
    def named(self) -> tuple[str, ...]:
        """The speakers that can be asked for by name, in the order of their numbers."""
        return self.facts.speakers

    def speaker_id(self, name: str) -> int:
        """Return a speaker's number; raises ``RequestError`` for one that is not known."""
        known = list(self.named)
        if not known:
            message = "this model did not learn voices by name: give a prompt"
            raise RequestError(message, code="unsupported", path="speaker", value=name)
        if name not in known:
            message = f"unknown speaker {name!r}{did_you_mean(name, known)}; give a prompt for a new voice"
            raise RequestError(message, code="unknown", path="speaker", value=name)
        return known.index(name)

    @property
    def sound(self) -> SoundOptions:
        """How training recordings were trimmed and levelled."""
        options = data_of(self.recipe).get("sound") or {}
        return SoundOptions(**{**options, "loudness_dbfs": self.facts.loudness_dbfs})

    def prompt(self, request: ConversionRequest) -> Float[Tensor, "t m"]:
        """Return the log mel of a request's prompt, treated as training recordings were; raises ``RequestError``."""
        wave = prompt_of(request, self.mel_spec.sample_rate, self.sound)
        return self.log_mel(self._whole(wave)[None].to(self.device))[0]

    # ---- conversion ----------------------------------------------------------------------------

    @property
    def piece_seconds(self) -> float:
        """How long a piece of a sound is at most."""
        return min(max(self.facts.longest_seconds, SHORTEST_SECONDS), LONGEST_SECONDS)

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Audio]:
        """Yield a request's sound in the other voice, piece by piece; raises ``RequestError``."""
        check_precision(self)
        rate = self.mel_spec.sample_rate
        source = source_of(request.audio, request.samples, request.sample_rate or rate, "audio")
        told = loudness(source, self.facts.loudness_dbfs)
        voice = self.voice(request, generator)
        floor = max(10 ** (SILENT_DBFS / 10), told.loudest * 10 ** (-FAINTER_DB / 10))
        joining, left = Joining(self.vocoder), told.num_samples

        def made() -> Iterator[Float[np.ndarray, "n"]]:
            ready = resampled(source.blocks(), source.rate, rate)
            for piece in pieces(ready, rate, self.piece_seconds, self.mel_spec.hop_length):
                may_stop()
                silent = _loudest(piece.wave, rate) <= floor
                mel = None if silent else self._converted(piece.wave * told.gain, voice)
                yield joining.push(mel, len(piece.wave)).numpy() / told.gain
            yield joining.flush().numpy() / told.gain

        for block in resampled(made(), rate, source.rate):
            block = block[:left]  # a resampler may end some samples late
            left -= len(block)
            if len(block):
                yield Audio(block[None], source.rate)
        if left:
            yield Audio(np.zeros((1, left), np.float32), source.rate)

    def _converted(self, wave: Float[Tensor, "n"], voice: Voice) -> Float[Tensor, "t m"]:
        whole = self._whole(wave)
        mel = self.standardised(self.log_mel(whole[None].to(self.device)))
        return self.convert(mel, voice, whole)[0] * self.mel_std + self.mel_mean

    def _whole(self, wave: Float[Tensor, "n"]) -> Float[Tensor, "k"]:
        """Fill a wave up to whole hops, and to what a spectrum takes."""
        hop = self.mel_spec.hop_length
        least = -(-max(len(wave), self.mel_spec.n_fft) // hop) * hop
        return F.pad(wave, (0, least - len(wave)))

    def synthesize(
        self, requests: Sequence[Any], generator: torch.Generator | None = None, on_step: OnStep | None = None
    ) -> list[Audio]:
        """Return each sound in its other voice, at its own rate and length."""
        progress, result = Progress(on_step, len(requests)), []
        for request in requests:
            result.append(Audio.join(list(self.stream(request, generator))))
            progress.advance()
        return result

    def preview_requests(self) -> list[ConversionRequest]:
        """Two buzzes, which say nothing, in the first two voices: what is shown is that they come out."""
        rate = self.mel_spec.sample_rate
        buzzes = [buzz(hertz, rate) for hertz in (110.0, 220.0)]
        if not self.named:
            return [self.Request(samples=one, prompt_samples=other) for one, other in (buzzes, buzzes[::-1])]
        names = (*self.named, *self.named)[:2]
        return [self.Request(samples=buzz, speaker=name) for buzz, name in zip(buzzes, names, strict=True)]

    def check_requests(self) -> list[ConversionRequest]:
        """The previews, a shorter one, one of another rate, two channels, silence, and a voice by prompt."""
        previews = self.preview_requests()
        first, second = (np.asarray(request.samples).tolist() for request in previews)
        voice = {"speaker": previews[0].speaker} if previews[0].speaker else {"prompt_samples": second}
        others: list[dict[str, Any]] = [
            {"samples": first[: len(first) * 2 // 3], **voice},
            {"samples": first, "sample_rate": 22050, **voice},
            {"samples": [first, second], **voice},
            {"samples": [0.0] * len(first), **voice},
            {"samples": first, "prompt_samples": second},
        ]
        return [*previews, *(self.Request(**fields) for fields in others)]


def _loudest(wave: Float[Tensor, "n"], rate: int) -> float:
    """The mean power of the loudest 20 ms."""
    size = max(1, min(rate // 50, len(wave)))
    whole = wave[: len(wave) // size * size].reshape(-1, size)
    return float(whole.double().square().mean(1).max()) if len(whole) else 0.0
