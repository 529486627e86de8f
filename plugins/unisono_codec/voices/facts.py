"""Facts: of voices that speak a codec's tokens, and of the listener that hears single words."""

from dataclasses import dataclass
from typing import Any

from unisono_sound.corpus import SpeechFacts

from unisono_codec.voices.semantic import SemanticSpec


@dataclass(frozen=True, kw_only=True)
class TokenFacts(SpeechFacts):
    """Facts about speech, with the tokens that are learnt.

    Attributes:
        codec: the codec whose codes they are (see ``facts_of``).
        semantic: the tokens that say what is spoken.
        duration_rate: frames a second that durations of symbols count.
        loudness_dbfs: what recordings are levelled to.
        prompts: codes by speaker, of training recordings.
        max_prompt_frames, max_frames, max_join: codec frames of a prompt and of an item, recordings of an item.
        words: the symbols of each word, where texts are words.
    """

    codec: dict[str, Any]
    semantic: SemanticSpec
    duration_rate: float | None = None
    loudness_dbfs: float | None = None
    prompts: dict[str, list[list[int]]] | None = None
    max_prompt_frames: int | None = None
    max_frames: int | None = None
    max_join: int | None = None
    words: dict[str, list[int]] | None = None


@dataclass(frozen=True, kw_only=True)
class WordFacts(SpeechFacts):
    """Facts about single words: ``words``, each as often as it is spoken once."""

    words: tuple[str, ...] = ()
