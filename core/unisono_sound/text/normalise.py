"""Normalising: what written words are said as, in words, before a front end reads them.

A normaliser is asked for a sentence's tokens and returns, for each, the words that are said for it, None where it is
said as it is written. So each written word keeps its place, and none can vanish.

``en``  dates, times, money, units, ranges, fractions, years, telephone numbers, addresses, abbreviations, Roman
        numerals (``unisono_sound.text.english``)
"""

from collections.abc import Sequence
from typing import Protocol

from unisono.errors import RequestError, UnisonoError

from unisono_sound.text.english import English
from unisono_sound.text.split import Token

__all__ = ["NORMALISERS", "Normaliser", "normaliser_of", "said_as", "said_by_kind"]


class Normaliser(Protocol):
    """What says written words in words."""

    version: str

    def __call__(self, tokens: Sequence[Token], language: str) -> Sequence[str | None]:
        """Return the words of each token, None where it is said as it is written."""
        ...

    def by_kind(self, tokens: Sequence[Token], language: str, kind: str, form: str) -> Sequence[str | None]:
        """Return the words of tokens of a kind of SSML's ``say-as``; ``RequestError`` where they are none."""
        ...


NORMALISERS: dict[str, Normaliser] = {"en": English()}
"""By language, without its region."""


def normaliser_of(language: str) -> Normaliser | None:
    """Return the normaliser of a language ("en-gb"), None where there is none."""
    return NORMALISERS.get(language.split("-")[0])


def said_as(normaliser: Normaliser, tokens: Sequence[Token], language: str) -> list[str | None]:
    """Return what a normaliser says of a sentence; ``RequestError`` where it fails or leaves words out."""
    shown = " ".join(token.text for token in tokens)[:80]
    try:
        said = list(normaliser(tokens, language))
    except UnisonoError:
        raise
    except Exception as error:
        message = (
            f"the normaliser of {language!r} failed at {shown!r} ({error!r:.120}): mend it, or set normalise=false"
        )
        raise RequestError(message, code="failed", path="normalise", value=shown) from error
    if len(said) != len(tokens):
        message = (
            f"the normaliser of {language!r} has {len(said)} entries for the {len(tokens)} words {shown!r}: mend it"
        )
        raise RequestError(message, code="shape", path="normalise", value=len(said))
    for token, words in zip(tokens, said, strict=True):
        if words is not None and not (isinstance(words, str) and any(c.isalnum() for c in words)):
            message = (
                f"the normaliser of {language!r} says {words!r:.60} for {token.text!r}: it must give words, or None"
            )
            raise RequestError(message, code="value", path="normalise", value=words)
    return [None if words in (None, token.text, token.text.lower()) else words
            for token, words in zip(tokens, said, strict=True)]  # fmt: skip


def said_by_kind(tokens: Sequence[Token], language: str, kind: str, form: str) -> list[str | None]:
    """Return what tokens are said as whose kind is named by ``say-as``.

    Letters and digits one by one are said in every language, other kinds by its normaliser. Raises ``RequestError``
    where the tokens are not of the kind or the language has no normaliser.
    """
    normaliser = normaliser_of(language)
    if normaliser is not None:
        return list(normaliser.by_kind(tokens, language, kind, form))
    if kind in ("characters", "spell-out", "verbatim"):
        return [" ".join(token.text) for token in tokens]
    if kind in ("digits", "telephone"):
        return [" ".join(c for c in token.text if c.isalnum()) for token in tokens]
    if kind in ("cardinal", "number"):
        return [None] * len(tokens)
    known = ", ".join(NORMALISERS)
    message = f"say-as {kind!r} is not known in {language!r} (there are rules for {known}): write it in words"
    raise RequestError(message, code="unsupported", path="text", value=kind)
