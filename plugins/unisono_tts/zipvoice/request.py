"""Request: what can be asked of ZipVoice."""

from pydantic import Field, model_validator
from unisono.errors import RequestError
from unisono.request import FILE

from unisono_tts.flow import FlowRequest


class ZipVoiceRequest(FlowRequest):
    """A text, in the voice of a prompt or of a speaker of the corpus."""

    prompt: str | None = Field(
        default=None,
        description="path of a recording whose voice to take, 0.5 to 20 seconds; 3 serve",
        json_schema_extra=FILE,
    )
    prompt_text: str | None = Field(default=None, description="what is said in the prompt, word for word")
    seconds: float | None = Field(
        default=None, gt=0, le=20, description="length of what is said, of a text of one piece; default: predicted"
    )
    num_steps: int = Field(default=16, ge=1, le=1000, description="Euler steps from noise to speech")
    guidance_scale: float = Field(
        default=2.0, ge=0, le=10, description="how much more text and prompt count; 1 is unguided, and half the work"
    )

    @model_validator(mode="after")
    def _whole(self):
        if (self.prompt is None) != (self.prompt_text is None):
            given, lacking = ("prompt", "prompt_text") if self.prompt_text is None else ("prompt_text", "prompt")
            message = f"{given} is given without {lacking}: a prompt is a recording and what is said in it"
            raise RequestError(message, code="missing", path=lacking)
        if self.prompt is not None and self.speaker is not None:
            message = f"speaker={self.speaker!r} and a prompt are two voices: give one of them"
            raise RequestError(message, code="conflict", path="speaker", value=self.speaker)
        if self.seconds is not None and self.pace != 1:
            message = f"pace={self.pace:g} and seconds={self.seconds:g} both set the length: give one of them"
            raise RequestError(message, code="conflict", path="pace", value=self.pace)
        return self
