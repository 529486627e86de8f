"""What rows ask, by hand: seeds, keys, the index's counts, names beside, and errors that end a batch."""

import os
from types import SimpleNamespace

import pytest
from pydantic import Field
from refused import refused
from toy import ToyRequest, open_toy
from unisono.batch.index import Index
from unisono.batch.making import Block, Failure, Maker, Plan
from unisono.batch.requests import Requests, own_seed, request_fingerprint
from unisono.batch.rows import Row
from unisono.batch.shards import Entry, beside
from unisono.errors import DataError, UnisonoError
from unisono.request import FILE, Request


class FileRequest(Request):
    voice: str = Field(default="", json_schema_extra=FILE)


def row(given) -> Row:
    return Row("lines.txt", 1, given)


def test_a_seed_of_nought_that_is_given_is_the_seed():
    requests = Requests(ToyRequest, "text", {})
    given, own = requests.asked(row({"text": "One.", "seed": 0})), requests.asked(row({"text": "One."}))
    assert given.seed == 0 and own.seed == own_seed(ToyRequest(text="One.")) != 0
    assert given.key != own.key


def test_a_rows_own_seed_is_of_its_other_fields():
    assert own_seed(ToyRequest(text="One.", seed=5)) == own_seed(ToyRequest(text="One."))
    assert own_seed(ToyRequest(text="One.")) != own_seed(ToyRequest(text="Two."))


def test_a_file_of_another_age_or_size_is_another_request(tmp_path):
    path = tmp_path / "voice.wav"
    path.write_bytes(b"12")
    os.utime(path, ns=(10**18, 10**18))
    asked = FileRequest(voice=str(path))
    first = request_fingerprint(asked, "model")
    assert request_fingerprint(asked, "model") == first != request_fingerprint(asked, "another")
    os.utime(path, ns=(10**18, 10**18 + 10**9))
    second = request_fingerprint(asked, "model")
    path.write_bytes(b"123")
    os.utime(path, ns=(10**18, 10**18 + 10**9))
    assert len({first, second, request_fingerprint(asked, "model")}) == 3


def test_the_index_counts_by_hand(tmp_path):
    index = Index(tmp_path / "index")
    try:
        entries = [Entry(key, 1, None, None, 4) for key in ("a", "b", "left")]
        index.made(0, entries)
        for number, key in enumerate(["a", "b", "c", "a", "d"]):
            index.row(number, row("text"), key)
        index.bad_row(5, row("bad"), DataError("bad", code="value"))
        index.failed([Failure("d", "why", "failed")])
        assert index.left_over() == 1
        assert index.counts() == (1, 2)  # "a" twice; a bad row and a failed one
        assert index.has("b") and not index.has("c")
    finally:
        index.close()


def test_what_a_json_was_made_from_stands_under_another_name():
    assert beside(".json") == ".about.json"
    assert beside(".wav") == ".json"


@pytest.mark.parametrize(("code", "ends"), [("write", True), ("value", False)])
def test_a_disk_that_takes_no_more_ends_a_batch_and_another_error_a_row(tmp_path, code, ends):
    class Unwritten:
        amount = None

        def encoded(self, suffix):
            raise UnisonoError("no", code=code, path="output", value=suffix)

    class Stub:
        model = SimpleNamespace(text_field="text")

        def request(self, fields):
            return ToyRequest(**fields)

        def __call__(self, requests):
            return [Unwritten() for _ in requests]

    plan = Plan(open_toy, "", tmp_path, "files", ".txt", batch_size=2, threads=1)
    block = Block(0, (Requests(ToyRequest, "text", {}).asked(row("One.")),))
    if ends:
        with refused(UnisonoError, code="write"):
            Maker(plan, Stub())(block)
    else:
        done = Maker(plan, Stub())(block)
        assert done.aside is None and [failure.code for failure in done.failures] == ["value"]
    assert not list(tmp_path.iterdir())
