"""Prompts and answers: what is given, what is learnt, what is dropped."""

import json
from pathlib import Path
from types import SimpleNamespace

import flat
import pytest
from refused import refused
from unisono.data import item_generator
from unisono.errors import DataError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono_text.corpus.chat import ChatData
from unisono_text.corpus.tokenizer import Tokenizer
from unisono_text.filling.request import prompt_of

PAIRS = [{"prompt": f"What is {n}?", "answer": f"{n} is a number."} for n in range(20)]


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def chat(root, **kwargs) -> ChatData:
    data = flat.make(ChatData, root=root, **{"tokenizer": "bytes", "context": 80, "batch_size": 2, "val": 0, **kwargs})
    data.prepare(progress=False)
    return data


def items(data: ChatData, epoch: int = 0) -> list[dict]:
    return [data.train_set.item(i, item_generator(0, epoch, i)) for i in range(len(data.train_set))]


def test_a_prompt_is_given_and_an_answer_is_learnt(tmp_path):
    data = chat(write(tmp_path / "x.jsonl", PAIRS), fill="one")
    for item, pair in zip(items(data), PAIRS, strict=True):
        tokens, end = item["tokens"].tolist(), data.tokenizer.special["eos"]
        assert data.tokenizer.decode(tokens[: item["prompt"]]) == f"User: {pair['prompt']}\nAssistant: "
        # The request with chat=True has the same tokens.
        model = SimpleNamespace(tokenizer=data.tokenizer, facts=data.describe())
        assert prompt_of(model, pair["prompt"], True)[0] == tokens[: item["prompt"]]
        assert tokens[item["prompt"] :] == [*data.tokenizer.encode(pair["answer"]), end]
    facts = data.describe()
    assert facts["chat"] == {"before": "User: ", "between": "\nAssistant: ", "after": "\n"}
    assert facts["sample_texts"][0] == "User: What is 0?\nAssistant: "
    answers = [pair["answer"] for pair in PAIRS]
    assert facts["characters_per_token"] == pytest.approx(sum(map(len, answers)) / sum(len(a) + 1 for a in answers))


def test_answers_are_followed_by_ends_that_count(tmp_path):
    root = write(tmp_path / "x.jsonl", PAIRS)
    plain, drawn, whole = (chat(root, fill=fill) for fill in ("one", "draw", "context"))
    end = drawn.tokenizer.special["eos"]
    for least, item, full in zip(items(plain), items(drawn), items(whole), strict=True):
        count = len(least["tokens"])
        assert item["tokens"][:count].tolist() == least["tokens"].tolist()
        assert set(item["tokens"][count:].tolist()) <= {end} and count <= len(item["tokens"]) <= 80
        assert len(full["tokens"]) == 80 and set(full["tokens"][count:].tolist()) == {end}
        assert item["prompt"] == full["prompt"] == least["prompt"]
    lengths = [[len(item["tokens"]) for item in items(drawn, epoch)] for epoch in (0, 0, 1)]
    assert lengths[0] == lengths[1] != lengths[2] and len(set(lengths[0])) > 8
    batch = next(iter(drawn.train_dataloader()))
    assert (batch["prompt"] > 0).all() and (batch["lengths"] > batch["prompt"]).all()
    # In validation, epochs are alike.
    held = chat(root, fill="draw", val=0.3).val_set
    sizes = [[len(held.item(i, item_generator(0, epoch, i))["tokens"]) for i in range(len(held))] for epoch in (0, 1)]
    assert sizes[0] == sizes[1] and len(set(sizes[0])) > 2


def test_each_answer_of_a_conversation_is_an_item(tmp_path):
    said = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "2+2?"), ("assistant", "4")]
    row = {"messages": [{"role": role, "content": text} for role, text in said]}
    data = chat(write(tmp_path / "x.jsonl", [row]), fill="one", context=200)
    texts = [(i["prompt"], data.tokenizer.decode(i["tokens"].tolist())) for i in items(data)]
    assert [text for _, text in texts] == [
        "Be brief.\nUser: Hi\nAssistant: Hello",
        "Be brief.\nUser: Hi\nAssistant: Hello\nUser: 2+2?\nAssistant: 4",
    ]
    assert [text[given:] for given, text in texts] == ["Hello", "4"]


def special_tokens(tmp_path) -> Path:
    """An export as fine-tuning begins from: a tokenizer with special tokens, and the form that it was trained with."""
    table = json.loads(Tokenizer.train_bpe(["hello there"], 270).table)
    first = len(table["model"]["vocab"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    table["added_tokens"] = [
        {"id": first + i, "content": name, **flags} for i, name in enumerate(("<|end|>", "<|user|>", "<|model|>"))
    ]
    facts = Tokenizer.from_json(json.dumps(table), eos="<|end|>").to_facts()
    facts |= {"context": 32, "characters_per_token": 1.0, "sample_texts": []}
    facts["chat"] = {"before": "<|user|>", "between": "<|model|>", "after": "<|end|>"}
    return save_export(Recipe.read("text/mdlm-tiny").build_model(facts).eval(), tmp_path / "export")


@pytest.mark.parametrize("tokenizer", ["bpe", "export"])
def test_training_and_requests_write_a_prompt_alike(tmp_path, tokenizer):
    rows = [{"prompt": f"hello {n} <|user|>", "answer": "there"} for n in range(4)]
    where = str(special_tokens(tmp_path)) if tokenizer == "export" else tokenizer
    data = chat(write(tmp_path / "x.jsonl", rows), tokenizer=where, vocabulary=300, fill="one", context=64)
    model = SimpleNamespace(tokenizer=data.tokenizer, facts=data.describe())
    for item, row in zip(items(data), rows, strict=True):
        ids, shown = prompt_of(model, row["prompt"], True)
        assert item["tokens"][: item["prompt"]].tolist() == ids and shown.count(row["prompt"]) == 1
    if tokenizer == "export":
        user, between = data.tokenizer.vocabulary - 2, data.tokenizer.vocabulary - 1
        # The form is special tokens; the same words in what is said are not.
        assert ids[0] == user and ids[-1] == between and ids.count(user) == 1
        assert data.describe()["chat"]["before"] == "<|user|>"
        own = chat(str(tmp_path / "x.jsonl"), tokenizer=where, before="Q ", context=64)
        assert own.form == {"before": "Q ", "between": "<|model|>", "after": "<|end|>"}


def test_prompts_of_one_text_are_held_out_together(tmp_path):
    rows = [{"prompt": f"q{n}", "answer": f"a{n}{k}"} for n in range(10) for k in range(3)]
    data = chat(write(tmp_path / "x.jsonl", rows), val=0.3, fill="one")
    held, kept = ({text.split("\n")[0] for text in data.texts(part)} for part in (True, False))
    assert not held & kept and len(held) >= 3 and len(data.texts()) == 3 * len(held)


def test_what_is_no_pair_is_dropped_with_its_reason(tmp_path):
    messages = [
        [{"role": "user", "content": "a"}], [{"role": "bot", "content": "a"}], [], "a",
        [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
    ]  # fmt: skip
    rows = [
        PAIRS[0], PAIRS[1], {"prompt": "x" * 80, "answer": "y"}, {"prompt": "x", "answer": "y" * 80},
        {"prompt": "a", "answer": " "}, {"promt": "a", "answer": "b"}, {"prompt": "a", "answer": 3},
        *({"messages": row} for row in messages),
    ]  # fmt: skip
    data = flat.make(
        ChatData, root=write(tmp_path / "x.jsonl", rows), tokenizer="bytes", context=60, batch_size=1, val=0
    )
    audit = data.prepare(progress=False)
    assert audit.kept == 2
    found = {item.id: (item.reason, item.detail) for item in audit.dropped}
    assert found["x.jsonl:3"] == ("prompt too long", "the prompt has 98 tokens, and the context 60")
    assert found["x.jsonl:4"] == ("too long", "the prompt with its answer has 100 tokens, and the context 60")
    assert found["x.jsonl:5"][0] == "empty"
    assert found["x.jsonl:6"] == ("not a conversation", "no field 'prompt' (did you mean 'promt'?)")
    assert found["x.jsonl:7"][1] == "no text in 'answer'"
    assert found["x.jsonl:8"][1] == "its turns are user, not user and assistant in turn"
    assert "not a role (system, user, assistant)" in found["x.jsonl:9"][1]
    assert found["x.jsonl:10"][1] == found["x.jsonl:11"][1] == "'messages' is no list of messages"
    assert "its turns are assistant, user" in found["x.jsonl:12"][1]
    assert len(found) == 10


def test_texts_are_no_conversations(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with refused(DataError, "format", "x.txt", value=".txt"):
        chat(str(tmp_path / "x.txt"))


def test_parquet_has_messages_too(tmp_path):
    import pyarrow
    import pyarrow.parquet

    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    table = pyarrow.table({"messages": [said, said[:1]]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    data = chat(str(tmp_path), batch_size=1)
    assert data.texts(False) == ["User: Hi\nAssistant: Ho"] and data.audit.reasons == {"not a conversation": 1}
