"""Scripts: which writing systems a language is written in (ISO 639 names, as espeak-ng's)."""

import unicodedata

__all__ = ["is_script", "script_known"]


def script_known(character: str, language: str, marks: bool = False) -> bool:
    """Whether a letter belongs to a script of a language; Latin letters belong to every one.

    ``marks`` asks for a mark that no letter carries composed: those of the language's own script are its own.
    """
    words = unicodedata.name(character, "?").split()
    if not marks and words[0] in ("LATIN", "MODIFIER", "FEMININE", "MASCULINE", "MICRO"):
        return True
    languages = _SCRIPTS.get(words[0], frozenset())
    return language in languages or language.split("-")[0] in languages


def is_script(name: str) -> bool:
    """Whether a word of a character's name is a script other than Latin that some language is written in."""
    return name in _SCRIPTS


# Scripts other than Latin, by the language that is written in them (ISO 639)
_SCRIPTS = {
    "CYRILLIC": "ru uk be bg sr mk kk ky tt ba cv nog kaa uz tk az",
    "ARABIC": "ar fa ur sd ug ku",
    "DEVANAGARI": "hi mr ne kok",
    "BENGALI": "bn as bpy",
    "GREEK": "el grc",
    "HEBREW": "he",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "ORIYA": "or",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "MYANMAR": "my shn",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy hyw",
    "ETHIOPIC": "am ti",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "KATAKANA-HIRAGANA": "ja",
    "CJK": "ja cmn zh yue hak",
    "IDEOGRAPHIC": "ja cmn zh yue hak",
    "CHEROKEE": "chr",
    "SHAVIAN": "en-shaw",
}
_SCRIPTS = {script: frozenset(languages.split()) for script, languages in _SCRIPTS.items()}
