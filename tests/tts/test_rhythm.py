"""Rhythm: durations that change with the seed, by word, and keep their mean."""

from types import SimpleNamespace

import torch
from unisono_tts.rhythm import swung


def reading(seed: int = 0, spread: float = 0.2, words: int = 3):
    owners = (-1, *(word for word in range(words) for _ in range(2)), -1)
    symbols = SimpleNamespace(word_of=owners, words=range(words))
    request = SimpleNamespace(seed=seed, duration_temperature=spread)
    return SimpleNamespace(request=request, ids=list(range(len(owners))), symbols=symbols)


def test_no_temperature_changes_nothing():
    durations = torch.rand(1, 8)
    assert swung(durations, [reading(spread=0.0)]) is durations


def test_a_word_s_symbols_change_together_and_words_apart():
    factors = swung(torch.ones(1, 10), [reading()])[0]
    assert torch.equal(factors[1], factors[2]) and torch.equal(factors[3], factors[4])
    assert len(factors[:8:1].unique()) == 5  # two silences and three words
    assert torch.equal(factors[8:], torch.ones(2))  # padding


def test_the_seed_decides_and_not_who_shares_the_batch():
    alone = swung(torch.ones(1, 8), [reading(3)])
    together = swung(torch.ones(2, 8), [reading(4), reading(3)])
    assert torch.equal(alone[0], together[1]) and not torch.equal(together[0], together[1])


def test_the_mean_factor_is_one_and_the_spread_is_that_asked_for():
    factors = torch.stack([swung(torch.ones(1, 402), [reading(seed, 0.3, 200)])[0, 1:401:2] for seed in range(20)])
    # 4,000 draws: the standard error of the mean is 0.005, that of the spread of logarithms 0.0034.
    assert abs(float(factors.mean()) - 1) < 0.02
    assert abs(float(factors.log().std()) - 0.3) < 0.015
