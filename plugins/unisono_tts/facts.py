"""VoiceFacts: what a voice that says mels must know of its speech."""

from dataclasses import dataclass, field

from unisono_sound.corpus import SpeechFacts


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation."""

    mean: float
    std: float


@dataclass(frozen=True, kw_only=True)
class VoiceFacts(SpeechFacts):
    """Facts about speech, with how each speaker speaks.

    Attributes:
        pitch: by speaker, of the natural log of voiced hertz.
        energy: by speaker, of log(1 + energy).
    """

    pitch: dict[str, Spread] = field(default_factory=dict)
    energy: dict[str, Spread] = field(default_factory=dict)
