"""Hearing: what recognisers share: from a sound of any length and rate to a text with its times.

::

    file, samples ─ mono ─ resampled ─ windows ─ posteriors ─ decode ─ words ─ Transcript, joined
                                          └─ silent ones are passed over

Memory does not grow with the sound: windows are heard one after the other.

Shapes: n samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from unisono import Model
from unisono.batching import Progress
from unisono.errors import RequestError
from unisono.model import OnStep
from unisono.recipe import data_of
from unisono.stopping import may_stop
from unisono_sound.precision import check_precision

from unisono_asr.facts import RecognitionFacts
from unisono_asr.lexicon import Lexicon
from unisono_asr.models.posteriors import Hypothesis, Posteriors
from unisono_asr.request import RecognitionRequest, Sound, sound_in, sound_of_samples
from unisono_asr.transcript import Transcript
from unisono_asr.windows import Window, resampled, windows
from unisono_asr.written import transcript_of

__all__ = ["LEAST_SECONDS", "Heard", "Hearing", "RecognitionRequest"]

LEAST_SECONDS = 0.1
"""A sound that is shorter is refused."""
LONGEST_SECONDS = 20.0
"""Of a window, where the recipe does not say what was trained on."""
SILENT_DBFS = -70.0
"""A window whose loudest 20 ms are below this is silent, and one 50 dB below the loudest window before it."""
FAINTER_DB = 50.0


@dataclass(frozen=True, eq=False)
class Heard:
    """A window of a sound at the model's rate, and what is heard in it; None where it is silent."""

    window: Window
    posteriors: Posteriors | None


class Hearing(Model):
    """The base of recognisers: ``posteriors`` and ``decode`` are a model's own, the rest is here."""

    Request: ClassVar[type[RecognitionRequest]] = RecognitionRequest
    Media: ClassVar[type[Transcript]] = Transcript
    Facts: ClassVar[type[RecognitionFacts]] = RecognitionFacts
    facts: RecognitionFacts
    text_field: ClassVar[str] = "audio"
    pipeline_tag: ClassVar[str] = "automatic-speech-recognition"
    deterministic: ClassVar[bool] = True

    def posteriors(self, waves: Sequence[Float[Tensor, " n"]], sample_rate: int) -> Posteriors:
        """Hear recordings of any rate, brought to the level of the training data."""
        raise TypeError(f"{type(self).__name__} defines no posteriors()")

    def decode(self, heard: Posteriors, steps: int = 1) -> list[Hypothesis]:
        """Read what is heard."""
        raise TypeError(f"{type(self).__name__} defines no decode()")

    # ---- hearing -------------------------------------------------------------------------------

    @property
    def sample_rate(self) -> int:
        """The rate at which it hears, in hertz."""
        return self.facts.mel_spec.sample_rate

    @property
    def longest_seconds(self) -> float:
        """How long a window is at most: the longest recording that it was trained on."""
        limits = data_of(self.recipe).get("limits") or {}
        return float(limits.get("max_seconds") or LONGEST_SECONDS)

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words of the training texts by their phones; empty where units spell words by themselves."""
        return Lexicon(self.facts.vocabulary)

    def listen(self, sound: Sound) -> Iterator[Heard]:
        """Hear a sound window by window. Raises ``RequestError`` where it is too short, or its file is damaged."""
        check_precision(self)
        rate, loudest = self.sample_rate, 0.0
        for window in windows(resampled(sound.blocks, sound.rate, rate), rate, self.longest_seconds):
            may_stop()
            if window.last and not window.start and len(window.wave) < LEAST_SECONDS * rate:
                seconds = len(window.wave) / rate
                raise RequestError(
                    f"{seconds:.3f} s are too short: {LEAST_SECONDS:g} s are the least that can be heard",
                    code="range",
                    path="audio",
                    value=seconds,
                )
            power = _loudest(window.wave, rate)
            silent = power <= max(10 ** (SILENT_DBFS / 10), loudest * 10 ** (-FAINTER_DB / 10))
            loudest = max(loudest, power)
            if silent:
                yield Heard(window, None)
                continue
            padded = F.pad(window.wave, (0, max(0, round(LEAST_SECONDS * rate) - len(window.wave))))
            with torch.no_grad():
                yield Heard(window, self.posteriors([padded], rate))

    def pieces(self, sound: Sound, steps: int = 1) -> Iterator[Transcript]:
        """Write down a sound window by window; times are those within the piece."""
        for heard in self.listen(sound):
            piece = self._written(heard, steps)
            yield replace(piece, notes=(*sound.notes, *piece.notes))

    def _written(self, heard: Heard, steps: int) -> Transcript:
        wave, rate = heard.window.wave, self.sample_rate
        if heard.posteriors is None:
            return Transcript("", length=len(wave), sample_rate=rate)
        with torch.no_grad():
            (read,) = self.decode(heard.posteriors, steps)
        return transcript_of(read, heard.posteriors, self.facts.units, self.lexicon, wave, rate)

    def hear(self, samples: Any, sample_rate: int, steps: int = 1) -> Transcript:
        """Write down samples [n] or [c, n] of any rate, as arrays or tensors."""
        given = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
        return Transcript.join(list(self.pieces(sound_of_samples(given, sample_rate), steps)))

    # ---- requests ------------------------------------------------------------------------------

    def synthesize(
        self, requests: Sequence[Any], generator: torch.Generator | None = None, on_step: OnStep | None = None
    ) -> list[Transcript]:
        """Return what is said in each recording. Deterministic."""
        progress, result = Progress(on_step, len(requests)), []
        for request in requests:
            result.append(Transcript.join(list(self.stream(request))))
            progress.advance()
        return result

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Transcript]:
        """Yield what is said, window by window."""
        yield from self.pieces(sound_in(request, self.sample_rate), request.steps)

    def preview_requests(self) -> list[RecognitionRequest]:
        """Two buzzes, which say nothing: what is shown is that they are heard."""
        seconds = np.arange(self.sample_rate // 2) / self.sample_rate
        buzzes = [sum(np.sin(2 * np.pi * hertz * k * seconds) / k for k in range(1, 9)) for hertz in (110.0, 220.0)]
        return [self.Request(samples=(0.1 * np.asarray(buzz)).tolist()) for buzz in buzzes]

    def check_requests(self) -> list[RecognitionRequest]:
        """The two buzzes, a shorter one, one of another rate, two channels, silence, and more passes."""
        first, second = (request.samples for request in self.preview_requests())
        assert first is not None and second is not None
        fewer = first[: len(first) * 2 // 3]
        silence = [0.0] * len(first)
        others = [
            {"samples": fewer},
            {"samples": first, "sample_rate": 22050},
            {"samples": [first, second]},
            {"samples": silence},
            {"samples": second, "steps": 2},
        ]
        return [*self.preview_requests(), *(self.Request(**fields) for fields in others)]

    # ---- marking -------------------------------------------------------------------------------

    def as_judge(self, name: str) -> Any:
        """Return it as a judge of voices, as ``unisono_sound.measure.Judging`` has it."""
        from unisono_asr.judging import UnitJudge

        return UnitJudge(name, self)


def _loudest(wave: Float[Tensor, "n"], rate: int) -> float:
    """The mean power of the loudest 20 ms."""
    size = max(1, min(rate // 50, len(wave)))
    whole = wave[: len(wave) // size * size].reshape(-1, size)
    return float(whole.double().square().mean(1).max())
