"""Batch: every row once, in whole shards, the same bytes whoever makes them, and a manifest that agrees."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from refused import refused
from toy import open_toy, open_where_files_are_short, rows_of
from unisono.batch import Options, model_fingerprint, run_batch
from unisono.data.stream import Part
from unisono.errors import DataError, RequestError

LINES = [f"Row {n} of them." for n in range(20)]


@pytest.fixture
def batch(tmp_path):
    """Return a function that makes lines into a folder."""

    def run(lines, dest="out", open_model=open_toy, fields=None, **options):
        source = tmp_path / "lines.txt"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return run_batch(open_model, str(source), tmp_path / dest, Options(shard_size=4, **options), fields=fields)

    run.folder = tmp_path / "out"
    return run


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def content(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but what is hidden."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def check(folder: Path, count: int) -> None:
    """The manifest and the shards agree, and nothing else lies there."""
    rows = rows_of(folder)
    lines = [line for line in manifest(folder) if "error" not in line]
    assert {line["name"] for line in lines} == set(rows) and len(rows) == count
    for line in lines:
        assert len(rows[line["name"]]) == line["bytes"]
    hidden = {path.name for path in folder.rglob(".*")}
    assert hidden <= {".lock"}, hidden


@pytest.mark.parametrize("shards", ["tar", "parquet", "files"])
def test_each_kind_of_shard_holds_what_a_call_makes(batch, shards):
    if shards == "parquet":
        pytest.importorskip("pyarrow")
    done = batch([*LINES[:5], json.dumps({"text": "Own.", "level": 2, "seed": 7})], shards=shards)
    assert (done.made, done.kept, done.failed) == (6, 0, 0)
    check(batch.folder, 6)
    toy, rows, lines = open_toy(), rows_of(batch.folder), manifest(batch.folder)
    for line, asked in zip(lines, LINES, strict=False):
        text = {"text": asked, "seed": line["seed"]} if line["row"] < 6 else {"text": "Own.", "level": 2, "seed": 7}
        made = toy(text)
        assert rows[line["name"]].decode() == made.text
        assert (line["amount"], line["unit"]) == (len(made.text), "characters")
        assert line["revision"] == model_fingerprint(toy)
    assert lines[5]["seed"] == 7 and len({line["seed"] for line in lines}) == 6
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {line["shard"].partition(".")[0] for line in lines} == {"000000", "000001"}


def test_a_tar_shard_is_read_as_a_stream(batch):
    """By the core's own reader of WebDataset's layout."""
    from unisono.data.stream.tar import rows_of as rows_of_tar

    batch(LINES[:3])
    parts = [Part("media", (".txt",)), Part("about", (".json",))]
    found = list(rows_of_tar(batch.folder / "000000.tar", parts, "0"))
    assert [name for name, _ in found] == [line["key"] for line in manifest(batch.folder)]
    assert all(size > 0 for _, places in found for _, size in places)


def test_any_number_of_workers_and_any_start_give_the_same_bytes(batch):
    """Shards, parts and manifest are equal, byte for byte; so they are after some of them were lost."""
    lines = [*LINES, LINES[3], "bad one", *LINES[:2]]
    batch(lines, batch_size=3)
    alone = content(batch.folder)
    two = batch(lines, "two", workers=2, batch_size=3)
    assert content(batch.folder.with_name("two")) == alone
    assert (two.made, two.failed, two.repeated) == (20, 1, 3)
    for name in ("000001.tar", "manifest/000003.jsonl"):
        (batch.folder / name).unlink()
    (batch.folder / "000003.tar").unlink()
    again = batch(lines, batch_size=3)
    assert (again.made, again.kept) == (8, 12) and content(batch.folder) == alone


def test_a_seed_is_the_rows_own_wherever_it_stands(batch):
    batch(LINES[:6])
    first = {line["key"]: line["seed"] for line in manifest(batch.folder)}
    batch(LINES[5::-1], "turned")
    assert first == {line["key"]: line["seed"] for line in manifest(batch.folder.with_name("turned"))}
    assert rows_of(batch.folder) == rows_of(batch.folder.with_name("turned"))
    batch(LINES[:6], "seeded", fields={"seed": 5})
    assert {line["seed"] for line in manifest(batch.folder.with_name("seeded"))} == {5}


def test_equal_lines_are_one_row(batch):
    done = batch(["One.", "Two.", "One.", '{"text": "One.", "level": 1.0}', "bad", "bad"])
    assert (done.made, done.repeated, done.failed) == (2, 3, 2)
    lines = manifest(batch.folder)
    assert lines[0]["key"] == lines[2]["key"] == lines[3]["key"] and lines[0]["name"] == lines[3]["name"]
    check(batch.folder, 2)


def test_a_changed_line_is_made_anew_and_removed_ones_are_told(batch):
    batch(LINES)
    before = content(batch.folder)
    lines = [LINES[0], "Another one.", *LINES[2:10], "New.", *LINES[15:]]
    done = batch(lines)
    assert (done.made, done.kept, done.left_over) == (2, 14, 6)
    assert [line.get("name") for line in manifest(batch.folder)].count(None) == 0
    assert len(manifest(batch.folder)) == 16
    after = content(batch.folder)
    assert all(after[name] == data for name, data in before.items() if name != "manifest.jsonl")
    assert set(after) - set(before) == {"000005.tar", "000006.tar", "manifest/000005.jsonl", "manifest/000006.jsonl"}
    again = batch(lines)
    assert (again.made, again.kept, again.left_over) == (0, 16, 6) and content(batch.folder) == after
    fields = batch(LINES, fields={"level": 2})  # a flag that changes every row
    assert (fields.made, fields.kept) == (20, 0)


def test_nothing_to_do(batch):
    done = batch(["", "  "])
    assert (done.made, done.failed) == (0, 0)
    assert manifest(batch.folder) == [] and set(content(batch.folder)) == {"batch.json", "manifest.jsonl"}
    batch(LINES, workers=2, open_model=open_toy)
    assert batch(LINES, workers=2).kept == 20


BAD = {
    "bad one": "value",
    "boom": "failed",
    '{"text": "x", "level": 9}': "range",
    '{"text": "x", "lvl": 1}': "unknown",
    '{"text": ""}': "empty",
    '{"text"': "format",
    '{"text": "x", "seed": -1}': "range",
}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_bad_rows_are_told_and_the_others_go_on(batch, batch_size):
    lines = [line for pair in zip(LINES, BAD, strict=False) for line in pair]
    done = batch(lines, batch_size=batch_size)
    assert (done.made, done.failed) == (len(BAD), len(BAD))
    told = [line for line in manifest(batch.folder) if "error" in line]
    assert [line["code"] for line in told] == list(BAD.values())
    assert [line["line"] for line in told] == [2 * n + 2 for n in range(len(BAD))]
    assert [row.reason for row in done.failures] == [line["error"] for line in told]
    assert "nobody expects it" in told[1]["error"]
    check(batch.folder, len(BAD))
    assert batch(lines, batch_size=batch_size).failed == len(BAD)  # they are tried again, and told again


def test_a_row_that_ends_its_process_is_left_out(batch):
    lines = [*LINES[:5], "die here", *LINES[5:8]]
    done = batch(lines, workers=2, batch_size=2)
    assert (done.made, done.failed) == (8, 1)
    (told,) = [line for line in manifest(batch.folder) if "error" in line]
    assert told["line"] == 6 and "signal 9" in told["error"]
    check(batch.folder, 8)


def test_a_folder_of_another_model_or_setting_is_refused_by_name(batch):
    batch(LINES[:3])
    before = content(batch.folder)
    with refused(RequestError, "conflict", "batch.json", names=["out", "toy/toy", "revision"]):
        batch(LINES[:3], open_model=partial(open_toy, 0.25))
    options = {"batch_size": 2, "suffix": ".json", "shards": "files", "threads": 2}
    for name, value in options.items():
        with refused(RequestError, "conflict", "batch.json", names=[f"--{name.replace('_', '-')}", name]):
            batch(LINES[:3], **{name: value})
    assert content(batch.folder) == before
    settings = batch.folder / "batch.json"
    for text, code in (('{"format": 2}', "version"), ("[]", "format"), ('{"format', "format")):
        settings.write_text(text)
        with refused(RequestError, code, "batch.json"):
            batch(LINES[:3])


def test_a_folder_of_something_else_is_refused_and_left_alone(batch):
    batch.folder.mkdir()
    (batch.folder / "mine.txt").write_text("mine")
    with refused(RequestError, "exists", "out", value="mine.txt", names="batch.json"):
        batch(LINES[:3])
    assert set(content(batch.folder)) == {"mine.txt"}
    (batch.folder / "mine.txt").unlink()
    batch(LINES[:3])
    (batch.folder / "000007.tar").write_bytes(b"a stranger's")
    with refused(RequestError, "exists", "000007.tar", names="000007.tar"):
        batch(LINES[:3])
    assert (batch.folder / "000007.tar").read_bytes() == b"a stranger's"
    (batch.folder / "file").write_text("x")
    with refused(RequestError, "write", "file"):
        batch(LINES[:3], dest="out/file")


def test_a_shard_that_is_cut_or_changed_is_told_and_made_again(batch):
    batch(LINES)
    whole = content(batch.folder)
    shard = batch.folder / "000002.tar"
    shard.write_bytes(whole["000002.tar"][:700])
    (batch.folder / "manifest/000001.jsonl").write_text('{"shard": "000001.tar", "by')
    done = batch(LINES)
    assert (done.made, done.kept) == (8, 12) and content(batch.folder) == whole
    assert [told.partition(":")[0] for told in done.told] == ["000001.tar", "000002.tar"]
    shard.write_bytes(whole["000002.tar"][:-1] + b"x")
    assert batch(LINES).told == []  # of the same size: only told where it is asked for
    done = batch(LINES, verify=True)
    assert done.made == 4 and "content has changed" in done.told[0] and content(batch.folder) == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_takes_no_more_ends_it_and_it_goes_on(batch, workers):
    """No file may grow beyond a limit of the system, in whichever process loads the model."""
    lines = [json.dumps({"text": "long " * 2000, "seed": n}) for n in range(8)]
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    try:
        with refused(DataError, "write", names="start again"):
            batch(lines, workers=workers, open_model=open_where_files_are_short)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert set(content(batch.folder)) == {"batch.json"}
    assert batch(lines, workers=workers).made == 8
    check(batch.folder, 8)


def test_no_space_is_named(batch, monkeypatch):
    import tarfile

    def full(self, member, file=None):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", full)
        with refused(DataError, "write", value="no space left on device", names="start again"):
            batch(LINES)
    assert batch(LINES).made == 20


def test_two_batches_in_one_folder(batch, tmp_path):
    """The second is refused, the first one's files are as they were; the lock ends with its process."""
    batch(LINES[:3])
    before = content(batch.folder)
    code = f"""
import sys
from unisono.files import lock_folder
from pathlib import Path
lock_folder(Path({str(batch.folder)!r}), "makes a batch in", "")
print("held", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with refused(RequestError, "state", "out", names="another process makes a batch in"):
            batch(LINES)
        assert content(batch.folder) == before
    finally:
        holder.kill()
        holder.communicate(timeout=60)
    assert batch(LINES).made == 17


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("workers", 0, "range"),
        ("batch_size", 0, "range"),
        ("threads", 0, "range"),
        ("shards", "zip", "unknown"),
        ("engine", "spark", "unknown"),
        ("suffix", ".wav", "unsupported"),
        ("suffix", "../x.txt", "format"),
    ],
)
def test_options_out_of_range(batch, option, value, code):
    with refused(RequestError, code):
        batch(LINES[:1], **{option: value})
    assert not batch.folder.exists()


def test_an_unknown_field_is_refused_before_anything_is_written(batch):
    with refused(RequestError, "unknown", "lvl", names="'level'"):
        batch(LINES[:1], fields={"lvl": 1})
    assert not batch.folder.exists()


def test_a_model_is_known_in_another_process():
    """Weights that only training needs are drawn anew by each; they do not make another model."""
    prints = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        prints.append(model_fingerprint(open_toy()))
    assert prints[0] == prints[1] != model_fingerprint(open_toy(0.25))


def test_threads_are_as_they_were(batch):
    before = torch.get_num_threads()
    batch(LINES[:3], threads=before + 1)
    assert torch.get_num_threads() == before
