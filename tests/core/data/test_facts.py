"""Facts are checked when they are made, are strict JSON both ways, and still read like the dict that they were."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from unisono.data import Facts, facts_of, to_plain
from unisono.errors import DataError, UnisonoError
from unisono.model import Model


@dataclass(frozen=True)
class Table:
    """A part with a JSON of its own."""

    legs: int

    def to_dict(self):
        return {"legs": self.legs}

    @classmethod
    def from_dict(cls, values):
        return cls(int(values["legs"]))


@dataclass(frozen=True, kw_only=True)
class CardFacts(Facts):
    suits: tuple[str, ...]
    table: Table
    odds: dict[str, float] = field(default_factory=dict)
    values: int = 13
    spare: Table | None = None


@dataclass(frozen=True, kw_only=True)
class TrumpFacts(CardFacts):
    trump: str | None = None


MADE = CardFacts(suits=["hearts", "clubs"], table=Table(3), odds={"hearts": 1})


def test_facts_are_strict_json_both_ways():
    text = json.dumps(MADE.to_json(), allow_nan=False)
    again = CardFacts.from_json(json.loads(text))
    assert again == MADE and again.suits == ("hearts", "clubs") and again.table == Table(3)
    assert again.odds == {"hearts": 1.0} and again.spare is None
    assert json.loads(text) == {
        "suits": ["hearts", "clubs"], "table": {"legs": 3}, "odds": {"hearts": 1.0}, "values": 13,
    }  # fmt: skip


def test_facts_read_like_the_dict_they_were():
    assert MADE["suits"] == ["hearts", "clubs"] and MADE["table"] == {"legs": 3}
    assert MADE.get("spare", "none") == "none" and "spare" not in MADE and MADE.get("trump") is None
    assert {**MADE, "values": 7}["values"] == 7 and dict(MADE) == MADE and len(MADE) == 4
    assert hash(MADE) == hash(CardFacts.from_json(dict(MADE)))


def test_facts_of_older_exports_take_defaults():
    assert CardFacts.from_json({"suits": [], "table": {"legs": 4}}).values == 13


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"value": 1}, "'value'.*did you mean 'values'"),
        ({"table": None}, "table"),
        ({"table": {"arms": 4}}, "table"),
        ({"suits": "hearts"}, "suits"),
        ({"suits": ["hearts", 3]}, r"suits\[1\]"),
        ({"suits": [np.str_("hearts")]}, r"suits\[0\].*numpy.str_"),
        ({"values": "13"}, "values"),
        ({"values": True}, "values"),
        ({"values": 1.5}, "values"),
        ({"values": np.int64(13)}, "values is a numpy.int64"),
        ({"odds": {"hearts": np.float32(0.5)}}, r"odds\['hearts'\] is a numpy.float32"),
        ({"odds": {"hearts": np.float64(0.5)}}, r"odds\['hearts'\] is a numpy.float64"),
        ({"odds": np.zeros(3)}, "odds is a numpy.ndarray"),
        ({"odds": {3: 0.5}}, "odds has the key 3"),
        ({"odds": {"hearts": float("nan")}}, r"odds\['hearts'\]=nan"),
        ({"suits": ["a \ud83d box"]}, r"suits\[0\].*surrogate"),
        ({"suits": {"hearts"}}, "suits is a set"),
    ],
)
def test_what_is_no_fact_is_named_by_key(change, named):
    with pytest.raises(DataError, match=named):
        CardFacts.from_json({"suits": [], "table": {"legs": 4}, **change})


def test_missing_facts_are_named():
    with pytest.raises(DataError, match="'table'"):
        CardFacts.from_json({"suits": []})


def test_a_model_takes_its_own_family_one_that_extends_it_or_their_json():
    more = TrumpFacts(suits=("clubs",), table=Table(1), trump="clubs")
    assert facts_of(MADE, CardFacts) is MADE
    assert facts_of(more, CardFacts) == {"suits": ["clubs"], "table": {"legs": 1}, "odds": {}, "values": 13}
    assert facts_of(dict(MADE), CardFacts) == MADE and isinstance(facts_of(dict(MADE), CardFacts), CardFacts)
    with pytest.raises(DataError, match="'trump'"):
        facts_of(dict(more), CardFacts)
    with pytest.raises(DataError, match="'suits'"):
        facts_of({"size": 32}, CardFacts)
    with pytest.raises(DataError, match="int"):
        facts_of(3, CardFacts)


@pytest.mark.parametrize("facts", [{"scale": np.float32(2)}, {"sizes": {1: 2}}, {"deep": [{"x": [np.arange(3)]}]}])
def test_facts_without_a_family_are_plain_json_before_the_first_step(facts):
    with pytest.raises(UnisonoError, match=r"scale|sizes|deep"):
        Model().build(facts)


def test_places_of_plain_values():
    assert to_plain({"a": (1, 2.5, None, "x", True)}, "facts") == {"a": [1, 2.5, None, "x", True]}
    with pytest.raises(DataError, match=r"facts\['a'\]\[0\] is a complex"):
        to_plain({"a": [1j]}, "facts")
