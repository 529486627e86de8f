"""ConversionFacts: what a model that converts voices must know of its speakers."""

from dataclasses import dataclass, field

from unisono.data import Facts
from unisono_sound.signal import MelSpec


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation."""

    mean: float
    std: float


@dataclass(frozen=True)
class ChannelSpread:
    """Mean and standard deviation of each mel channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ConversionFacts(Facts):
    """Facts about recordings of speakers.

    Attributes:
        speakers: names in the order of their numbers; none where recordings were not told apart by speaker.
        mel_spec: the spectrogram, and with it the sample rate.
        mel: of the log mel over all training frames.
        pitch: by speaker, of the natural log of voiced hertz.
        voices: by speaker, of the log mel over the speaker's training frames.
        loudness_dbfs: the level to which recordings are brought; None leaves them.
        longest_seconds: of the longest training recording: how long a piece of sound is converted at once.
        letters: the characters of the training texts; none where there are no texts.
        held_out: ids of the recordings that are validated on.
        held_out_speakers: names of speakers of whom nothing was trained on.
        hours: of the training recordings.
    """

    speakers: tuple[str, ...] = ()
    mel_spec: MelSpec
    mel: ChannelSpread
    pitch: dict[str, Spread] = field(default_factory=dict)
    voices: dict[str, ChannelSpread] = field(default_factory=dict)
    loudness_dbfs: float | None = -23.0
    longest_seconds: float = 10.0
    letters: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    held_out_speakers: tuple[str, ...] = ()
    hours: float | None = None
