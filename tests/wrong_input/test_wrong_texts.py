"""Texts on disk that are wrong: what can be mended is one sentence, what is bad by itself is dropped and listed."""

import json
from pathlib import Path

import pytest
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono_text.corpus.tokenizer import Tokenizer
from wrong_input import matches

FILES, CHAT = "text/mdlm-wikitext", "text/mdlm-chat"
BYTES = ("--data.tokenizer=bytes", "--run.init_from=none")


def audited(said, tmp_path: Path, *argv: object) -> dict:
    numbers = tmp_path / "audit.json"
    said("data", "audit", *argv, "--json", numbers, "--no-progress")
    return json.loads(numbers.read_text(encoding="utf-8"))


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Texts of which some cannot be read, in a folder with a blank in its name."""
    folder = tmp_path / "my texts"
    folder.mkdir()
    (folder / "good.txt").write_text("A [MASK] is text, and so is <eos>.\n\nThe other.\n\n\n\nA third.")
    (folder / "bad.txt").write_bytes(b"Fine.\n\nNot \xc3\x28 fine.\n")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def test_a_bad_file_stops_nothing_but_itself(said, corpus, tmp_path):
    small = ["--data.documents=paragraph", "--data.tokenizer=bytes", "--data.batch_size=1"]
    found = audited(said, tmp_path, FILES, f"--data.root={corpus}", *small)
    assert found["kept"] == 4
    assert {(item["id"], item["reason"]) for item in found["dropped"]} == {
        ("bad.txt:3", "invalid UTF-8"), ("empty.txt", "empty"),
    }  # fmt: skip
    parts = [note for note in found["notes"] if note.startswith(("trained on:", "held out:"))]
    assert sum(int(note.split(": ")[1].split()[0]) for note in parts) == 4


def test_files_that_cannot_be_read_are_one_row_each(said, corpus, tmp_path):
    (corpus / "wide.txt").write_bytes("One line.\nAnother.\n".encode("utf-16"))
    (corpus / "cut.parquet").write_bytes(b"PAR1" + bytes(40))
    (corpus / "gone.txt").symlink_to("nowhere.txt")
    (corpus / "up").symlink_to(corpus)
    (corpus / "._good.txt").write_bytes(b"\0\5\x16\7")
    small = ["--data.documents=line", "--data.tokenizer=bytes", "--data.batch_size=1", "--data.val=0"]
    found = audited(said, tmp_path, FILES, f"--data.root={corpus}", *small)
    assert found["kept"] == 4
    assert {(item["id"], item["reason"]) for item in found["dropped"]} == {
        ("bad.txt:3", "invalid UTF-8"), ("empty.txt", "empty"), ("wide.txt", "invalid UTF-8"),
        ("cut.parquet", "unreadable"), ("gone.txt", "broken link"), ("up", "link loop"),
    }  # fmt: skip
    assert any("._*" in note for note in found["notes"])


def test_several_files_are_one_corpus(said, corpus, tmp_path):
    small = ["--data.documents=line", "--data.tokenizer=bytes", "--data.batch_size=1", "--data.val=0"]
    found = audited(said, tmp_path, FILES, f"--data.root=[{corpus / 'good.txt'}, {corpus / 'bad.txt'}]", *small)
    assert found["kept"] == 4
    found = audited(said, tmp_path, FILES, f"--data.root={{a: {corpus / 'good.txt'}, b: {corpus / 'bad.txt'}}}", *small)
    assert {name: part["kept"] for name, part in found["groups"].items()} == {"a": 3, "b": 1}


WRONG = {
    "no such file": ([FILES, "--data.root=nowhere.txt"], "nowhere.txt: no such file or folder", "check data.root"),
    "no file at all": ([FILES, "--data.root={sub}"], "holds no file of .txt", ".parquet"),
    "all held out": ([FILES, "--data.root={root}/good.txt", "--data.documents=file"], "leaves nothing to train on"),
    "a share": ([FILES, "--data.root={root}", "--data.val=1.5"], "val=1.5 must be in [0, 1)"),
    "a small vocabulary": (
        [FILES, "--data.root={root}", "--data.vocabulary=100", "--data.documents=line"],
        "a vocabulary of 100 has no room for merges", "260",
    ),
    "a tokenizer": ([FILES, "--data.root={root}", "--data.tokenizer=bpee"], "'bpee'", "did you mean 'bpe'?"),
    "no context": ([FILES, "--data.root={root}", "--data.context=0"], "context=0 must be from 2"),
    "a table that is none": ([FILES, "--data.root={root}/bad.parquet"], "cannot be read as a parquet table"),
    "texts for talk": ([CHAT, "--data.root={root}", *BYTES], "holds no file of .jsonl, .ndjson, .parquet"),
    "talk without answers": (
        [CHAT, "--data.root={root}/talk.jsonl", *BYTES],
        "no document can be used (1 × not a conversation)", "no field 'answer'", "did you mean 'anwser'?",
    ),
    "prompts that fill the context": (
        [CHAT, "--data.root={root}/long.jsonl", *BYTES, "--data.context=64"],
        "no document can be used (2 × prompt too long)", "has 118 tokens, and the context 64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_corpus_that_cannot_be(complaint, corpus, tmp_path, name):
    (tmp_path / "sub").mkdir()
    arguments, *parts = WRONG[name]
    if "parquet" in arguments[1]:
        (corpus / "bad.parquet").write_bytes(b"PAR1")
    if "jsonl" in arguments[1]:
        (corpus / "talk.jsonl").write_text('{"prompt": "a", "anwser": "b"}\n')
        (corpus / "long.jsonl").write_text("".join(f'{{"prompt": "{x * 100}", "answer": "b"}}\n' for x in "ab"))
    arguments = [item.replace("{root}", str(corpus)).replace("{sub}", str(tmp_path / "sub")) for item in arguments]
    matches(complaint("data", "audit", *arguments, "--no-progress"), *parts)


def test_a_model_lends_its_tokenizer_and_knows_what_it_cannot_read(said, complaint, corpus, tmp_path):
    facts = {"context": 32, "characters_per_token": 1.0, "sample_texts": []}
    letters = Tokenizer.characters(["A third. The other"])
    model = Recipe.read("text/ar-tiny").build_model({**facts, **letters.to_facts()}).eval()
    export = save_export(model, tmp_path / "export")
    small = [f"--data.tokenizer={export}", "--data.documents=paragraph", "--data.batch_size=1", "--data.val=0"]
    found = audited(said, tmp_path, FILES, f"--data.root={corpus}", *small)
    assert found["kept"] == 2
    (unknown, _) = [item for item in found["dropped"] if item["reason"] == "unknown characters"]
    assert "knows 11 characters" in unknown["detail"]
    info = json.loads((export / "unisono.json").read_text(encoding="utf-8"))
    info["facts"]["vocabulary"] += 1
    (export / "unisono.json").write_text(json.dumps(info), encoding="utf-8")
    said_ = complaint("data", "audit", FILES, f"--data.root={corpus}", *small)
    matches(said_, "the tokenizer in the facts has 14 ids", "not 15", "changed by hand")
