"""Request: a sound to restore, as a file or as samples of any rate, channels and length."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from unisono.errors import RequestError
from unisono.request import Request, file_of
from unisono_sound.signal import AUDIO_SUFFIXES

__all__ = ["RestorationRequest"]

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000


def _plain(samples: Any) -> Any:
    """Arrays as lists, which is what a request holds."""
    return samples.tolist() if hasattr(samples, "tolist") else samples


Samples = Annotated[list[float] | list[list[float]] | None, BeforeValidator(_plain)]


class RestorationRequest(Request):
    """A sound to restore: a file, or samples with their rate."""

    audio: str | None = Field(
        default=None,
        description="path of a recording (wav, flac, ogg, opus, mp3) of any length and number of channels",
        json_schema_extra=file_of(*AUDIO_SUFFIXES),
    )
    samples: Samples = Field(default=None, description="samples from -1 to 1: [n], or [c, n] of c channels")
    sample_rate: int | None = Field(
        default=None, ge=LOWEST_RATE, le=HIGHEST_RATE, description="of the samples, in hertz; default: the model's own"
    )
    strength: float = Field(
        default=1.0, ge=0.0, le=1.0, description="share of the restored sound in the output; the rest is the input"
    )

    @model_validator(mode="after")
    def _one_source(self):
        if (self.audio is None) == (self.samples is None):
            raise RequestError("give either audio, a path, or samples", code="conflict", path="audio")
        if self.audio is not None and self.sample_rate is not None:
            raise RequestError(
                "sample_rate is that of samples: a file says its own", code="conflict", path="sample_rate"
            )
        return self
