"""Units: what is read comes back, JSON is strict, and what is unknown is named."""

import json

import pytest
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_asr.units import BLANK, SPACE, Units, spelled
from unisono_sound.text import Symbols, front_end

TEXTS = ("the cat sat", "a cat and the mat", "that is a mat")
READINGS = [[list(word) for word in text.split()] for text in TEXTS]


@pytest.fixture(params=["characters", "bpe"])
def units(request):
    return Units.of_corpus(request.param, READINGS, size=20)


def test_what_is_written_is_read_again(units):
    for text, words in zip(TEXTS, READINGS, strict=True):
        ids = units.encode(words)
        assert min(ids) > 0 and units.text(ids) == text
        spelt = ["".join(units.tokens[ids[place]].lstrip("▁") for place in word) for word in units.words(ids)]
        assert spelt == text.split()


def test_json_is_the_same_units(units):
    written = json.loads(json.dumps(units.to_dict()))
    assert Units.from_dict(written) == units
    assert Units.from_dict(written).encode(READINGS[0]) == units.encode(READINGS[0])


def test_ids_follow_the_front_ends_table_and_begin_with_blank_and_space():
    made = Units.of_corpus("phones", [[["t", "a"], ["b"]]], order=["b", "ˈa", "a", "t"])
    assert made.tokens == (BLANK, SPACE, "b", "a", "t")
    assert made.encode([["t", "a"], ["b"]]) == [4, 3, 1, 2]
    assert made.symbols([4, 3, 1, 0, 2]) == ["t", "a", "b"]


def test_merges_are_learnt_up_to_the_size():
    small, large = (Units.of_corpus("bpe", READINGS, size=size) for size in (12, 24))
    assert len(small) == 12 < len(large) <= 24
    assert len(large.encode(READINGS[0])) < len(small.encode(READINGS[0]))


def test_stress_and_pauses_are_not_recognised():
    read = Symbols(("<start>", "ˈa", "b", " ", "ˌe", ",", "<end>"), (), (-1, 0, 0, -1, 1, -1, -1))
    assert spelled(read) == [["a", "b"], ["e"]]


def test_a_front_end_of_characters_is_spelled_word_by_word():
    assert spelled(front_end("characters")("The cat, sat.")) == [list("the"), list("cat"), list("sat")]


def test_what_was_never_heard_is_named(units):
    with refused(RequestError, "unknown", "text", value=["z"], names="z"):
        units.encode([["z"]])


@pytest.mark.parametrize(
    "change, code, path",
    [
        ({"kind": "word"}, "unknown", "units.kind"),
        ({"tokens": ["a", "b"]}, "format", "units.tokens"),
        ({"tokens": [BLANK, "a", "a"]}, "exists", "units.tokens"),
        ({"tokens": "abc"}, "type", "units.tokens"),
        ({"tokens": [BLANK, 1]}, "type", "units.tokens"),
        ({"table": "{}"}, "conflict", "units.table"),
        ({"kind": 3}, "type", "units.kind"),
        ({"size": 3}, "unknown", "units.size"),
    ],
)
def test_other_json_is_refused(change, code, path):
    with refused(DataError, code, path):
        Units.from_dict({"kind": "characters", "tokens": [BLANK, "a"], "table": "", **change})


def test_no_room_for_the_letters_is_refused():
    with refused(DataError, "range", "data.units.size", value=4):
        Units.of_corpus("bpe", READINGS, size=4)


def test_a_table_that_is_none_is_refused():
    with refused(DataError, "format", "units.table"):
        Units("bpe", (BLANK, "a"), "{}").encode([["a"]])
