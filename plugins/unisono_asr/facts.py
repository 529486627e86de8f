"""RecognitionFacts: what a recogniser must know of its speech."""

from dataclasses import dataclass
from hashlib import blake2b

from unisono_sound.corpus import SpeechFacts, same_sentence

from unisono_asr.units import Units


@dataclass(frozen=True, kw_only=True)
class RecognitionFacts(SpeechFacts):
    """Facts about speech, with what is recognised of it.

    Attributes:
        units: what the network names; id 0 is the blank.
        loudness_dbfs: the level to which recordings are brought; None leaves them.
        vocabulary: (written word, its units joined by spaces, how often) of the training texts, the most frequent
            first; empty where units spell words by themselves.
        trained_on: of each training sentence what ``digest_of`` makes of it, so that a judge knows it again.
    """

    units: Units
    loudness_dbfs: float | None = -23.0
    vocabulary: tuple[tuple[str, str, int], ...] = ()
    trained_on: tuple[str, ...] = ()


def digest_of(text: str) -> str:
    """Return eight hexadecimal digits that stand for a sentence, however it is written."""
    return blake2b(same_sentence(text).encode("utf-8", "replace"), digest_size=4).hexdigest()
