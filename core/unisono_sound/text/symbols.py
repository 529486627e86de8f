"""The symbols that a voice reads: one fixed, documented table per front end, never made from a
corpus.

A table that does not depend on the corpus lets a voice be trained on espeak-ng's speech and adapted
to recordings, or to a new speaker, without changing a row of its embedding.

``IPA`` (front end ``espeak``), in order:
    specials     padding, start and end (the silences around an utterance), space between words
    pauses       , ; : . ! ? … —
    vowels       each plain, with secondary stress ˌ, with primary stress ˈ; with diphthongs
    consonants   affricates included
    pieces       letters, marks and digits (tones) that spell whatever else espeak-ng writes

``CHARACTERS`` (front end ``characters``): the same specials and pauses, digits, common signs, and
the small letters of the Latin, Greek and Cyrillic scripts.
"""

import string
from collections.abc import Iterable, Sequence

from unisono.errors import RequestError, did_you_mean

PAD, START, END, SPACE = "<pad>", "<start>", "<end>", " "
PAUSES = (",", ";", ":", ".", "!", "?", "…", "—")
SPECIALS = (PAD, START, END, SPACE, *PAUSES)
STRESS = ("ˌ", "ˈ")

_VOWELS = str.split(
    "i y ɨ ʉ ɯ u ɪ ʏ ʊ e ø ɘ ɵ ɤ o ə ɛ œ ɜ ɞ ʌ ɔ æ ɐ a ɶ ɑ ɒ ᵻ ɚ ɝ "
    "iː yː ɨː ʉː ɯː uː ɪː ʊː eː øː oː əː ɛː œː ɜː ʌː ɔː æː aː ɑː ɒː "
    "aɪ aʊ eɪ oʊ əʊ ɔɪ iə eə ʊə aɪə aʊə aɪɚ aʊɚ ɪə ɛə "
    "ɑːɹ ɔːɹ oːɹ ɛɹ ɪɹ ʊɹ əl n̩ m̩ l̩ r̩ ɹ̩ ŋ̩ "
    "ɛɪ æɪ ʌɪ ɔø œy øy ei ai oi au eu ou iu ui ia ie io ua ue uo ju ja "
    "ã ẽ ĩ õ ũ ɛ̃ ɔ̃ ɑ̃ œ̃ ɐ̃"
)
_CONSONANTS = str.split(
    "p b t d ʈ ɖ c ɟ k ɡ q ɢ ʔ m ɱ n ɳ ɲ ŋ ɴ ʙ r ʀ ⱱ ɾ ɽ "
    "ɸ β f v θ ð s z ʃ ʒ ʂ ʐ ç ʝ x ɣ χ ʁ ħ ʕ h ɦ "
    "ɬ ɮ ʋ ɹ ɻ j ɰ l ɭ ʎ ʟ ɫ w ʍ ɥ ɕ ʑ ɺ ɧ "
    "tʃ dʒ ts dz tɕ dʑ tʂ dʐ pf kx t̪ d̪ n̪ l̪ s̪ pʰ tʰ kʰ tʃʰ tʲ dʲ nʲ lʲ sʲ rʲ pː tː kː"
)
_PIECES = [
    *STRESS, *"ːˑʰʲʷˠˤˀʱⁿᵝᵊ˞ʼ̩̯̪̬̥̝̞̟̠̺̻̼̘̙̃̊̚͡‿ʦʣʧʤε", *string.digits, *"gy", *string.ascii_uppercase,
    *"^`'\"#~@[]-.*+=",
]  # fmt: skip


class SymbolTable(Sequence[str]):
    """Symbols and their ids, in a fixed order; id 0 is the padding.

    ``encode`` raises ``RequestError`` with the symbols that the table lacks.
    """

    def __init__(self, symbols: Iterable[str]):
        self.symbols = tuple(symbols)
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        if len(self._ids) != len(self.symbols):
            raise ValueError("a symbol table holds each symbol once")
        self._longest = max(map(len, self.symbols), default=0)

    def __len__(self) -> int:
        return len(self.symbols)

    def __getitem__(self, index):
        return self.symbols[index]

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Return the id of each symbol."""
        symbols = list(symbols)
        unknown = [s for s in dict.fromkeys(symbols) if s not in self._ids]
        if unknown:
            message = (
                f"this voice has no symbol {', '.join(map(repr, unknown))}: "
                f"its table has {len(self)} symbols{did_you_mean(unknown[0], self._ids)[:60]}"
            )
            raise RequestError(message, code="unknown", path="text", value=unknown)
        return [self._ids[s] for s in symbols]

    def spell(self, phoneme: str) -> list[str]:
        """Return a phoneme as symbols: itself where the table has it, else the longest known
        pieces.

        Raises ``RequestError`` for a letter that the table lacks.
        """
        symbols, start = [], 0
        while start < len(phoneme):
            for end in range(min(len(phoneme), start + self._longest), start, -1):
                if phoneme[start:end] in self._ids:
                    symbols.append(phoneme[start:end])
                    start = end
                    break
            else:
                letter = phoneme[start]
                message = (
                    f"the phoneme {phoneme!r} holds {letter!r} (U+{ord(letter):04X}), which the symbol table lacks"
                )
                raise RequestError(message, code="unknown", path="text", value=letter)
        return symbols


def _unique(*groups: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(symbol for group in groups for symbol in group))


IPA = SymbolTable(
    _unique(
        SPECIALS,
        (stress + vowel for vowel in _VOWELS for stress in ("", *STRESS)),
        _CONSONANTS,
        (piece for piece in _PIECES if piece not in SPECIALS),
    )
)

CHARACTERS = SymbolTable(
    _unique(
        SPECIALS,
        string.ascii_lowercase,
        string.digits,
        "'-&%$€£¥@#+=<>*/°§©®™¹²³½¼¾µ×÷±",
        (chr(c) for c in range(0xDF, 0x180) if chr(c) == chr(c).lower() and chr(c).isalpha()),
        (chr(c) for c in range(0x3AC, 0x3CF) if chr(c).isalpha()),
        (chr(c) for c in range(0x430, 0x460)),
        "ґ",
    )
)
