"""Streamed motion: as ``motion/clips`` prepares it, clip by clip."""

import pytest
import torch
from refused import refused
from streams import check_ranks, shard_of, trained
from unisono.data.stream import StreamOptions
from unisono.errors import DataError
from unisono_motion.corpus.data import ClipData, ClipOptions
from unisono_motion.corpus.figures import make_figure
from unisono_motion.corpus.stream import ClipStream

PLAIN = ClipOptions(mirror=False, fps=None)
ONE = StreamOptions(num_processes=1)


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """The same figures as a shard and as a table of files."""
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    rows, lines = [], ["file|caption"]
    for number in range(12):
        motion = make_figure(number)
        motion.save(tmp_path / f"{number}.bvh")
        captions = [motion.caption, f"again {motion.caption}"] if number % 2 else [motion.caption]
        rows.append({".bvh": (tmp_path / f"{number}.bvh").read_bytes(), ".txt": "\n".join(captions).encode()})
        lines += [f"{number}.bvh|{caption}" for caption in captions]
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    rows += [{".bvh": b"HIERARCHY\nROOT", ".txt": b"cut"}]
    return shard_of(tmp_path / "a.tar", rows), tmp_path / "list.csv"


def stream(root, **options):
    settings = {"clips": PLAIN, "crop_frames": None, "batch_size": 2, "val_size": 2, "stream": ONE}
    data = ClipStream(str(root), **{**settings, **options})
    data.prepare(progress=False)
    return data


def test_items_and_facts_are_those_of_prepared_clips(corpus):
    shard, table = corpus
    mine = stream(shard, val_size=0)
    other = ClipData(str(table), clips=PLAIN, crop_frames=None, val_size=0, num_processes=1, batch_size=2)
    other.prepare(progress=False)
    assert mine.audit.kept == 12 and mine.audit.reasons == {"unreadable": 1}
    make = mine.maker(False)
    for index in range(12):
        item = make(mine.train_set.row(index), torch.Generator())
        clip = other.train_set.clips[index]
        torch.testing.assert_close(item["features"], torch.from_numpy(clip.features).float(), rtol=0, atol=2e-5)
        assert item["caption"] == clip.captions[0]
    ours, known = mine.describe(), other.describe()
    assert ours["mean"] == pytest.approx(known["mean"], abs=1e-5)
    assert ours["std"] == pytest.approx(known["std"], abs=1e-5)
    assert (ours["words"], ours["max_frames"]) == (known["words"], known["max_frames"])


def test_mirror_images_take_turns(corpus):
    data = stream(corpus[0], clips=ClipOptions(mirror=True, fps=None), val_size=0)
    seen = {
        tuple(data.train_set.item(1, torch.Generator().manual_seed(s))["features"][5, :3].tolist()) for s in range(20)
    }
    assert len(seen) == 2


def test_ranks_share_batches(corpus):
    check_ranks(stream(corpus[0], crop_frames=16), "features")


def test_wrong_options(corpus):
    with refused(DataError, "range", "data.crop_frames", value=1):
        stream(corpus[0], crop_frames=1)
    with refused(DataError, "range", "data.clips.metres_per_unit", value=1000.0):
        stream(corpus[0], clips=ClipOptions(metres_per_unit=1000.0))


def test_a_tokenizer_trains_on_a_stream(corpus, tmp_path):
    data = {"name": "motion/stream", "root": str(corpus[0]), "crop_frames": 32, "batch_size": 4, "val_size": 2}
    result = trained("motion/tokenizer-tiny", {**data, "stream": {"num_processes": 1}}, tmp_path)
    assert result.metrics and result.audit.kept == 12
