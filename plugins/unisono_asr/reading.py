"""Reading: what reads the texts that a recogniser is given: its front end, with numbers in words and its lexicon."""

from unisono_sound.corpus import SpeechFacts
from unisono_sound.text import FrontEnd, Lexicon, SymbolTable, front_end_of, normaliser_of
from unisono_sound.text.direction import Director, PronouncingFrontEnd
from unisono_sound.text.reader import DirectedFrontEnd

__all__ = ["reader_of"]


def reader_of(facts: SpeechFacts, normalise: bool = True) -> FrontEnd:
    """Return the front end of a recogniser's training texts.

    With ``normalise`` dates, amounts and the like are read in words, where the front end can be told and the language
    has rules, as voices do by default; a corpus that is trained on is read as it is written.
    """
    reader = front_end_of(facts)
    if not isinstance(reader, DirectedFrontEnd):
        return reader
    table = SymbolTable(facts.symbols)
    normaliser = normaliser_of(facts.language) if normalise and getattr(reader, "normalises", False) else None
    lexicon = Lexicon.from_rows(facts.lexicon or (), table)
    if normaliser is None and not lexicon.entries:
        return reader
    return PronouncingFrontEnd(reader, Director(facts.language, table, normaliser, lexicon))
