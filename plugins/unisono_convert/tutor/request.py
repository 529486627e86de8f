"""Request: a recording for the tutor to listen to."""

from pydantic import Field, model_validator
from unisono.errors import RequestError
from unisono.request import FILE, Request

from unisono_convert.request import HIGHEST_RATE, LOWEST_RATE, Samples

__all__ = ["TutorRequest"]


class TutorRequest(Request):
    """A recording to listen to: a file, or samples."""

    audio: str | None = Field(default=None, description="path of a recording", json_schema_extra=FILE)
    samples: Samples = Field(default=None, description="samples from -1 to 1: [n], or [c, n], averaged")
    sample_rate: int | None = Field(
        default=None, ge=LOWEST_RATE, le=HIGHEST_RATE, description="of the samples; default: the model's own"
    )

    @model_validator(mode="after")
    def _one_source(self):
        if (self.audio is None) == (self.samples is None):
            raise RequestError("give either audio, a path, or samples", code="conflict", path="audio")
        if self.audio is not None and self.sample_rate is not None:
            message = "sample_rate is that of samples: a file says its own"
            raise RequestError(message, code="conflict", path="sample_rate")
        return self
