"""Streams: what is read of shards is what a plain reader finds, in any order of reading, on any number of ranks."""

import gzip
import itertools
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from refused import refused
from shards import write_shard
from unisono.data import Drop
from unisono.data.stream import Examined, Part, StreamData, StreamOptions
from unisono.errors import DataError

WORDS = Part("text", (".txt",), ("text",))
NUMBER = Part("number", (".num", ".n.num"), ("label",), needed=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Words(StreamData):
    """Texts and numbers."""

    parts: ClassVar[tuple[Part, ...]] = (WORDS, NUMBER)
    items = "texts"
    unit = "letters"

    def examine(self, row):
        text = row.text("text")
        if not text:
            raise Drop("empty text")
        return Examined(len(text), len(text), group=text[0], same=text)

    def version(self):
        return "1"

    def maker(self, random):
        return make_item

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: [item[key] for item in items] for key in items[0]}


def make_item(row, generator):
    return {
        "id": row.id,
        "text": row.text("text"),
        "number": int(row.parts.get("number", b"-1")),
        "drawn": int(torch.randint(1000, (), generator=generator)),
    }


@pytest.fixture
def root(tmp_path) -> Path:
    """Five shards of 13 rows, their members in several orders."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(5):
        rows = [f"{shard}-{row}" for row in range(13)]
        texts = [
            (f"a/{name}.txt", f"{'abc'[row % 3]} text {name} {'x' * (row + 1)}".encode())
            for row, name in enumerate(rows)
        ]
        numbers = [(f"a/{name}.num", str(row).encode()) for row, name in enumerate(rows) if row % 4]
        members = (
            texts + numbers[::-1]
            if shard % 2
            else [m for pair in itertools.zip_longest(texts, numbers) for m in pair if m]
        )
        write_shard(folder / f"train-{shard:03d}.tar", members)
    return folder


def prepared(root, **options) -> Words:
    stream = {"window": 2, "num_processes": 1}
    stream |= {
        name: options.pop(name) for name in ("window", "spool_gb", "num_processes", "measured") if name in options
    }
    data = Words(str(root), **{"val_size": 5, "batch_size": 4, "stream": StreamOptions(**stream), **options})
    data.prepare(progress=False)
    return data


def texts_by_tarfile(root: Path) -> dict[str, str]:
    found = {}
    for path in sorted(root.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".txt"):
                    found[f"{path.name}/{member.name[:-4]}"] = archive.extractfile(member).read().decode()
    return found


def test_rows_are_those_that_tarfile_reads(root):
    data = prepared(root)
    rows = [part.item(i, torch.Generator()) for part in (data.train_set, data.val_set) for i in range(len(part))]
    assert {row["id"]: row["text"] for row in rows} == texts_by_tarfile(root)
    assert all(
        row["number"] == (int(row["id"].rpartition("-")[2]) if int(row["id"].rpartition("-")[2]) % 4 else -1)
        for row in rows
    )
    assert data.audit.kept == 65 and data.audit.amount == sum(map(len, texts_by_tarfile(root).values()))
    assert data.audit.by_group()["b"]["kept"] == 20


def batches(data, epoch=0, rank=0, world=1, start=0):
    class At:
        global_rank, world_size, num_training_batches = rank, world, 10**9

    loader = data.train_dataloader()
    loader.rank, loader.world_size, loader.position = rank, world, lambda: (epoch, start)
    return list(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_restarts_see_the_same_batches(root, workers):
    data = prepared(root, num_workers=workers)
    whole = batches(data)
    assert len(whole) == 15 and len({row for batch in whole for row in batch["row"]}) == 60
    ranks = [batches(data, rank=rank, world=2) for rank in range(2)]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert batch["text"] == [text for pair in zip(first["text"], second["text"], strict=True) for text in pair]
        assert batch["drawn"] == [draw for pair in zip(first["drawn"], second["drawn"], strict=True) for draw in pair]
    assert batches(data, start=7) == whole[7:]
    assert batches(data, epoch=1) != whole


def test_a_window_bounds_the_shards_that_are_read_at_once(root):
    data = prepared(root, val_size=0)
    sampler = data.train_dataloader().plan
    shards = data.train_set.shards()
    for epoch in range(3):
        order = [shards[row] for batch in sampler.batches(epoch) for row in batch]
        # pools of 32 batches hold all here: windows show in what the pool is made of
        assert sorted(np.bincount(order, minlength=5).tolist())[-1] <= 13
    sampler._by_window(torch.as_tensor(shards), torch.Generator().manual_seed(0))
    order = sampler._by_window(torch.as_tensor(shards), torch.Generator().manual_seed(0))
    seen = [set(np.asarray(shards)[order[start : start + 26].numpy()].tolist()) for start in (0, 26)]
    assert all(len(window) == 2 for window in seen) and not seen[0] & seen[1]
    assert sorted(order.tolist()) == list(range(65))


def test_held_out_rows_depend_on_their_texts_alone(root, tmp_path):
    data = prepared(root)
    first = {data.val_set.row(i).text("text") for i in range(len(data.val_set))}
    turned = tmp_path / "turned"
    turned.mkdir()
    members = [(f"{n}.txt", text.encode()) for n, text in enumerate(reversed(texts_by_tarfile(root).values()))]
    write_shard(turned / "one.tar", [*members, ("again.txt", sorted(first)[0].encode())])
    again = prepared(turned)
    held = [again.val_set.row(i).text("text") for i in range(len(again.val_set))]
    assert set(held) <= first and len(held) >= 5  # the text that stands twice is on one side
    assert sorted(first)[0] not in {again.train_set.row(i).text("text") for i in range(len(again.train_set))}


def test_what_is_not_read_is_listed(tmp_path):
    path = write_shard(
        tmp_path / "odd.tar",
        [
            ("IMG_2024.05.00.txt", b"dots"),
            ("IMG_2024.05.00.n.num", b"7"),
            ("empty.txt", b""),
            ("alone.num", b"3"),
            ("twice.txt", b"first"),
            ("twice.TXT", b"second"),
            ("__MACOSX/._a.txt", b"system"),
            ("read.me", b"?"),
            ("latin.txt", "Müller".encode("latin-1")),
            ("bom.txt", b"\xef\xbb\xbfmarked"),
        ],
    )
    data = prepared(path, val_size=0, batch_size=1)
    items = [data.train_set.item(i, torch.Generator()) for i in range(len(data.train_set))]
    assert {(item["text"], item["number"]) for item in items} == {("dots", 7), ("first", -1), ("marked", -1)}
    assert data.audit.reasons == {"no text": 1, "second file": 1, "empty text": 1, "invalid UTF-8": 1}
    assert sum("hidden" in note for note in data.audit.notes) == sum(".me" in note for note in data.audit.notes) == 1


@pytest.mark.parametrize("cut", [700, 3000, 5000])
def test_a_cut_shard_gives_its_whole_rows_and_says_so(root, cut):
    path = root / "train-000.tar"
    path.write_bytes(path.read_bytes()[:cut])
    data = prepared(root, val_size=0)
    assert data.audit.kept < 65
    assert {"damaged shard", "truncated"} & set(data.audit.reasons) or any(
        "train-000" in d.id for d in data.audit.dropped
    )
    for index in range(len(data.train_set)):
        data.train_set.row(index)


def test_compressed_shards_are_unpacked_within_the_spool(root, cache):
    whole = {i["text"] for b in batches(prepared(root, val_size=0, batch_size=1)) for i in [{"text": b["text"][0]}]}
    for path in root.glob("*.tar"):
        (root / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    data = prepared(root, val_size=0, batch_size=1, spool_gb=45e-6)  # one shard fits
    assert {text for batch in batches(data) for text in batch["text"]} == whole
    assert sum(path.stat().st_size for path in (cache / "spool").glob("*.tar")) <= 45_000


def test_the_index_is_made_once_and_a_changed_shard_is_read_anew(root, monkeypatch):
    from unisono.data.stream import index

    seen = []
    real = index.rows_of
    monkeypatch.setattr(index, "rows_of", lambda path, *more: (seen.append(path.name), real(path, *more))[1])
    prepared(root)
    assert len(seen) == 5
    assert prepared(root).audit.kept == 65 and len(seen) == 5
    write_shard(root / "train-005.tar", [("new.txt", b"new")])
    assert prepared(root).audit.kept == 66 and seen[5:] == ["train-005.tar"]
    write_shard(root / "train-005.tar", [("newer.txt", b"newer"), ("newest.txt", b"newest")])
    assert prepared(root).audit.kept == 67 and seen[6:] == ["train-005.tar"]


def test_a_damaged_index_is_made_anew(root, cache):
    prepared(root)
    for path in (cache / "streams").rglob("*.bin"):
        path.write_bytes(b"\0" * path.stat().st_size)
    for path in (cache / "streams").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-9])
    assert prepared(root).audit.kept == 65


def test_a_shard_that_changes_during_a_run_is_named(root):
    data = prepared(root, val_size=0)
    path = root / "train-002.tar"
    path.write_bytes(path.read_bytes()[:600])
    with refused(DataError, "damaged", names="train-002.tar"):
        for index in range(len(data.train_set)):
            data.train_set.row(index)


def test_several_processes_index_as_one(root):
    one = prepared(root)
    ids = [one.index.id(row) for row in range(len(one.index))]
    root.joinpath("again").mkdir()
    for path in list(root.glob("*.tar")):
        path.rename(root / "again" / path.name)
    two = prepared(root / "again", num_processes=2)
    assert [two.index.id(row) for row in range(len(two.index))] == ids


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda root: root / "none.tar", "missing"),
        (lambda root: root / "train-{000..009}.tar", "missing"),
        (lambda root: root / "other-*.tar", "missing"),
        (lambda root: root / "train-{000..00", "format"),
        (lambda root: f"{root}/{{a", "format"),
        (lambda root: "s3://bucket/train.tar", "unsupported"),
        (lambda root: "hf:", "missing"),
        (lambda root: "hf:some/thing?splitt=train", "unknown"),
        (lambda root: f"{root}/train-{{0..99999999}}.tar", "limit"),
        (lambda root: f"a={root},a={root}", "conflict"),
        (lambda root: "a=,b=x.tar", "missing"),
        (lambda root: f"a={root},b=/no/such.tar", "missing"),
    ],
)
def test_roots_that_are_none(root, make, code):
    with refused(DataError, code):
        prepared(make(root))


def test_options_out_of_range(root):
    for name, value in (("stream.window", 0), ("stream.measured", 0), ("val_size", -1), ("stream.spool_gb", 0.0)):
        with refused(DataError, "range", f"data.{name}", value=value):
            prepared(root, **{name.rpartition(".")[2]: value})
    with refused(DataError, "range", "data.val_size", value=65):
        prepared(root, val_size=65)
    (root / "empty").mkdir()
    write_shard(root / "empty" / "e.tar", [("a.txt", b"")])
    with refused(DataError, "empty", "data.root"):
        prepared(root / "empty")


def test_patterns_mean_what_shells_mean(root):
    assert prepared(root / "train-{001..003}.tar").audit.kept == 39
    assert prepared(f"{root}/train-{{000,004}}.tar").audit.kept == 26
    assert prepared(f"{root}/train-00[12].tar").audit.kept == 26


def test_named_corpora_are_read_side_by_side_and_weighted(root, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    write_shard(second / "train-000.tar", [(f"s/{n}.txt", f"second {n}".encode()) for n in range(6)])
    data = prepared(f"old={root}/train-{{000,001}}.tar,new={second}", val_size=0)
    names, groups = data.train_set.groups()
    ids = [data.train_set.item(i, torch.Generator())["id"] for i in range(len(data.train_set))]
    assert [names[group] for group in groups] == [id.partition("/")[0] for id in ids] == ["old"] * 26 + ["new"] * 6
    assert any("old 26, new 6" in note for note in data.audit.notes)
    data.mixing = {"old": [[0, 0], [4, 0], [5, 1]], "new": [[0, 1], [4, 1], [5, 0]]}  # of four in a batch
    seen = [[id.partition("/")[0] for id in batch["id"]] for batch in batches(data)]
    assert seen == [["new"] * 4] * 5 + [["old"] * 4] * 3
    assert batches(data, start=6) == batches(data)[6:]
    ranks = [batches(data, rank=rank, world=2) for rank in range(2)]
    assert [[*a["id"], *b["id"]] for a, b in zip(*ranks, strict=True)] == [
        batch["id"][::2] + batch["id"][1::2] for batch in batches(data)
    ]


def test_a_table_streams_like_a_shard(root, tmp_path):
    table = pytest.importorskip("datasets")
    texts = list(texts_by_tarfile(root).values())
    for part in range(3):
        rows = texts[part::3]
        numbers = list(range(len(rows)))
        table.Dataset.from_dict({"text": rows, "label": numbers}).to_parquet(str(tmp_path / f"part-{part}.parquet"))
    source = f"hf:parquet?data_files={tmp_path}/part-*.parquet"
    data = prepared(source, val_size=0)
    items = [data.train_set.item(i, torch.Generator()) for i in range(len(data.train_set))]
    assert sorted(item["text"] for item in items) == sorted(texts)
    assert sorted(item["number"] for item in items) == sorted(n for p in range(3) for n in range(len(texts[p::3])))
    assert len(data.index.shards) == 3
    whole = batches(data)
    ranks = [batches(data, rank=rank, world=2) for rank in range(2)]
    assert [b["text"] for b in whole] == [
        [t for pair in zip(a["text"], b["text"], strict=True) for t in pair] for a, b in zip(*ranks, strict=True)
    ]
    with refused(DataError, "missing", "data.root"):
        prepared(f"hf:parquet?data_files={tmp_path}/nothing.parquet")
