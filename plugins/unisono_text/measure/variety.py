"""Variety: the entropy of texts' tokens, how alike texts are, and how often they repeat.

A model that says one good sentence again and again is thought very likely by any judge; perplexity under a judge
says nothing without these. Texts are sequences of tokens, words or ids, and anything that can be hashed will do.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import fmean

Tokens = Sequence[Hashable]
EPSILON = 0.1


def unigram_entropy(tokens: Tokens) -> float:
    """Return the entropy, in nats, of which tokens a text has: 0 for one token again and again, at most ln n.

    Of generated texts it is taken text by text and averaged (Zheng et al. 2024, arXiv:2409.02908, §5). Raises
    ``ValueError`` for a text without tokens.
    """
    if not len(tokens):
        raise ValueError("a text without tokens has no entropy")
    return -math.fsum(count / len(tokens) * math.log(count / len(tokens)) for count in Counter(tokens).values())


def distinct_n(texts: Sequence[Tokens], n: int = 2) -> float:
    """Return which share of all n-grams of some texts are different ones, 0 to 1 (Li et al. 2016, arXiv:1510.03055).

    NaN where no text has ``n`` tokens. It falls with the number of texts: compare equally many of equal length.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams) if grams else math.nan


def self_bleu(texts: Sequence[Tokens], max_n: int = 4) -> float:
    """Return how alike texts are: the mean BLEU of each with all others as its references, 0 to 1; lower is varied.

    Zhu et al. 2018 (Texygen, arXiv:1802.01886). BLEU is of each sentence by itself, over n-grams up to ``max_n``
    with equal weights and the closest length for its brevity penalty; an order of which none is found counts as
    0.1 of one (Chen & Cherry 2014, method 1), an order that a text is too short for, as 0.1 of one in one.

    Raises ``ValueError`` for fewer than two texts, and for a text without tokens.
    """
    if len(texts) < 2:
        raise ValueError(f"{len(texts)} text has no others to be alike to: give at least 2")
    if not all(len(text) for text in texts):
        raise ValueError("a text without tokens cannot be compared: leave it out, and say how many there were")
    counts = [[Counter(_grams(text, n)) for text in texts] for n in range(1, max_n + 1)]
    # How often an n-gram comes in the text that has it most often, which text that is, and how often in the next.
    most: list[dict[Hashable, tuple[int, int, int]]] = []
    for of_order in counts:
        table: dict[Hashable, tuple[int, int, int]] = {}
        for number, found in enumerate(of_order):
            for gram, count in found.items():
                first, whose, second = table.get(gram, (0, -1, 0))
                table[gram] = (count, number, first) if count > first else (first, whose, max(second, count))
        most.append(table)
    lengths = Counter(len(text) for text in texts)
    return fmean(
        _bleu(number, len(text), [(of_order[number], table) for of_order, table in zip(counts, most, strict=True)],
              lengths)
        for number, text in enumerate(texts)
    )  # fmt: skip


def _bleu(
    number: int,
    length: int,
    orders: list[tuple[Counter, dict[Hashable, tuple[int, int, int]]]],
    lengths: Counter[int],
) -> float:
    """Return the BLEU of one text, all others its references."""
    logs = []
    for found, table in orders:
        matched = 0
        for gram, count in found.items():
            first, whose, second = table[gram]
            matched += min(count, second if whose == number else first)
        total = sum(found.values())
        logs.append(math.log((matched or EPSILON) / max(total, 1)))
    others = lengths - Counter([length])
    closest = min(others, key=lambda other: (abs(other - length), other))
    penalty = 1.0 if length >= closest else math.exp(1 - closest / length)
    return penalty * math.exp(fmean(logs))


def _grams(text: Tokens, n: int) -> list[tuple[Hashable, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
