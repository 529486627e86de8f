"""Request: a recording for the tutor to listen to."""

from unisono_sound.given import SoundRequest

__all__ = ["TutorRequest"]


class TutorRequest(SoundRequest):
    """A recording to listen to: a file, or samples; channels are averaged."""
