"""RecognitionFacts: what a recogniser must know of its speech."""

from dataclasses import dataclass

from unisono_sound.corpus import SpeechFacts

from unisono_asr.units import Units


@dataclass(frozen=True, kw_only=True)
class RecognitionFacts(SpeechFacts):
    """Facts about speech, with what is recognised of it.

    Attributes:
        units: what the network names; id 0 is the blank.
        loudness_dbfs: the level to which recordings are brought; None leaves them.
        vocabulary: (written word, its units joined by spaces, how often) of the training texts, the most frequent
            first; empty where units spell words by themselves.
    """

    units: Units
    loudness_dbfs: float | None = -23.0
    vocabulary: tuple[tuple[str, str, int], ...] = ()
