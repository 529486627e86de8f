"""Streamed pictures: as ``image/shards`` packs them, from shards and from tables."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from streams import check_ranks, shard_of, trained
from unisono.data.stream import StreamOptions
from unisono.errors import DataError
from unisono_image.corpus.options import PictureOptions
from unisono_image.corpus.shards import ShardData
from unisono_image.corpus.stream import PictureStream

COLOURS = ("red", "green", "blue")


def png(number: int, size: int = 20) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size, size + number % 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


ONE = StreamOptions(num_processes=1)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    rows = []
    for number in range(24):
        row = {".png": png(number)}
        if number % 3 == 0:
            row[".txt"] = f"a {COLOURS[number % 3]} picture {number}".encode()
        elif number % 3 == 1:
            row[".json"] = json.dumps({"caption": [f"one {number}", f"two {number}"]}).encode()
        row[".cls"] = COLOURS[number % 3].encode()
        rows.append(row)
    return rows


def stream(root, **options):
    data = PictureStream(str(root), **{"size": 16, "batch_size": 4, "val_size": 4, "stream": ONE, **options})
    data.prepare(progress=False)
    return data


def test_items_are_those_of_packed_shards(rows, tmp_path):
    path = shard_of(tmp_path / "a.tar", rows)
    data = stream(path, val_size=0)
    packed = ShardData(str(path), size=16, val_size=0, batch_size=4)
    packed.prepare(progress=False)
    packed.train_set.random = False
    make = data.maker(False)
    for index in range(24):
        mine = make(data.train_set.row(index), torch.Generator())
        theirs = packed.train_set.item(index, torch.Generator())
        assert torch.equal(mine["image"], theirs["image"])
        assert (mine["label"], mine["caption"]) == (theirs["label"], theirs["caption"])
    assert data.describe().classes == packed.describe().classes == ("blue", "green", "red")
    assert set(data.describe().words) == set(packed.describe().words)
    assert data.train_set.groups()[0] and data.audit.by_group()["red"]["kept"] == 8


def test_ranks_share_batches(rows, tmp_path):
    check_ranks(stream(shard_of(tmp_path / "a.tar", rows), pictures=PictureOptions(flip=True, shift=2)), "image")


def test_a_table_gives_the_same_pictures(rows, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(COLOURS)),
            "caption": datasets.Value("string"),
        }
    )
    content = {
        "image": [{"bytes": row[".png"], "path": None} for row in rows],
        "label": [number % 3 for number in range(24)],
        "caption": [f"picture {number}" for number in range(24)],
    }
    datasets.Dataset.from_dict(content, features=features).to_parquet(str(tmp_path / "a.parquet"))
    data = stream(f"hf:parquet?data_files={tmp_path}/a.parquet", val_size=0)
    made = data.maker(False)
    found = [made(data.train_set.row(i), torch.Generator()) for i in range(24)]
    assert [item["label"] for item in found] == content["label"]
    assert [item["caption"] for item in found] == content["caption"]
    direct = stream(shard_of(tmp_path / "a.tar", rows), val_size=0)
    again = [direct.maker(False)(direct.train_set.row(i), torch.Generator())["image"] for i in range(24)]
    assert all(torch.equal(a["image"], b) for a, b in zip(found, again, strict=True))


def test_pictures_that_cannot_be_used_are_listed(rows, tmp_path):
    rows[3][".png"] = rows[3][".png"][:60]
    rows[4][".cls"] = b"1.5"
    rows[5][".json"] = b'{"caption": "a \\ud83d box"}'
    data = stream(shard_of(tmp_path / "a.tar", rows), val_size=0)
    assert data.audit.kept == 21
    assert set(data.audit.reasons) <= {"truncated", "unreadable", "no class", "half a character"}


def test_wrong_options(rows, tmp_path):
    path = shard_of(tmp_path / "a.tar", rows)
    for name, value in (("size", 2), ("val_size", -1)):
        with refused(DataError, "range", f"data.{name}", value=value):
            stream(path, **{name: value})
    with refused(DataError, "range", "data.pictures.shift", value=16):
        stream(path, pictures=PictureOptions(shift=16))
    rows[0][".cls"] = b"3"
    with refused(DataError, "conflict", "data.root"):
        stream(shard_of(tmp_path / "b.tar", rows))


def test_a_model_trains_on_a_stream_with_weights(rows, tmp_path):
    data = {"name": "image/stream", "root": str(shard_of(tmp_path / "a.tar", rows)), "size": 8, "batch_size": 4}
    weights = {"red": 1.0, "green": [[0, 1], [4, 0]], "blue": 0.0}
    result = trained(
        "image/dit-tiny", {**data, "val_size": 4, "stream": {"num_processes": 1}}, tmp_path, mixing=weights
    )
    assert result.metrics and result.audit.kept == 24
