"""Variety of texts: closed forms, and BLEU worked out from its definition."""

import math
import random
from collections import Counter

import pytest
from unisono_text.measure import distinct_n, self_bleu, unigram_entropy


def bleu(text, references, max_n=4):
    """Papineni et al. 2002, n-gram by n-gram; an order of which none is found is 0.1 of one."""
    product = 1.0
    for n in range(1, max_n + 1):
        grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        matched = 0
        for gram in set(grams):
            most = max(sum(tuple(r[i : i + n]) == gram for i in range(len(r))) for r in references)
            matched += min(grams.count(gram), most)
        product *= (matched if matched else 0.1) / max(len(grams), 1)
    nearest = sorted(references, key=lambda r: (abs(len(r) - len(text)), len(r)))[0]
    penalty = 1 if len(text) >= len(nearest) else math.exp(1 - len(nearest) / len(text))
    return penalty * product ** (1 / max_n)


@pytest.mark.parametrize("letters", ["ab", "abcde", "abcdefghijklmnopqrst"])
def test_self_bleu_is_the_mean_of_its_definition(letters):
    draw = random.Random(len(letters))
    texts = ["".join(draw.choice(letters) for _ in range(draw.randint(1, 14))) for _ in range(9)]
    texts.append(texts[0])
    expected = [bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(sum(expected) / len(expected), rel=1e-12)
    assert self_bleu(texts, 2) == pytest.approx(
        sum(bleu(text, texts[:i] + texts[i + 1 :], 2) for i, text in enumerate(texts)) / len(texts), rel=1e-12
    )


def test_self_bleu_of_copies_and_of_strangers():
    assert self_bleu([["to", "be", "or", "not", "to", "be"]] * 3) == pytest.approx(1.0)
    strangers = [[f"{number}-{place}" for place in range(8)] for number in range(4)]
    assert self_bleu(strangers) == pytest.approx((0.1**4 / (8 * 7 * 6 * 5)) ** 0.25)
    with pytest.raises(ValueError, match="no others"):
        self_bleu(["a"])
    with pytest.raises(ValueError, match="without tokens"):
        self_bleu(["a", ""])


def test_entropy_of_tokens():
    assert unigram_entropy([7] * 9) == 0
    assert unigram_entropy("abcdefgh") == pytest.approx(math.log(8))
    weights = Counter("the cat sat on the mat")
    expected = -sum(n / 22 * math.log(n / 22) for n in weights.values())
    assert unigram_entropy("the cat sat on the mat") == pytest.approx(expected)
    with pytest.raises(ValueError, match="without tokens"):
        unigram_entropy([])


def test_distinct_counts_different_ones():
    assert distinct_n(["abab"], 1) == 0.5
    assert distinct_n(["abab", "ab"], 2) == pytest.approx(2 / 4)
    assert distinct_n([["x"] * 10, ["x"] * 10], 2) == pytest.approx(1 / 18)
    assert math.isnan(distinct_n(["a", "b"], 2))
    with pytest.raises(ValueError, match="n=0"):
        distinct_n(["a"], 0)
