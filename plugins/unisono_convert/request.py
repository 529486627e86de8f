"""Request: a sound to convert, and whose voice it is to have; files or samples of any rate.

Shapes: n samples, c channels.
"""

from pydantic import Field, model_validator
from unisono.errors import RequestError
from unisono.request import FILE
from unisono_sound.given import HIGHEST_RATE, LOWEST_RATE, Samples, SoundRequest

__all__ = ["ConversionRequest"]


class ConversionRequest(SoundRequest):
    """A sound, as a file or as samples with their rate, and a voice, by name or as a recording."""

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
    def _one_voice(self):
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
