"""Request: a sound to restore, as a file or as samples of any rate, channels and length."""

from pydantic import Field
from unisono_sound.given import SoundRequest

__all__ = ["RestorationRequest"]


class RestorationRequest(SoundRequest):
    """A sound to restore: a file, or samples with their rate."""

    strength: float = Field(
        default=1.0, ge=0.0, le=1.0, description="share of the restored sound in the output; the rest is the input"
    )
