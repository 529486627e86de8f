"""Written: spoken words as they are written, with the punctuation around them, and what ends after each.

A word's times hold the word alone. Between two words stands what is not said: up to the first white space it belongs to
the word before, from the last one on to the word after, as quotes and brackets are written. Where the places of the
words in the text are not known, words are their labels.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from itertools import pairwise

from unisono.errors import RequestError
from unisono.media import Stretch, Times

from unisono_sound.text.split import tokenize

SILENCE_SECONDS = 0.5
"""A silence of this length ends a sentence, whatever is written."""
CLAUSE, SENTENCE, PARAGRAPH = 1, 2, 3
"""What ends after a word, as ``unisono_sound.text.Token.level`` has it; 0 is nothing."""
_OPENING = re.compile(r"[\"'“‘«‹(\[{「『（【¿¡]*$")


@dataclass(frozen=True)
class Written:
    """A word as it is written, from sample ``first`` to ``last``; ``space``: whether white space stands before it."""

    text: str
    first: int
    last: int
    space: bool = True
    ends: int = 0


def written_words(times: Times) -> list[Written]:
    """Return the words of a sound; raises ``RequestError`` where there is none."""
    words = [word for word in times.stretches("word") if word.label.strip()]
    if not words:
        raise RequestError(
            "this sound has no words whose times are known: take .json or .TextGrid, which have phones too",
            code="empty",
            path="words",
        )
    found = _in_text(words, times.text) if _placed(words, times.text) else _labels(words)
    for index, (word, after) in enumerate(pairwise(found)):
        if after.first - word.last >= SILENCE_SECONDS * times.rate:
            found[index] = replace(word, ends=max(word.ends, SENTENCE))
    return found


def signs(text: str) -> int:
    """Return how many signs a text shows: marks on letters and signs of no width are none."""
    return sum(unicodedata.category(character) not in ("Mn", "Me", "Cf") for character in text)


def _placed(words: list[Stretch], text: str) -> bool:
    at = 0
    for word in words:
        if word.span is None or not at <= word.span[0] < word.span[1] <= len(text):
            return False
        at = word.span[1]
    return True


def _labels(words: list[Stretch]) -> list[Written]:
    return [Written(" ".join(word.label.split()), word.first, word.last) for word in words]


def _in_text(words: list[Stretch], text: str) -> list[Written]:
    levels = {token.end: token.level for token in tokenize(text)}
    spans = [word.span or (0, 0) for word in words]
    begins = ["", *("" for _ in words[1:])]
    ends = ["" for _ in words]
    spaces = [True for _ in words]
    head = text[: spans[0][0]]
    begins[0] = " ".join(head.split()) + (" " if head[-1:].isspace() and head.split() else "")
    for index, (before, after) in enumerate(pairwise(spans)):
        gap = text[before[1] : after[0]]
        pieces = re.split(r"\s+", gap)
        if len(pieces) == 1:  # no white space: what opens something belongs to what follows
            opened = _OPENING.search(gap)
            cut = opened.start() if opened else len(gap)
            ends[index], begins[index + 1], spaces[index + 1] = gap[:cut], gap[cut:], False
        else:
            first, *middle, last = pieces
            ends[index] = " ".join([first, *middle])
            begins[index + 1] = last
    tail = text[spans[-1][1] :]
    ends[-1] = " ".join(tail.split()) if not tail[:1].isspace() or not tail.split() else " " + " ".join(tail.split())
    return [
        Written(
            f"{begins[i]}{' '.join(text[slice(*spans[i])].split())}{ends[i]}",
            word.first,
            word.last,
            spaces[i],
            levels.get(spans[i][1], 0),
        )
        for i, word in enumerate(words)
    ]
