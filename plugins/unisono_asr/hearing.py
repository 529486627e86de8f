"""Hearing: what recognisers share: requests, and from recordings to texts."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor
from unisono import Model, Request, Text
from unisono.errors import DataError, RequestError
from unisono.model import OnStep
from unisono.request import FILE
from unisono_sound.signal import read_audio

from unisono_asr.facts import RecognitionFacts
from unisono_asr.models.posteriors import Hypothesis, Posteriors


class RecognitionRequest(Request):
    """A recording to write down: a file, or samples."""

    audio: str | None = Field(default=None, description="path of a recording", json_schema_extra=FILE)
    samples: Annotated[
        list[float] | None, BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x)
    ] = Field(default=None, description="samples at the recogniser's rate, from -1 to 1")
    steps: int = Field(default=1, ge=1, le=16, description="passes of the decoder, where there is one")

    @model_validator(mode="after")
    def _one_source(self):
        if (self.audio is None) == (self.samples is None):
            raise ValueError("give either audio, a path, or samples, a list of numbers")
        return self


class Hearing(Model):
    """The base of recognisers: ``posteriors`` and ``decode`` are a model's own, the rest is here."""

    Request: ClassVar[type[RecognitionRequest]] = RecognitionRequest
    Media: ClassVar[type[Text]] = Text
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

    @torch.no_grad()
    def synthesize(
        self, requests: Sequence[Any], generator: torch.Generator | None = None, on_step: OnStep | None = None
    ) -> list[Text]:
        """Return what is said in each recording. Deterministic."""
        result = []
        rate = self.facts.mel_spec.sample_rate
        for done, request in enumerate(requests, 1):
            if request.audio is not None:
                try:
                    wave, _ = read_audio(request.audio, rate)
                except DataError as error:
                    raise RequestError(str(error), code=error.code, path="audio", value=request.audio) from None
            else:
                wave = torch.tensor(request.samples)
            (read,) = self.decode(self.posteriors([wave], rate), request.steps)
            units = self.facts.units
            pieces = tuple(units.tokens[number] for number in read.tokens)
            result.append(Text(units.text(read.tokens), read.tokens, pieces, (0,) * len(pieces)))
            if on_step is not None:
                on_step(done, len(requests))
        return result
