"""Stored: files as rows, of folders, patterns and tar shards: once each, by their content, whoever makes them."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from refused import refused
from toy import open_file_toy, open_toy, rows_of
from unisono.batch import Options, run_batch
from unisono.errors import RequestError

CONTENTS = {f"clip{number}.md": f"Content {number}." for number in range(9)}


def folder_of(path: Path, contents=CONTENTS) -> Path:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    return path


def shard_of(path: Path, contents=CONTENTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return path


def run(source, dest: Path, **options):
    return run_batch(open_file_toy, str(source), dest, Options(shard_size=4, **options))


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def made(folder: Path) -> dict[str, bytes]:
    return {line["key"]: rows_of(folder)[line["name"]] for line in manifest(folder)}


def test_a_folder_a_pattern_and_shards_of_the_same_content_are_the_same_rows(tmp_path):
    items = list(CONTENTS.items())
    folder = folder_of(tmp_path / "in")
    sources = {
        "folder": folder,
        "moved": folder_of(tmp_path / "moved in", {f"deep/{name}": content for name, content in items}),
        "pattern": f"{folder}/*.md",
        "shards": f"{tmp_path}/shards/*.tar",
        "folder of shards": tmp_path / "shards",
    }
    shard_of(tmp_path / "shards" / "a.tar", dict(items[:4]))
    shard_of(tmp_path / "shards" / "b.tar", {f"x/{name}": content for name, content in items[4:]})
    found = {}
    for name, source in sources.items():
        outcome = run(source, tmp_path / "out" / name)
        assert (outcome.made, outcome.failed) == (9, 0), name
        found[name] = made(tmp_path / "out" / name)
    assert all(rows == found["folder"] for rows in found.values())
    assert sorted(text.decode().rpartition(" ")[0] for text in found["folder"].values()) == sorted(CONTENTS.values())


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_and_any_start_give_the_same_bytes(tmp_path, workers):
    shard = shard_of(tmp_path / "in.tar")
    run(shard, tmp_path / "one")
    run(shard, tmp_path / "out", workers=workers)
    (tmp_path / "out" / "000001.tar").unlink()
    again = run(shard, tmp_path / "out", workers=workers)
    assert (again.made, again.kept) == (4, 5)
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "one")).read_bytes()


def test_what_is_written_beside_names_the_source_and_no_copy(tmp_path):
    shard = shard_of(tmp_path / "in.tar", {"a/one.md": "Content.", "b/two.note": "bad one"})
    outcome = run(shard, tmp_path / "out")
    assert (outcome.made, outcome.failed) == (1, 1)
    good, bad = manifest(tmp_path / "out")
    assert good["file"] == f"{shard}/a/one.md" and good["line"] == 0
    assert bad["file"] == f"{shard}/b/two.note" and bad["error"] == "b/two.note is a bad one"
    with tarfile.open(tmp_path / "out" / "000000.tar") as archive:
        beside = archive.extractfile(f"{good['key']}.json")
        assert beside is not None and json.loads(beside.read())["request"]["text"] == "a/one.md"


def test_a_changed_file_is_made_anew_and_equal_ones_are_one_row(tmp_path):
    folder = folder_of(tmp_path / "in", {**CONTENTS, "copy.md": "Content 3."})
    assert run(folder, tmp_path / "out").repeated == 1
    (folder / "clip5.md").write_text("Another.")
    again = run(folder, tmp_path / "out")
    assert (again.made, again.kept, again.left_over) == (1, 8, 1)


def test_a_cut_shard_gives_what_is_whole_and_tells_the_rest(tmp_path):
    shard = shard_of(tmp_path / "in.tar")
    shard.write_bytes(shard.read_bytes()[: 5 * 1024 + 512 + 4])  # five whole, and of the sixth four bytes
    outcome = run(shard, tmp_path / "out")
    assert outcome.made == 5 and outcome.failed >= 1
    assert {line["code"] for line in manifest(tmp_path / "out") if "error" in line} == {"damaged"}


def test_files_of_other_kinds_are_listed(tmp_path):
    folder = folder_of(tmp_path / "in", {"one.md": "Content.", "cover.png": "?", ".hidden.md": "?"})
    outcome = run(folder, tmp_path / "out")
    assert outcome.made == 1 and outcome.failed == 0
    assert any("cover.png" in told for told in outcome.told) and any(".hidden" in told for told in outcome.told)
    shard = shard_of(tmp_path / "in.tar", {"one.md": "Content.", "cover.png": "?"})
    assert any(".png" in told for told in run(shard, tmp_path / "two").told)


def test_a_model_that_takes_no_files_refuses_them(tmp_path):
    for source, code in ((folder_of(tmp_path / "in"), "format"), (shard_of(tmp_path / "in.tar"), "unsupported")):
        with refused(RequestError, code=code):
            run_batch(open_toy, str(source), tmp_path / "out", Options())
    (tmp_path / "empty").mkdir()
    with refused(RequestError, code="empty", path="input"):
        run(tmp_path / "empty", tmp_path / "out")


def test_a_file_that_is_gone_fails_alone(tmp_path):
    folder = folder_of(tmp_path / "in", {"one.md": "Content.", "two.md": "Other."})
    (folder / "lost.md").symlink_to(tmp_path / "nowhere")
    outcome = run(folder, tmp_path / "out")
    assert (outcome.made, outcome.failed) == (2, 1)
