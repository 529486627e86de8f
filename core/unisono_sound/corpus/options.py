"""Options: the groups of a speech corpus' ``data:`` section in recipe format 2, and where format 1 had them."""

from dataclasses import dataclass, fields

from unisono.errors import DataError


@dataclass(frozen=True, kw_only=True)
class FrontEndOptions:
    """How texts are read.

    front_end: ``espeak``, ``characters``, or ``module:attr``, a callable from text to symbols.
    language: what the texts are written in, by espeak-ng's names ("en-us", "de").
    """

    front_end: str = "espeak"
    language: str = "en-us"


@dataclass(frozen=True, kw_only=True)
class PronunciationOptions(FrontEndOptions):
    """How texts are read, word by word.

    lexicon: a file of word, tab, phonemes, and if need be tab, language: how these words are said; it travels with the
        voice.
    normalise: dates, amounts, units and the like are said in words, where the language has rules. For transcripts that
        hold figures; the voice's texts are, whatever this says.
    """

    lexicon: str | None = None
    normalise: bool = False


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(PronunciationOptions):
    """How texts are read, and how long their symbols last.

    durations: a JSONL of ``{"id", "times"}`` (boundaries of the symbols in seconds, one more than symbols) or
        ``{"id", "durations"}`` (frames per symbol), or a folder of one such JSON file per id.
    """

    durations: str | None = None


@dataclass(frozen=True, kw_only=True)
class SoundOptions:
    """How recordings are trimmed and levelled.

    trim_db: what is this far below the loudest stretch is silence, cut at both ends; 0 cuts nothing.
    pad_seconds: how much silence stays at each end, or is added where there is less.
    loudness_dbfs: recordings are brought to this level (speech only counted); None leaves them.
    """

    trim_db: float = 45.0
    pad_seconds: float = 0.06
    loudness_dbfs: float | None = -23.0

    def __post_init__(self):
        for name, value in (("trim_db", self.trim_db), ("pad_seconds", self.pad_seconds)):
            if value < 0:
                message = f"data.sound.{name}={value} must not be negative"
                raise DataError(message, code="range", path=f"data.sound.{name}", value=value)


@dataclass(frozen=True, kw_only=True)
class VoiceOptions:
    """What espeak-ng says, and how.

    num_sentences: how many; about 3 seconds each: 1,200 make an hour, in half a minute.
    voices: espeak-ng's voice variants, each a speaker ("plain", "f2", "m3"); sentences go round them.
    rates: words per minute, drawn per sentence.
    pitches: 0–99, drawn per sentence.
    corpus_seed: draws sentences, rates and pitches; the recipe's seed does not touch the corpus.
    """

    num_sentences: int = 300
    voices: tuple[str, ...] = ("plain",)
    rates: tuple[int, ...] = (150, 165, 180)
    pitches: tuple[int, ...] = (40, 50, 60)
    corpus_seed: int = 0

    def __post_init__(self):
        if self.num_sentences < 2:
            message = f"data.made.num_sentences={self.num_sentences} must be at least 2"
            raise DataError(message, code="range", path="data.made.num_sentences", value=self.num_sentences)
        for name, values, low, high in (("rates", self.rates, 80, 450), ("pitches", self.pitches, 0, 99)):
            if not values or not all(low <= v <= high for v in values):
                message = f"data.made.{name}={list(values)} must hold numbers from {low} to {high}"
                raise DataError(message, code="range", path=f"data.made.{name}", value=values)
        if not self.voices:
            message = "data.made.voices is empty: name at least one, such as plain"
            raise DataError(message, code="empty", path="data.made.voices", value=self.voices)


@dataclass(frozen=True, kw_only=True)
class MadeOptions(VoiceOptions):
    """With ``texts``: a file with a sentence per line instead of the made-up ones (English)."""

    texts: str | None = None


SOUND = {field.name: f"sound.{field.name}" for field in fields(SoundOptions)}
"""Where recipe format 1's arguments of trimming and level are."""
FLAT = SOUND | {name: f"reading.{name}" for name in ("front_end", "language", "durations")}
"""Where recipe format 1's arguments of a corpus of speech are."""
DIGITS = {field.name: f"made.{field.name}" for field in fields(VoiceOptions)}
"""Where recipe format 1's arguments of words by espeak-ng are."""
MADE = DIGITS | {"texts": "made.texts"}
"""Where recipe format 1's arguments of sentences by espeak-ng are."""
