"""Text: front ends from writing to the symbols that a voice reads, markup, lexicons and normalising before them, and
long texts in pieces.
"""

from unisono_sound.text.frontend import (
    FRONT_ENDS,
    CharacterFrontEnd,
    CustomFrontEnd,
    EspeakFrontEnd,
    FrontEnd,
    Symbols,
    Word,
    front_end,
    front_end_of,
    refuse_unspeakable,
)
from unisono_sound.text.lexicon import Lexicon, read_lexicon
from unisono_sound.text.markup import MARKUPS, Script, parse
from unisono_sound.text.normalise import NORMALISERS, Normaliser, normaliser_of
from unisono_sound.text.reader import DirectedFrontEnd, Said
from unisono_sound.text.split import PAUSE_SECONDS, Piece, Token, split_text, tokenize
from unisono_sound.text.symbols import CHARACTERS, IPA, SymbolTable

__all__ = [
    "CHARACTERS",
    "FRONT_ENDS",
    "IPA",
    "MARKUPS",
    "NORMALISERS",
    "PAUSE_SECONDS",
    "CharacterFrontEnd",
    "CustomFrontEnd",
    "DirectedFrontEnd",
    "EspeakFrontEnd",
    "FrontEnd",
    "Lexicon",
    "Normaliser",
    "Piece",
    "Said",
    "Script",
    "SymbolTable",
    "Symbols",
    "Token",
    "Word",
    "front_end",
    "front_end_of",
    "normaliser_of",
    "parse",
    "read_lexicon",
    "refuse_unspeakable",
    "split_text",
    "tokenize",
]
