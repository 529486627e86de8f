"""Facts are checked when they are made, are strict JSON both ways, and still read like the dict that they were."""

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from refused import refused
from unisono.data import Facts, facts_of, to_plain
from unisono.errors import DataError
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
    ("change", "code", "path", "value"),
    [
        ({"value": 1}, "unknown", "value", ["value"]),
        ({"table": None}, "type", "table", None),
        ({"table": {"arms": 4}}, "type", "table", {"arms": 4}),
        ({"suits": "hearts"}, "type", "suits", "hearts"),
        ({"suits": ["hearts", 3]}, "type", "suits[1]", 3),
        ({"suits": [np.str_("hearts")]}, "type", "suits[0]", "numpy.str_"),
        ({"values": "13"}, "type", "values", "13"),
        ({"values": True}, "type", "values", True),
        ({"values": 1.5}, "type", "values", 1.5),
        ({"values": np.int64(13)}, "type", "values", "numpy.int64"),
        ({"odds": {"hearts": np.float32(0.5)}}, "type", "odds['hearts']", "numpy.float32"),
        ({"odds": {"hearts": np.float64(0.5)}}, "type", "odds['hearts']", "numpy.float64"),
        ({"odds": np.zeros(3)}, "type", "odds", "numpy.ndarray"),
        ({"odds": {3: 0.5}}, "type", "odds", 3),
        ({"odds": {"hearts": math.inf}}, "range", "odds['hearts']", math.inf),
        ({"suits": ["a \ud83d box"]}, "damaged", "suits[0]", "a \ud83d box"),
        ({"suits": {"hearts"}}, "type", "suits", "set"),
    ],
)
def test_what_is_no_fact_is_named_by_key(change, code, path, value):
    with refused(DataError, code, path, value=value, names="did you mean 'values'" if code == "unknown" else path):
        CardFacts.from_json({"suits": [], "table": {"legs": 4}, **change})


def test_missing_facts_are_named():
    with refused(DataError, "missing", "table", value=["table"]):
        CardFacts.from_json({"suits": []})


def test_a_model_takes_its_own_family_one_that_extends_it_or_their_json():
    more = TrumpFacts(suits=("clubs",), table=Table(1), trump="clubs")
    assert facts_of(MADE, CardFacts) is MADE
    assert facts_of(more, CardFacts) == {"suits": ["clubs"], "table": {"legs": 1}, "odds": {}, "values": 13}
    assert facts_of(dict(MADE), CardFacts) == MADE and isinstance(facts_of(dict(MADE), CardFacts), CardFacts)
    with refused(DataError, "unknown", "trump", value=["trump"]):
        facts_of(dict(more), CardFacts)
    with refused(DataError, "unknown", "size", value=["size"], names="suits"):
        facts_of({"size": 32}, CardFacts)
    with refused(DataError, "type", "facts", value="int"):
        facts_of(3, CardFacts)


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        ({"scale": np.float32(2)}, "facts['scale']"),
        ({"sizes": {1: 2}}, "facts['sizes']"),
        ({"deep": [{"x": [np.arange(3)]}]}, "facts['deep'][0]['x'][0]"),
    ],
)
def test_facts_without_a_family_are_plain_json_before_the_first_step(facts, path):
    with refused(DataError, "type", path, names=path):
        Model().build(facts)


def test_places_of_plain_values():
    assert to_plain({"a": (1, 2.5, None, "x", True)}, "facts") == {"a": [1, 2.5, None, "x", True]}
    with refused(DataError, "type", "facts['a'][0]", value="complex"):
        to_plain({"a": [1j]}, "facts")
