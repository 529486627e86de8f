"""Speech and its texts: front ends, reading a text piece by piece, corpora of recordings.

Front ends turn written text into the symbols that a voice reads; ``split_text`` cuts long texts; ``Voice`` reads a
request; ``SpeechCorpus`` is the base of data sets of recordings with texts, ``MadeSpeech`` makes one of espeak-ng's.
"""

from unisono.speech.corpus import SpeechCorpus, SpeechItem, SpeechSet, read_durations, read_texts
from unisono.speech.frontend import (
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
from unisono.speech.made import MadeSpeech, make_corpus, symbol_times
from unisono.speech.sound import extract_mel, level, read_speech, trim
from unisono.speech.split import PAUSE_SECONDS, Piece, Token, split_text, tokenize
from unisono.speech.symbols import CHARACTERS, IPA, SymbolTable
from unisono.speech.voice import Reading, SpeechRequest, Voice, segments

__all__ = [
    "CHARACTERS",
    "FRONT_ENDS",
    "IPA",
    "PAUSE_SECONDS",
    "CharacterFrontEnd",
    "CustomFrontEnd",
    "EspeakFrontEnd",
    "FrontEnd",
    "MadeSpeech",
    "Piece",
    "Reading",
    "SpeechCorpus",
    "SpeechItem",
    "SpeechRequest",
    "SpeechSet",
    "SymbolTable",
    "Symbols",
    "Token",
    "Voice",
    "Word",
    "extract_mel",
    "front_end",
    "front_end_of",
    "level",
    "make_corpus",
    "read_durations",
    "read_speech",
    "read_texts",
    "refuse_unspeakable",
    "segments",
    "split_text",
    "symbol_times",
    "tokenize",
    "trim",
]
