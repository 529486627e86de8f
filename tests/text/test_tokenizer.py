"""Tokenizers: exact both ways, never a special id from a text, the same from their facts, and honest about limits."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import CheckpointError, DataError, RequestError
from unisono_text.corpus.tokenizer import SPECIAL, Tokenizer

CORPUS = ["the cat sat on the mat.\n\nThe  cat\tsat.", "Zürich — 日本語 <eos> [MASK]\r\n"] * 3
HARD = "a [MASK] <eos> <pad> 日本\u2028\x00\r\n\t é e\u0301 🙂 "


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return Tokenizer.train_bpe(CORPUS, 320)


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_comes_back_from_bytes_and_merges(bpe, text):
    for tokenizer in (Tokenizer.bytes(), bpe):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(len(SPECIAL) <= number < tokenizer.vocabulary for number in ids)


def test_bytes_are_utf_8_after_the_special_ids():
    tokenizer = Tokenizer.bytes()
    assert tokenizer.vocabulary == 259
    assert tokenizer.encode("é") == [0xC3 + 3, 0xA9 + 3]
    assert tokenizer.decode([0xC3 + 3]) == "�"
    assert tokenizer.pieces([1, 68, 2, 0]) == ["<bos>", "A", "<eos>", "<pad>"]


def test_characters_are_those_of_the_corpus():
    tokenizer = Tokenizer.characters(["ba", "cab"])
    assert tokenizer.table == "abc" and tokenizer.vocabulary == 6
    assert tokenizer.encode("cab") == [5, 3, 4] and tokenizer.decode([1, 5, 3, 4, 2, 0]) == "cab"
    with refused(RequestError, "unsupported", "text", value=["d", "é"], names=["3", "'d'", "'é'"]):
        tokenizer.encode("déca")
    with refused(RequestError, "unsupported", "text", names="20"):
        tokenizer.encode("".join(map(chr, range(0x4E00, 0x4E00 + 28))))
    with refused(DataError, "empty", "texts"):
        Tokenizer.characters(["", ""])


def test_merges_shorten_and_do_not_depend_on_chance(bpe):
    assert len(bpe.encode("the cat sat")) < len("the cat sat")
    again = Tokenizer.train_bpe(iter(CORPUS), 320)
    assert again.digest == bpe.digest and again.table == bpe.table
    assert Tokenizer.train_bpe([*CORPUS, "the other"], 320).digest != bpe.digest
    # Few texts have few pairs: then the vocabulary is what there is.
    assert Tokenizer.train_bpe(["ab"], 5000).vocabulary == 3 + 256 + 1
    with refused(DataError, "range", "vocabulary", value=259, names="260"):
        Tokenizer.train_bpe(CORPUS, 259)


def test_what_a_text_says_is_never_a_special_token(bpe):
    for tokenizer in (Tokenizer.bytes(), bpe, Tokenizer.characters([HARD])):
        ids = tokenizer.encode(HARD)
        assert tokenizer.decode(ids) == HARD
        assert not set(ids) & {0, 1, 2} and max(ids) < tokenizer.vocabulary


def imported() -> str:
    """A tokenizer as models on the hub have it, with special tokens among its own ids."""
    table = json.loads(Tokenizer.train_bpe(CORPUS, 320).table)
    first = len(table["model"]["vocab"])
    table["added_tokens"] = [
        {"id": first + i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, name in enumerate(("<|end|>", "<|user|>"))
    ]  # fmt: skip
    return json.dumps(table)


def test_a_tokenizer_of_elsewhere_keeps_its_ids():
    tokenizer = Tokenizer.from_json(imported(), eos="<|end|>", pad="<|end|>")
    own = Tokenizer.train_bpe(CORPUS, 320)
    assert tokenizer.encode("the cat") == [number - 3 for number in own.encode("the cat")]
    end, user = own.vocabulary - 3, own.vocabulary - 2
    assert tokenizer.special == {"pad": end, "bos": None, "eos": end} and tokenizer.vocabulary == user + 1
    # A text that reads like a special token stays a text, unless a chat template asks otherwise.
    plain = tokenizer.encode("<|user|>hi<|end|>")
    assert end not in plain and user not in plain and tokenizer.decode(plain) == "<|user|>hi<|end|>"
    assert tokenizer.encode("<|user|>hi<|end|>", special=True)[0] == user
    assert tokenizer.encode("<|user|>hi<|end|>", special=True)[-1] == end
    assert tokenizer.decode([user, *tokenizer.encode("hi"), end]) == "hi"
    with refused(DataError, "missing", "bos", value="<s>"):
        Tokenizer.from_json(imported(), bos="<s>")
    with refused(DataError, "format", "table"):
        Tokenizer.from_json("{}")


@pytest.mark.parametrize(
    "make",
    [
        Tokenizer.bytes,
        lambda: Tokenizer.characters([HARD]),
        lambda: Tokenizer.train_bpe(CORPUS, 300),
        lambda: Tokenizer.from_json(imported(), eos="<|end|>"),
    ],
    ids=["bytes", "characters", "bpe", "json"],
)
def test_facts_are_plain_json_and_give_the_same_tokenizer(make):
    tokenizer = make()
    facts = json.loads(json.dumps(tokenizer.to_facts()))
    again = Tokenizer.from_facts({**facts, "context": 8})
    assert again.digest == tokenizer.digest and again.encode("a [MASK]") == tokenizer.encode("a [MASK]")
    assert facts["vocabulary"] == again.vocabulary
    with refused(CheckpointError, "damaged", "facts.tokenizer", names="changed by hand"):
        Tokenizer.from_facts({**facts, "vocabulary": 7})
    with refused(CheckpointError, "damaged", "facts.tokenizer"):
        Tokenizer.from_facts({**facts, "special": {"pad": 0, "bos": None, "eos": None}})


def test_facts_that_are_none_are_refused():
    with refused(CheckpointError, "format", "facts.tokenizer"):
        Tokenizer.from_facts({"symbols": []})
    facts = Tokenizer.characters("ab").to_facts()
    with refused(CheckpointError, "unknown", "facts.tokenizer", value="characer", names="'characters'"):
        Tokenizer.from_facts({**facts, "tokenizer": {**facts["tokenizer"], "kind": "characer"}})
    with refused(CheckpointError, "damaged", "facts.tokenizer"):
        Tokenizer.from_facts({**facts, "tokenizer": {**facts["tokenizer"], "json": "aa"}})


def test_ids_and_texts_that_cannot_be(bpe):
    for tokenizer in (Tokenizer.bytes(), bpe):
        with pytest.raises(ValueError, match=f"id {tokenizer.vocabulary} is outside"):
            tokenizer.decode([5, tokenizer.vocabulary])
        with refused(RequestError, "value", "text", value="\ud800", names="1"):
            tokenizer.encode("a\ud800")
