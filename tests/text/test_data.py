"""Data for text models: what a document is, what a row is, what is held out and dropped; batches that come again."""

import json
import os
import unicodedata
from collections import Counter
from itertools import pairwise

import flat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import ANYTHING, refused
from unisono.data import item_generator
from unisono.errors import CheckpointError, DataError
from unisono_text.corpus.data import MADE, ToyData, make_sentence
from unisono_text.corpus.documents import WAYS
from unisono_text.corpus.files import FilesData
from unisono_text.corpus.packing import RowSet, cut, packed_rows

BOOK = "".join(f"Line {number} of the book, and more.\n" + "\n" * (number % 3 == 2) for number in range(60))


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(BOOK, encoding="utf-8")
    return path


def prepared(root, **kwargs) -> FilesData:
    data = flat.make(FilesData, root=root, **{"tokenizer": "bytes", "context": 64, "batch_size": 2, **kwargs})
    data.prepare(progress=False)
    return data


def rows(part: RowSet) -> list[dict]:
    return [part.item(i, item_generator(0, 0, i)) for i in range(len(part))]


@pytest.mark.parametrize(
    ("way", "count", "first"),
    [
        ("file", 1, BOOK),
        ("paragraph", 20, "".join(f"Line {n} of the book, and more.\n" for n in range(3)).rstrip("\n")),
        ("line", 60, "Line 0 of the book, and more."),
    ],
)
def test_a_text_is_divided_as_asked(book, way, count, first):
    data = prepared(str(book), documents=way, val=0)
    texts = data.texts(held_out=False)
    assert len(texts) == count and texts[0] == first and data.val_set is None
    # The blanks between documents are all that is left out.
    assert "".join(texts).replace("\n", "") == BOOK.replace("\n", "")


def test_articles_begin_with_their_titles(tmp_path):
    articles = [f" = Title {i} = \n \n = = Part = = \n \n Words = here {i} .\n \n" for i in range(3)]
    (tmp_path / "wiki.txt").write_text(" \n" + "".join(articles))
    assert prepared(str(tmp_path), documents="article", val=0).texts(False) == articles


def test_byte_order_marks_and_line_ends_do_not_join_paragraphs(tmp_path):
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbfone\r\nmore\r\n\r\ntwo\r\n")
    assert prepared(str(tmp_path), val=0, batch_size=1).texts(False) == ["one\r\nmore", "two"]


def test_rows_of_validation_are_the_documents_cut_once(book):
    data = prepared(str(book), documents="paragraph", val=0.4, context=50)
    assert 5 <= len(data.val_set.documents) <= 10
    held, end = [], data.tokenizer.special["eos"]
    for item in rows(data.val_set):
        held += item["tokens"].tolist()
        assert len(item["tokens"]) <= 50 and item["prompt"] == 0
    whole = [number for text in data.texts() for number in [*data.tokenizer.encode(text), end]]
    assert held == whole
    assert not set(data.texts()) & set(data.texts(False))


def test_rows_of_training_begin_anywhere_and_stay_in_their_document(book):
    data = prepared(str(book), documents="file", split="tail", val=0.1, context=100)
    (train,), (held,) = data.texts(False), data.texts()
    assert train + held == BOOK and train.endswith("\n") and 0.08 < len(held) / len(BOOK) <= 0.1
    seen = Counter()
    stream = [*data.tokenizer.encode(train), data.tokenizer.special["eos"]]
    for epoch in range(30):
        for index in range(len(data.train_set)):
            tokens = data.train_set.item(index, item_generator(0, epoch, index))["tokens"].tolist()
            assert len(tokens) == 100
            start = next(i for i in range(len(stream) - 99) if stream[i : i + 100] == tokens)
            seen.update(range(start, start + 100))
    counts = np.array([seen[place] for place in range(len(stream))])
    assert counts.min() >= 1
    # All but the two ends are seen alike: once in an epoch on the average.
    assert counts[100:-200].mean() == pytest.approx(30, rel=0.1)
    one, two = (data.train_set.item(3, item_generator(0, epoch, 3))["tokens"] for epoch in (0, 1))
    assert not torch.equal(one, two)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(2, 12), st.booleans())
def test_pieces_cover_documents_and_cross_none(lengths, context, whole):
    starts = np.cumsum([0, *lengths[:-1]])
    documents = np.stack([starts, lengths, np.minimum(lengths, 3)], 1)
    pieces = cut(documents, context, whole)
    for number, (start, length, prompt) in enumerate(documents.tolist()):
        own = pieces[pieces[:, 2] == number]
        covered = Counter(place for first, size, _, _ in own.tolist() for place in range(first, first + size))
        assert set(covered) == set(range(start, start + length))
        assert own[:, 3].tolist() == [prompt] + [0] * (len(own) - 1)
        if whole and length > context:
            assert (own[:, 1] == context).all()
        else:
            assert set(covered.values()) == {1}
    assert pieces[:, 1].max() <= context


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 16), min_size=1, max_size=60))
def test_packing_keeps_every_piece_once_and_leaves_little_free(lengths):
    order, bounds = packed_rows(lengths, 16)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    sizes = [sum(lengths[i] for i in order[a:b]) for a, b in pairwise(bounds)]
    assert max(sizes) <= 16
    # No two rows could have been one.
    assert len(sizes) < 2 or sum(sorted(sizes)[:2]) > 16


def test_long_pieces_are_packed_first():
    order, bounds = packed_rows([3, 3, 7, 7], 10)
    assert len(bounds) - 1 == 2  # as they come, the short ones would share a row
    assert sorted(sorted([3, 3, 7, 7][i] for i in order[a:b]) for a, b in pairwise(bounds)) == [[3, 7], [3, 7]]


def test_packed_rows_name_the_document_of_each_place(book):
    data = prepared(str(book), documents="line", val=0.1, context=128, pack=True)
    end = data.tokenizer.special["eos"]
    found = []
    for item in rows(data.train_set):
        assert item["tokens"].shape == item["documents"].shape
        for number in range(int(item["documents"].max()) + 1):
            part = item["tokens"][item["documents"] == number].tolist()
            assert part[-1] == end and part.count(end) == 1
            found.append(data.tokenizer.decode(part))
        assert (item["documents"].diff() >= 0).all()
    assert sorted(found) == sorted(data.texts(False))
    assert len(data.train_set) < len(found) / 3
    batch = next(iter(data.train_dataloader()))
    assert ((batch["documents"] == -1) == (torch.arange(batch["tokens"].shape[1]) >= batch["lengths"][:, None])).all()


def test_what_is_held_out_depends_on_the_texts_alone(tmp_path):
    texts = [f"document number {n}" for n in range(40)]
    for name, order in (("a", texts), ("b", texts[::-1]), ("c", texts * 2)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in order)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    held = [sorted(set(prepared(str(tmp_path / f"{name}.jsonl"), val=0.25).texts())) for name in "abc"]
    assert held[0] == held[1] == held[2] and 9 <= len(held[0]) <= 12
    twice = prepared(str(tmp_path / "c.jsonl"), val=0.25)
    assert not set(twice.texts()) & set(twice.texts(False)) and len(twice.texts()) == 2 * len(held[0])


def test_files_may_be_held_out_by_name(tmp_path, book):
    (tmp_path / "own.txt").write_text("held out\n\nthis too")
    data = prepared({"book": str(book)}, val=[str(tmp_path / "own.txt")])
    assert data.texts() == ["held out", "this too"] and len(data.texts(False)) == 20
    with refused(DataError, "conflict", "data.corpus.val"):
        prepared(str(book), val=str(book))


def test_tables_and_json_lines_have_rows(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"body": ["one ü", None, "", "two"], "other": [1, 2, 3, 4]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    lines = [b'{"body": "three"}', b"", b'{"text": "x"}', b"[1]", b'{"body": 5}', b'{"body": "\xff"}', b"{"]
    lines.append(b'{"body": "\\ud800"}')
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    data = flat.make(
        FilesData, root=[str(tmp_path / "*.parquet"), str(tmp_path / "t.jsonl")], field="body", tokenizer="characters",
        batch_size=1, val=0, context=8,
    )  # fmt: skip
    audit = data.prepare(progress=False)
    assert data.texts(False) == ["one ü", "two", "three"] and audit.kept == 3
    assert {(d.id, d.reason) for d in audit.dropped} == {
        ("t.parquet:2", "no text"), ("t.parquet:3", "empty"), ("t.jsonl:3", "no text"), ("t.jsonl:4", "not JSON"),
        ("t.jsonl:5", "no text"), ("t.jsonl:6", "invalid UTF-8"), ("t.jsonl:7", "not JSON"),
        ("t.jsonl:8", "half a character"),
    }  # fmt: skip
    assert data.tokenizer.table == "".join(sorted(set("one ütwothree")))


def test_what_cannot_be_read_is_dropped_by_itself(tmp_path):
    (tmp_path / "good.txt").write_text("good\n\nbetter")
    (tmp_path / "half.txt").write_bytes(b"fine\n\nbro\xffken\n\nfine again")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.txt").write_bytes(b"\n \n\n")
    (tmp_path / "wide.txt").write_bytes("wide".encode("utf-16"))
    data = flat.make(FilesData, root=str(tmp_path), tokenizer="bytes", batch_size=1, val=0)
    audit = data.prepare(progress=False)
    assert sorted(data.texts(False)) == ["better", "fine", "fine again", "good"]
    reasons = {item.id: (item.reason, item.detail) for item in audit.dropped}
    assert reasons["half.txt:3"] == ("invalid UTF-8", "byte 0xff is not UTF-8")
    assert reasons["empty.txt"][0] == reasons["blank.txt"][0] == "empty"
    assert reasons["wide.txt"] == ("invalid UTF-8", "is UTF-16, not UTF-8")
    assert audit.reasons == {"invalid UTF-8": 2, "empty": 2}


def dropped(audit):
    return {(item.id, item.reason) for item in audit.dropped}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_lose_the_file_and_no_other(tmp_path, way, encoding):
    (tmp_path / "good.txt").write_text("good\n")
    (tmp_path / "wide.txt").write_bytes("Line one, caf\u00e9.\nLine two, \u00e9t\u00e9.\n".encode(encoding))
    data = flat.make(FilesData, root=str(tmp_path), documents=way, tokenizer="bytes", batch_size=1, val=0)
    audit = data.prepare(progress=False)
    assert [text.strip() for text in data.texts(False)] == ["good"]
    assert {reason for _, reason in dropped(audit)} == {"invalid UTF-8"}
    if encoding != "latin-1":
        assert [item.id for item in audit.dropped] == ["wide.txt"]


def test_lines_are_cut_at_line_ends_only(tmp_path):
    strange = "a\x0cb\x1cc\x85d\u2028e\rf"
    (tmp_path / "x.txt").write_bytes(f"\ufeff{strange}\r\nsecond\n".encode())
    (tmp_path / "mac.txt").write_bytes(b"old\rMac\r")
    (tmp_path / "nul.txt").write_bytes(b"fine\nno\0t\nfine too\n")
    data = flat.make(FilesData, root=str(tmp_path), documents="line", tokenizer="bytes", batch_size=1, val=0)
    audit = data.prepare(progress=False)
    assert data.texts(False) == ["fine", "fine too", strange, "second"]
    assert dropped(audit) == {("mac.txt", "not text"), ("nul.txt:2", "not text")}


def test_one_bad_file_is_one_row(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"text": [f"row {n}" for n in range(3000)]})
    pyarrow.parquet.write_table(table, tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "zeros.parquet").write_bytes(data[:100] + bytes(len(data) // 2) + data[100 + len(data) // 2 :])
    (tmp_path / "spark.parquet").mkdir()
    pyarrow.parquet.write_table(table.slice(0, 2), tmp_path / "spark.parquet" / "part-00000.snappy.parquet")
    (tmp_path / "spark.parquet" / "_SUCCESS").touch()
    (tmp_path / "spark.parquet" / ".part-00000.crc").write_bytes(b"crc")
    pyarrow.parquet.write_table(table.rename_columns(["texts"]), tmp_path / "other.parquet")
    pyarrow.parquet.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    letters = pyarrow.array([b"good", b"b\xffd", b"fine"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": letters}), tmp_path / "bytes.parquet")
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "._whole.parquet").write_bytes(b"\0\5")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "deep.jsonl").write_text(
        '{"text": "one"}\n{"text": ' + "[" * 100_000 + "\n" + '{"text": ' + "9" * 5000 + "}"
    )
    for root in (str(tmp_path), str(tmp_path / "*"), str(tmp_path / "**" / "*.*")):
        found = flat.make(FilesData, root=root, tokenizer="bytes", batch_size=1, val=0)
        audit = found.prepare(progress=False)
        rows = [d for d in audit.dropped if not d.id.startswith("zeros")]
        assert {(d.id, d.reason) for d in rows} == {
            ("cut.parquet", "unreadable"), ("other.parquet", "no text"), ("none.parquet", "empty file"),
            ("bytes.parquet:2", "invalid UTF-8"), ("gone.txt", "broken link"), ("loop", "link loop"),
            ("pipe.jsonl", "not a file"), ("deep.jsonl:2", "not JSON"), ("deep.jsonl:3", "not JSON"),
        } - ({("loop", "link loop")} if "*" in root else set())  # fmt: skip
        assert all(len(d.detail) < 300 for d in audit.dropped)
        texts = found.texts(False)
        assert {"row 2999", "good", "fine", "one"} <= set(texts) and texts.count("row 0") >= 2


def test_ids_are_relative_to_the_root(tmp_path):
    for name in ("a/x.jsonl", "b/x.jsonl", "10.jsonl", "9.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n{{"other": 1}}')
    data = flat.make(FilesData, root=str(tmp_path), tokenizer="bytes", batch_size=1, val=0)
    audit = data.prepare(progress=False)
    assert data.texts(False) == ["9.jsonl", "10.jsonl", "a/x.jsonl", "b/x.jsonl"]
    assert [d.id for d in audit.dropped] == ["9.jsonl:2", "10.jsonl:2", "a/x.jsonl:2", "b/x.jsonl:2"]


def test_two_forms_of_one_text_are_held_out_together(tmp_path):
    lines = [f"Caf\u00e9 number {n}" for n in range(30)]
    lines += [unicodedata.normalize("NFD", line) for line in lines]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    data = prepared(str(tmp_path), val=0.3)
    held, kept = ({unicodedata.normalize("NFC", t) for t in data.texts(part)} for part in (True, False))
    assert held and kept and not held & kept


@pytest.mark.parametrize("part", [".bin", ".npy", ".json"])
@pytest.mark.parametrize("damage", ["cut", "zeroed", "gone", "garbage"])
def test_a_damaged_store_is_made_anew(book, tmp_path, monkeypatch, part, damage):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path))
    first = prepared(str(book)).texts(False)
    (path,) = (tmp_path / "texts").glob(f"*{part}")
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {"cut": whole[:-9], "zeroed": whole[:middle] + bytes(9) + whole[middle + 9 :], "garbage": b"\x80garbage"}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    assert prepared(str(book)).texts(False) == first
    assert path.read_bytes() == whole


def test_texts_without_a_cache(book, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    expected = prepared(str(book)).texts(False)
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "file"))
    data = flat.make(FilesData, root=str(book), tokenizer="bytes", context=64, batch_size=2)
    audit = data.prepare(progress=False)
    assert data.texts(False) == expected
    (note,) = [note for note in audit.notes if "UNISONO_CACHE" in note]
    assert note.startswith("the tokens are made anew in each run: the cache cannot be written")


def test_a_store_is_found_again_by_its_content(tmp_path, book, monkeypatch):
    first = prepared(str(book), tokenizer="bpe", vocabulary=280)
    copy = tmp_path / "book.txt"
    copy.write_text(BOOK)
    monkeypatch.setitem(MADE, "bpe", None)  # would be asked where there is no store
    again = prepared(str(copy), tokenizer="bpe", vocabulary=280)
    assert again.train_set.tokens == first.train_set.tokens and again.describe() == first.describe()
    copy.write_text(BOOK + "x")
    with pytest.raises(TypeError):
        prepared(str(copy), tokenizer="bpe", vocabulary=280)


def test_large_vocabularies_have_wide_numbers(tmp_path):
    letters = "".join(map(chr, [*range(0x4E00, 0x9FFF), *range(0x20000, 0x2A6DF), *range(0x30000, 0x31000)]))
    (tmp_path / "x.txt").write_text(letters, encoding="utf-8")
    data = prepared(str(tmp_path), tokenizer="characters", val=0, batch_size=1, context=2**17)
    assert data.tokenizer.vocabulary > 2**16 and data.texts(False) == [letters]


def test_facts_say_what_models_need(book):
    facts = json.loads(json.dumps(prepared(str(book), documents="line", val=0.2).describe().to_json()))
    assert set(facts) == {
        "tokenizer", "vocabulary", "special", "context", "characters_per_token", "sample_texts",
    }  # fmt: skip
    assert facts["special"] == {"pad": 0, "bos": 1, "eos": 2} and facts["vocabulary"] == 259
    texts = prepared(str(book), documents="line", val=0.2).texts()
    assert facts["characters_per_token"] == pytest.approx(sum(map(len, texts)) / sum(len(t) + 1 for t in texts))
    assert facts["sample_texts"] and all(any(text.startswith(s) for text in texts) for s in facts["sample_texts"])


def test_a_model_may_lend_its_tokenizer(tmp_path, book):
    with refused(DataError, "unknown", "data.corpus.tokenizer", value="bep", names="'bpe'"):
        flat.make(FilesData, root=str(book), tokenizer="bep")
    with pytest.raises(CheckpointError):
        prepared(str(book), tokenizer=str(tmp_path))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_again(book, workers):
    data = prepared(str(book), documents="line", batch_size=4, num_workers=workers)
    one, two = ([batch["tokens"] for batch in data.train_dataloader()] for _ in range(2))
    assert len(one) > 5 and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    batch = next(iter(data.train_dataloader()))
    assert batch["tokens"].dtype == torch.int64 and batch["lengths"].max() == batch["tokens"].shape[1]
    assert (batch["tokens"] == 0).sum() == (batch["tokens"].shape[1] - batch["lengths"]).sum()


def test_sentences_are_made_on_the_spot():
    plain, questions = ToyData(num_items=20, val_size=6), ToyData(num_items=20, val_size=6, questions=True)
    for data in (plain, questions):
        assert data.prepare().kept == 20
        assert len(data.texts()) == 6 and len(data.texts(False)) == 20
    assert plain.describe()["tokenizer"] == questions.describe()["tokenizer"]
    assert all(text[0].isupper() and text.endswith(".") for text in plain.texts())
    for item in rows(questions.train_set):
        said = questions.tokenizer.decode(item["tokens"].tolist())
        asked = questions.tokenizer.decode(item["tokens"][: item["prompt"]].tolist())
        assert asked.endswith("=") and eval(asked[:-1]) == int(said.removeprefix(asked))
    assert make_sentence(5) == make_sentence(5)
    with refused(DataError, "unknown", "tokenizer", value="byte", names="'bytes'"):
        ToyData(tokenizer="byte").prepare()
    with refused(DataError, "conflict", "data.questions"):
        ToyData(questions=True, pack=True)


@pytest.mark.parametrize(
    ("kwargs", "code", "path", "value"),
    [
        ({"val": 1.0}, "range", "data.corpus.val", 1.0),
        ({"val": -0.1}, "range", "data.corpus.val", -0.1),
        ({"context": 1}, "range", "data.context", 1),
        ({"documents": "lines"}, "unknown", "data.documents", "lines"),
        ({"documents": "file", "val": 0.1}, "range", "data.corpus.val", 0.1),
        ({"split": "tail", "val": ["x.txt"]}, "conflict", "data.split", "tail"),
        ({"batch_size": 500}, "limit", "data.batch_size", 500),
        ({"tokenizer": "bpe", "vocabulary": 100}, "range", "vocabulary", 100),
    ],
)
def test_settings_that_cannot_be(book, kwargs, code, path, value):
    with refused(DataError, code, path, value=value):
        prepared(str(book), **kwargs).train_dataloader()


@pytest.mark.parametrize(
    ("root", "code", "path", "value"),
    [
        ("nowhere", "missing", "data.root", "nowhere"),
        ("*.txtt", "missing", "data.root", "*.txtt"),
        ("sub", "empty", "sub", ANYTHING),
        ("x.pdf", "format", "x.pdf", ".pdf"),
        (["x.txt", "x.txt"], "exists", "x.txt", ANYTHING),
        ([], "empty", "data.root", ANYTHING),
        ("x.txt", "empty", "data.root", {"empty": 1}),
        ("bad.parquet", "empty", "data.root", {"unreadable": 1}),
        ("no.parquet", "empty", "data.root", {"no text": 1}),
        ("no.jsonl", "empty", "data.root", {"no text": 2}),
    ],
)
def test_files_that_cannot_be(tmp_path, monkeypatch, root, code, path, value):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.pdf").write_bytes(b"x")
    (tmp_path / "x.txt").write_bytes(b"")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not")
    pyarrow.parquet.write_table(pyarrow.table({"texts": ["a"]}), tmp_path / "no.parquet")
    (tmp_path / "no.jsonl").write_text('{"texts": "a"}\n{"texts": "b"}\n')
    with refused(DataError, code, path, value=value):
        prepared(root)
