"""Streamed texts: documents by shard or table, tokenizers that know every text."""

import json

import pytest
import torch
from refused import refused
from streams import check_ranks, shard_of, trained
from unisono.data.stream import StreamOptions
from unisono.errors import DataError
from unisono_text.corpus.data import make_sentence
from unisono_text.corpus.stream import TextStream

TEXTS = ["".join(make_sentence(number)) * (1 + number % 4) for number in range(40)]
ONE = StreamOptions(num_processes=1)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    rows = [{".txt": t.encode()} if n % 2 else {".json": json.dumps({"text": t}).encode()} for n, t in enumerate(TEXTS)]
    return shard_of(tmp_path / "a.tar", [*rows, {".json": b"{}"}, {".txt": b"half \xed\xa0\xbd"}])


def stream(root, **options):
    settings = {"context": 32, "vocabulary": 290, "batch_size": 4, "val_size": 4, "stream": ONE}
    data = TextStream(str(root), **{**settings, **options})
    data.prepare(progress=False)
    return data


def test_tokens_say_the_documents(root):
    data = stream(root, val_size=0, context=1000)
    said = [data.tokenizer.decode(data.train_set.item(i, torch.Generator())["tokens"].tolist()) for i in range(40)]
    assert sorted(said) == sorted(TEXTS)
    assert data.audit.reasons == {"empty text": 1, "invalid UTF-8": 1} or sum(data.audit.reasons.values()) == 2
    assert data.audit.amount == sum(map(len, TEXTS))


def test_long_documents_are_seen_in_stretches(root):
    data = stream(root, val_size=0, tokenizer="bytes")
    seen = {}
    for epoch in range(30):
        for index in range(len(data.train_set)):
            tokens = data.train_set.item(index, torch.Generator().manual_seed(epoch))["tokens"].tolist()
            assert len(tokens) <= 32
            seen.setdefault(index, set()).add(tuple(tokens))
    longest = max(range(40), key=data.train_set.size)
    assert len(seen[longest]) > 10
    text = data.train_set.row(longest)
    whole = data.tokenizer.encode(
        json.loads(text.parts["facts"])["text"] if "facts" in text.parts else text.text("text")
    )
    starts = {next(s for s in range(len(whole)) if whole[s : s + 8] == list(row[:8])) for row in seen[longest]}
    assert min(starts) == 0 or len(starts) > 5


def test_ranks_share_batches(root):
    check_ranks(stream(root), "tokens")


def test_an_exports_tokenizer_drops_what_it_cannot_say(root):
    with refused(DataError, "unknown", "data.tokenizer", value="characters"):
        stream(root, tokenizer="characters")
    data = stream(root, tokenizer="bytes")
    assert data.describe().vocabulary == 259


def test_a_table_gives_the_same_documents(root, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": TEXTS}).to_parquet(str(tmp_path / "a.parquet"))
    data = stream(f"hf:parquet?data_files={tmp_path}/a.parquet", val_size=0, context=1000)
    said = [data.tokenizer.decode(data.train_set.item(i, torch.Generator())["tokens"].tolist()) for i in range(40)]
    assert sorted(said) == sorted(TEXTS)


def test_a_model_trains_on_a_stream(root, tmp_path):
    data = {"name": "text/stream", "root": str(root), "context": 16, "tokenizer": "bytes", "batch_size": 4}
    result = trained("text/mdlm-tiny", {**data, "val_size": 4, "stream": {"num_processes": 1}}, tmp_path)
    assert result.metrics and result.audit.kept == 40
