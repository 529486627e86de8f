"""The lexicon against the cheapest of all ways to spell, and calibration against its definition."""

import itertools
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono_asr.calibration import Calibration, right_ones
from unisono_asr.lexicon import BORDER, RARITY, Lexicon
from unisono_sound.measure import unit_error_rate

VOCABULARY = [("cat", "k æ t", 5), ("at", "æ t", 9), ("cab", "k æ b", 1), ("attack", "ə t æ k", 2), ("a", "ə", 20)]


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon(VOCABULARY)


def words(lexicon, *groups):
    return [spelt.word for spelt in lexicon.spell([group.split() for group in groups])]


def test_words_that_are_heard_whole_are_written(lexicon):
    assert words(lexicon, "ə", "k æ t") == ["a", "cat"]
    assert lexicon.spell([]) == []


def test_the_more_frequent_of_two_words_that_sound_alike_is_written():
    alike = Lexicon([("two", "t u", 3), ("too", "t u", 7), ("to", "t u", 5)])
    assert words(alike, "t u") == ["too"]


def test_borders_that_were_not_heard_are_found_and_false_ones_dropped(lexicon):
    assert words(lexicon, "ə k æ t") == ["a", "cat"]
    assert words(lexicon, "ə t", "æ k") == ["attack"]
    assert words(lexicon, "k æ p") == ["cab"] or words(lexicon, "k æ p") == ["cat"]


def test_what_no_word_is_near_is_written_as_phones(lexicon):
    found = lexicon.spell([["ʃ", "ʃ", "ʃ", "ʃ"]])
    assert [(spelt.word, spelt.known) for spelt in found] == [("ʃʃʃʃ", False)]
    assert [spelt.word for spelt in Lexicon([]).spell([["k", "æ"]])] == ["kæ"]


def cheapest(phones, heard):
    """The cost of the best way to cut phones into words, by trying all."""
    total = sum(count for _, _, count in VOCABULARY)
    best = None
    for cuts in itertools.product([False, True], repeat=len(phones) - 1):
        places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(phones)]
        cost = BORDER * len(set(places[1:-1]) ^ (heard - {0, len(phones)}))
        for first, last in itertools.pairwise(places):
            part = phones[first:last]
            choices = [
                (unit_error_rate(known.split(), part).errors, -RARITY * log(count / total))
                for _, known, count in VOCABULARY
            ]
            edits, prior = min(choices, key=sum)
            cost += len(part) + 1.0 if edits > 0.75 * len(part) else edits + prior
        best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("kætəb"), min_size=1, max_size=6), st.integers(0, 63))
def test_no_way_to_spell_is_cheaper(phones, mask):
    lexicon = Lexicon(VOCABULARY)
    borders = [0, *(i + 1 for i in range(len(phones) - 1) if mask >> i & 1), len(phones)]
    groups = [tuple(phones[a:b]) for a, b in itertools.pairwise(borders)]
    found = lexicon._cut(groups)
    assert [spelt.first for spelt in found] == [0, *(spelt.last for spelt in found[:-1])] and found[-1].last == len(
        phones
    )
    places = {spelt.last for spelt in found[:-1]}
    cost = BORDER * len(places ^ set(borders[1:-1]))
    for spelt in found:
        cost += lexicon._near(tuple(phones[spelt.first :]))[spelt.last - spelt.first - 1][0]
    assert cost == pytest.approx(cheapest(phones, set(borders)), abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_what_is_right_is_as_many_as_an_alignment_of_fewest_edits_keeps(said, heard):
    jiwer = pytest.importorskip("jiwer")
    found = unit_error_rate(said, heard)
    assert found.total == len(said) and found.errors == found.substitutions + found.deletions + found.insertions
    assert len(said) - found.deletions == len(heard) - found.insertions
    right = right_ones(said, heard)
    assert len(right) == len(heard)
    if said:
        assert found.errors == jiwer.process_characters(said, heard or "").substitutions + (
            (other := jiwer.process_characters(said, heard or "")).deletions + other.insertions
        )
    kept = "".join(letter for letter, ok in zip(heard, right, strict=True) if ok)
    letters = iter(said)
    assert all(letter in letters for letter in kept)  # in their order


def test_calibration_by_hand():
    found = Calibration()
    assert (found.error, found.accuracy, found.mean_confidence) == (None, None, None)
    found.add([0.95, 0.91, 0.35, 1.0], [True, False, True, True])
    # bins [.9, 1]: sum of confidences 2.86 against 2 right; [.3, .4): .35 against 1
    assert found.error == pytest.approx((abs(2.86 - 2) + abs(0.35 - 1)) / 4)
    assert (found.accuracy, found.mean_confidence) == (0.75, pytest.approx(0.8025))
