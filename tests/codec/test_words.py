"""Word data: the order of words, and which takes of a digit are held out."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from unisono_codec.voices.words import HELD_TAKES, MadeDigits, words_of
from unisono_sound.corpus import Utterance


def test_digits_stand_in_their_own_order_and_before_other_words():
    said = ["two", "apple", "zero", "ten", "one", "two"]
    items = [SimpleNamespace(utterance=SimpleNamespace(text=text)) for text in said]
    assert words_of(items) == ["zero", "one", "two", "apple", "ten"]


class Split:
    def _split(self, kept):
        self.split = kept


class Digits(MadeDigits, Split):
    pass


@pytest.mark.parametrize(("takes", "held"), [(1, 0), (HELD_TAKES, 0), (HELD_TAKES + 1, HELD_TAKES), (6, HELD_TAKES)])
def test_the_last_takes_of_each_digit_and_voice_are_held_out(takes, held):
    kept = {}
    for number in range(takes):
        for speaker in ("plain", "f2"):
            for text in ("one", "two"):
                id = f"{number}-{speaker}-{text}"
                kept[id] = SimpleNamespace(utterance=Utterance(id, Path(), text, speaker))
    data = Digits()
    data._split(kept)
    for item in data.split.values():
        assert item.utterance.held_out == (int(item.utterance.id[0]) >= takes - held)
