"""Text: front ends from writing to the symbols that a voice reads, and long texts in pieces."""

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
from unisono_sound.text.split import PAUSE_SECONDS, Piece, Token, split_text, tokenize
from unisono_sound.text.symbols import CHARACTERS, IPA, SymbolTable

__all__ = [
    "CHARACTERS",
    "FRONT_ENDS",
    "IPA",
    "PAUSE_SECONDS",
    "CharacterFrontEnd",
    "CustomFrontEnd",
    "EspeakFrontEnd",
    "FrontEnd",
    "Piece",
    "SymbolTable",
    "Symbols",
    "Token",
    "Word",
    "front_end",
    "front_end_of",
    "refuse_unspeakable",
    "split_text",
    "tokenize",
]
