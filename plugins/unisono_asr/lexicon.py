"""Lexicon: which written words phones spell, by a vocabulary of training texts and the edits that it takes.

What a recogniser of phones hears is cut into words anew, since spaces are hardly heard: the cheapest way to spell all
phones by words of the vocabulary, where an edit of a phone, a border that was not heard and a rare word cost. It knows
no word that is not in the vocabulary, and nothing of which words follow one another.

Shapes: w words of the vocabulary, s phones of the longest and one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

import numpy as np

__all__ = ["Lexicon", "Spelt"]

EDIT, BORDER, RARITY = 1.0, 0.6, 0.25
"""What an edit costs, a border that was not heard or not kept, and a word per unit of -log of its share."""
MOST_PHONES = 18
"""Of a stretch that is one word."""
UNKNOWN = 0.75
"""Edits of a phone from which on a word is taken as unknown, and written as phones."""


@dataclass(frozen=True)
class Spelt:
    """A written word and the phones [first, last) that spell it; ``known`` is whether it is in the vocabulary."""

    word: str
    first: int
    last: int
    known: bool = True


class Lexicon:
    """Written words by their phones. ``vocabulary`` has (written word, phones joined by spaces, how often)."""

    def __init__(self, vocabulary: Sequence[tuple[str, str, int]]):
        best: dict[tuple[str, ...], tuple[str, int]] = {}
        for word, phones, count in vocabulary:
            key = tuple(phones.split(" "))
            if key not in best or count > best[key][1]:
                best[key] = word, count
        self.words = {phones: word for phones, (word, _) in best.items() if len(phones) < MOST_PHONES}
        total = sum(count for _, count in best.values()) or 1
        numbers: dict[str, int] = {}
        self._numbers = numbers
        longest = max(map(len, self.words), default=0)
        self._phones = np.full((len(self.words), longest), -1, np.int32)
        for row, phones in enumerate(self.words):
            self._phones[row, : len(phones)] = [numbers.setdefault(phone, len(numbers)) for phone in phones]
        self._lengths = np.array([len(phones) for phones in self.words], np.int64)
        self._written = list(self.words.values())
        self._prior = np.array([-RARITY * log(best[phones][1] / total) for phones in self.words], np.float32)
        self._near = lru_cache(maxsize=4096)(self._nearest)

    def __len__(self) -> int:
        return len(self.words)

    def spell(self, groups: Sequence[Sequence[str]]) -> list[Spelt]:
        """Return the words of phones that were heard as such groups; a place counts the phones of all groups."""
        found: list[Spelt] = []
        at, stretch = 0, []
        for group in (*groups, None):
            word = None if group is None else self.words.get(tuple(group))
            if (group is None or word is not None) and stretch:
                first = at - sum(map(len, stretch))
                found += [Spelt(s.word, first + s.first, first + s.last, s.known) for s in self._cut(stretch)]
                stretch = []
            if group is None:
                break
            if word is None:
                stretch.append(tuple(group))
            else:
                found.append(Spelt(word, at, at + len(group)))
            at += len(group)
        return found

    def _cut(self, groups: Sequence[tuple[str, ...]]) -> list[Spelt]:
        """Spell phones by the cheapest words, wherever their borders are."""
        phones = tuple(phone for group in groups for phone in group)
        heard = set(np.cumsum([0, *map(len, groups)]).tolist())
        cost, came = [0.0] + [np.inf] * len(phones), [(-1, "", True)] * (len(phones) + 1)
        for first in range(len(phones)):
            border = BORDER * (first not in heard)
            for size, (price, word, known) in enumerate(self._near(phones[first : first + MOST_PHONES]), 1):
                crossed = BORDER * sum(first < place < first + size for place in heard)
                total = cost[first] + price + border + crossed
                if total < cost[first + size]:
                    cost[first + size], came[first + size] = total, (first, word, known)
        found, last = [], len(phones)
        while last:
            first, word, known = came[last]
            found.append(Spelt(word, first, last, known))
            last = first
        return found[::-1]

    def _nearest(self, phones: tuple[str, ...]) -> list[tuple[float, str, bool]]:
        """Return, for each beginning of phones, the cheapest word, its cost, and whether it is known.

        One step of Levenshtein's table for each phone, over all words at once.
        """
        found = []
        places = np.arange(self._phones.shape[1] + 1, dtype=np.int32)
        row = np.broadcast_to(places, (len(self._phones), len(places))).astype(np.int32)
        rows = np.arange(len(self._phones))
        for size, phone in enumerate(phones, 1):
            unknown = (EDIT * size + 1.0, "".join(phones[:size]), False)
            if not len(rows):
                found.append(unknown)
                continue
            differs = self._phones != self._numbers.get(phone, -2)
            new = row + 1
            new[:, 1:] = np.minimum(new[:, 1:], row[:, :-1] + differs)
            row = np.minimum.accumulate(new - places, axis=1) + places
            edits = row[rows, self._lengths]
            price = EDIT * edits + self._prior
            best = int(price.argmin())
            if edits[best] > UNKNOWN * size:
                found.append(unknown)
            else:
                found.append((float(price[best]), self._written[best], True))
        return found
