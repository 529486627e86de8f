"""Pictures in shards: names of members, what is listed, and archives that are damaged."""

import gzip
import io
import json
import tarfile

import pytest
from PIL import Image as Pillow
from refused import refused
from unisono.errors import DataError
from unisono_image.corpus.shards import ShardData


def png(value, size=(8, 8)) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", size, value).save(buffer, "PNG")
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
    with tarfile.open(tmp_path / "part-0.tar", "w") as archive:
        add(archive, "one.png", png((1, 1, 1)))
        add(archive, "one.txt", b"the first\n")
        add(archive, "one.cls", b"1")
        add(archive, "two.png", png((2, 2, 2), (16, 12)))
        add(archive, "two.json", json.dumps({"caption": ["second", "number two"], "label": 0}).encode())
        add(archive, "bad.jpg", b"broken")
    with tarfile.open(tmp_path / "part-1.tar", "w") as archive:
        add(archive, "one.png", png((3, 3, 3)))
        add(archive, "four.txt", b"without an image")
    return tmp_path


@pytest.mark.parametrize("root", ["", "part-{0..1}.tar"], ids=["folder", "pattern"])
def test_shards_have_captions_classes_and_reasons(shards, root):
    data = ShardData(str(shards / root), size=8, batch_size=1, val_size=0)
    audit = data.prepare(progress=False)
    assert audit.reasons == {"unreadable": 1, "no image": 1}
    pictures = data.train_set.pictures
    assert [p.id for p in pictures] == ["part-0.tar/one", "part-0.tar/two", "part-1.tar/one"]
    assert [p.captions for p in pictures] == [("the first",), ("second", "number two"), ()]
    assert [p.label for p in pictures] == [1, 0, -1]
    assert data.classes == ["0", "1"]
    assert [int(data.train_set.of(p)[0, 0, 0]) for p in pictures] == [1, 2, 3]


@pytest.mark.parametrize("kept", [1024 + 40, 512 + 40], ids=["in a header", "in a file"])
def test_a_shard_that_ends_too_soon_loses_its_rest_alone(shards, kept):
    whole = (shards / "part-0.tar").read_bytes()
    (shards / "part-0.tar").write_bytes(whole[:kept])
    data = ShardData(str(shards), size=8, batch_size=1, val_size=0)
    audit = data.prepare(progress=False)
    assert audit.reasons["damaged shard"] == 1
    assert "part-1.tar/one" in [p.id for p in data.train_set.pictures]


def shard(path, *members):
    """A shard of (name, content); a number stands for a picture of that grey."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            if isinstance(content, str):
                content = content.encode()
            add(archive, name, png((content,) * 3) if isinstance(content, int) else content)
    return path


def read(path):
    """What a shard comes to: name, grey, captions and class of each picture; reasons by name; the audit."""
    data = ShardData(str(path), size=8, batch_size=1, val_size=0)
    audit = data.prepare(progress=False)
    kept = {
        p.id.partition("/")[2]: (int(data.train_set.of(p)[0, 0, 0]), p.captions, p.label)
        for p in data.train_set.pictures
    }
    return kept, {item.id.partition("/")[2] or item.id: item.reason for item in audit.dropped}, audit


def test_a_mask_is_known_by_its_name_where_no_text_tells(tmp_path):
    members = [
        ("s.seg.png", 9),
        ("s.rgb.png", 1),
        ("t.depth.png", 2),
        ("u.rgb.png", 3),
        ("u.MASK.png", 4),
        ("u.txt", "u"),
    ]
    kept, dropped, _ = read(shard(tmp_path / "a.tar", *members))
    assert kept == {"s.rgb": (1, (), -1), "t.depth": (2, (), -1), "u": (3, ("u",), -1)}
    assert dropped == {"s.seg.png": "another picture", "u.MASK.png": "another picture"}


def test_names_of_a_shard_are_compared_composed(tmp_path):
    kept, dropped, _ = read(shard(tmp_path / "a.tar", ("cafe\u0301.png", 1), ("caf\xe9.txt", "black")))
    assert [(grey, captions) for grey, captions, _ in kept.values()] == [(1, ("black",))] and not dropped


def test_texts_of_a_compressed_shard_are_read_on_the_way(tmp_path, monkeypatch):
    """To go back for each text unpacks all that lies before it: 1,500 items took 95 s."""
    members = [(f"{n}.png", n) for n in range(40)] + [(f"{n}.txt", f"no {n}") for n in range(40)]
    plain = shard(tmp_path / "a.tar", *members)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    back, rewind = [], gzip._GzipReader._rewind
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda self: (back.append(1), rewind(self))[1])
    kept, dropped, _ = read(tmp_path / "b.tar.gz")
    assert kept == {f"{n}": (n, (f"no {n}",), -1) for n in range(40)} and not dropped
    assert len(back) <= 4


def test_a_member_with_holes_is_no_damage(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        data = png((7,) * 3)
        info = tarfile.TarInfo("a.png")
        info.size = len(data)
        # As GNU tar writes a file that is stored in part: one piece of the data, and its real size.
        pieces = f"1\n0\n{len(data)}\n".encode().ljust(512, b"\0")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.png",
                            "GNU.sparse.realsize": str(len(data) + 5000)}  # fmt: skip
        info.size = len(pieces) + len(data)
        archive.addfile(info, io.BytesIO(pieces + data))
    kept, dropped, _ = read(tmp_path / "a.tar")
    assert kept == {"a": (7, (), -1)} and not dropped


def test_files_beside_shards_are_counted(shards):
    (shards / "c.tar.zst").write_bytes(b"x")
    audit = ShardData(str(shards), size=8, batch_size=1, val_size=0).prepare(progress=False)
    assert "1 files below" in str(audit.notes) and "c.tar.zst" in str(audit.notes)


def test_names_with_dots_are_whole_names(tmp_path):
    members = [(f"IMG_2024.05.{n:02}.{kind}", n if kind == "png" else f"no {n}") for n in range(10) for kind in
               ("png", "txt")]  # fmt: skip
    kept, dropped, _ = read(shard(tmp_path / "a.tar", *members))
    assert kept == {f"IMG_2024.05.{n:02}": (n, (f"no {n}",), -1) for n in range(10)}
    assert dropped == {}


def test_accents_of_members_may_be_written_in_two_ways(tmp_path):
    kept, dropped, _ = read(shard(tmp_path / "a.tar", ("cafe\u0301.png", 1), ("caf\u00e9.txt", "a cup")))
    assert kept == {"caf\u00e9": (1, ("a cup",), -1)} and dropped == {}


def test_captions_may_stand_anywhere_in_a_shard(tmp_path):
    pictures = [(f"{n}.png", n) for n in range(3)]
    texts = [(f"{n}.txt", f"no {n}") for n in range(3)]
    for order in (pictures + texts, texts + pictures):
        kept, dropped, audit = read(shard(tmp_path / "a.tar", *order))
        assert kept == {f"{n}": (n, (f"no {n}",), -1) for n in range(3)} and not dropped
        assert not any("no caption" in note for note in audit.notes)


def test_masks_and_other_pictures_of_an_item_are_listed(tmp_path):
    kept, dropped, _ = read(shard(
        tmp_path / "a.tar", ("0.seg.png", 9), ("0.png", 2), ("0.txt", "zero"), ("s.input.png", 1), ("s.txt", "in"),
        ("q.a.png", 3), ("q.b.png", 4), ("q.txt", "which?"), ("r.a.png", 5), ("r.b.png", 6), ("u.one.png", 7),
        ("u.one.txt", "own"), ("u.txt", "shared"), ("v.PNG", 8), ("v.jpg", b"another"), ("w.npy", b"alone"),
    ))  # fmt: skip
    assert kept == {
        "s": (1, ("in",), -1), "0": (2, ("zero",), -1), "r.a": (5, (), -1), "r.b": (6, (), -1),
        "u.one": (7, ("own",), -1), "v": (8, (), -1),
    }  # fmt: skip
    assert dropped == {
        "0.seg.png": "another picture", "q.a.png": "several pictures", "q.b.png": "several pictures",
        "u": "no image", "v.jpg": "another picture", "w": "no image",
    }  # fmt: skip


def test_a_duplicate_member_loses_itself_alone(tmp_path):
    kept, dropped, _ = read(shard(tmp_path / "a.tar", ("0.png", 1), ("0.txt", "a"), ("0.png", 2), ("1.png", 3)))
    assert kept == {"0": (1, ("a",), -1), "1": (3, (), -1)}
    assert dropped == {"0.png": "second file"}


@pytest.mark.parametrize(
    ("part", "content", "reason"),
    [
        ("cls", "2147483647", "no class"),
        ("cls", "9" * 6000, "no class"),
        ("cls", "-1", "no class"),
        ("cls", "1.5", "no class"),
        ("cls", "NaN", "no class"),
        ("json", '{"label": true}', "no class"),
        ("json", '{"label": 2.5}', "no class"),
        ("json", '{"label": ' + "9" * 5000 + "}", "not JSON"),
        ("json", "[" * 100_000, "not JSON"),
        ("json", '{"caption": "a \\ud83d box"}', "half a character"),
        ("txt", "caf\u00e9".encode("latin-1"), "invalid UTF-8"),
        ("txt", b"x" * (2**20 + 1), "too large"),
    ],
)
def test_a_part_that_cannot_be_read_drops_its_item_alone(tmp_path, part, content, reason):
    kept, dropped, _ = read(
        shard(tmp_path / "a.tar", ("0.png", 1), (f"0.{part}", content), ("1.png", 2), ("1.cls", "1"))
    )
    assert kept == {"1": (2, (), 1)} and dropped == {"0": reason}


def test_what_is_no_regular_file_of_a_shard(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        for name in ("./0.png", "._0.png", "__MACOSX/0.png"):
            add(archive, name, png((1, 1, 1)))
    kept, dropped, audit = read(tmp_path / "a.tar")
    assert kept.keys() == {"0"} and dropped == {"link.png": "not a file"}
    assert any("skipped in a.tar, hidden or a system's own: 2 members" in note for note in audit.notes)


@pytest.mark.parametrize("kept", [1024, 1024 + 40, 2560, 3100])
def test_a_cut_shard_keeps_what_is_whole(tmp_path, kept):
    whole = shard(tmp_path / "a.tar", *[(f"{n}.png", n) for n in range(4)]).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:kept])
    found, dropped, _ = read(tmp_path / "a.tar")
    assert found == {f"{n}": (n, (), -1) for n in range(kept // 1024)}
    assert dropped["a.tar"] == "damaged shard"
    (tmp_path / "a.tar").write_bytes(whole + whole)
    assert read(tmp_path / "a.tar")[1] == {"a.tar": "damaged shard"}  # tarfile reads no second archive


def test_shards_of_one_name_in_two_folders_are_two(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        shard(tmp_path / name / "part.tar", ("0.png", ord(name)))
    data = ShardData(str(tmp_path), size=8, batch_size=1, val_size=0)
    assert not data.prepare(progress=False).dropped
    assert [p.id for p in data.train_set.pictures] == ["a/part.tar/0", "b/part.tar/0"]


def test_audits_say_how_many_have_no_class_or_caption(tmp_path):
    notes = read(shard(tmp_path / "a.tar", ("0.png", 1), ("0.cls", "0"), ("0.txt", "a"), ("1.png", 2), ("2.png", 3)))[2]
    assert "2 of 3 pictures have no class" in notes.notes and "2 of 3 pictures have no caption" in notes.notes
    bare = read(shard(tmp_path / "b.tar", ("0.png", 1), ("1.png", 2)))[2]
    assert any("none of 2 pictures has a class or a caption" in note for note in bare.notes)


def test_shards_that_are_not_there(tmp_path):
    with refused(DataError, "empty", tmp_path):
        ShardData(str(tmp_path)).prepare(progress=False)
    with refused(DataError, "missing", "part-0.tar", names="2 of 2"):
        ShardData(str(tmp_path / "part-{0..1}.tar")).prepare(progress=False)
