"""Request: a sound to convert, and whose voice it is to have; files or samples of any rate.

Shapes: n samples, c channels.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, model_validator
from unisono.errors import RequestError
from unisono.request import FILE, Request, file_of
from unisono_sound.signal import AUDIO_SUFFIXES

__all__ = ["ConversionRequest"]

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000


def _plain(samples: Any) -> Any:
    """Arrays as lists, which is what a request holds; raises ``RequestError`` for NaN and infinity."""
    values = samples.tolist() if hasattr(samples, "tolist") else samples
    try:
        finite = values is None or bool(np.isfinite(np.asarray(values, np.float64)).all())
    except (TypeError, ValueError):  # no numbers, or channels of several lengths: told of behind this
        return values
    if not finite:
        raise RequestError("the samples hold NaN or infinity: repair them first", code="value")
    return values


Samples = Annotated[list[float] | list[list[float]] | None, BeforeValidator(_plain)]


class ConversionRequest(Request):
    """A sound, as a file or as samples with their rate, and a voice, by name or as a recording."""

    audio: str | None = Field(
        default=None,
        description="path of a recording (wav, flac, ogg, opus, mp3) of any rate and length; channels are averaged",
        json_schema_extra=file_of(*AUDIO_SUFFIXES),
    )
    samples: Samples = Field(
        default=None, description="samples from -1 to 1: [n], or [c, n] of c channels, which are averaged"
    )
    sample_rate: int | None = Field(
        default=None, ge=LOWEST_RATE, le=HIGHEST_RATE, description="of the samples, in hertz; default: the model's own"
    )
    speaker: str | None = Field(default=None, description="whose voice to take: a speaker of the training data")
    prompt: str | None = Field(
        default=None,
        description="path of a recording whose voice to take, in place of speaker",
        json_schema_extra=FILE,
    )
    prompt_samples: Samples = Field(default=None, description="samples of the prompt, in place of a path")
    prompt_rate: int | None = Field(
        default=None, ge=LOWEST_RATE, le=HIGHEST_RATE, description="of prompt_samples; default: the model's own"
    )

    @model_validator(mode="after")
    def _one_of_each(self):
        if (self.audio is None) == (self.samples is None):
            raise RequestError("give either audio, a path, or samples", code="conflict", path="audio")
        if self.audio is not None and self.sample_rate is not None:
            raise RequestError(
                "sample_rate is that of samples: a file says its own", code="conflict", path="sample_rate"
            )
        given = [name for name in ("speaker", "prompt", "prompt_samples") if getattr(self, name) is not None]
        if len(given) > 1:
            raise RequestError(
                f"give one voice, not {' and '.join(given)}", code="conflict", path=given[1], value=given
            )
        if not given:
            raise RequestError(
                "say whose voice to take: speaker, a name, or prompt, a recording", code="missing", path="speaker"
            )
        if self.prompt_rate is not None and self.prompt_samples is None:
            raise RequestError(
                "prompt_rate is that of prompt_samples: a file says its own", code="conflict", path="prompt_rate"
            )
        return self
