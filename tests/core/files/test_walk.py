"""One walk below a folder: what is skipped, followed once, listed; ids and their order."""

import os
import unicodedata

from refused import refused
from unisono.data import Audit
from unisono.errors import DataError
from unisono.files import Names, natural, walk


def made(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_hidden_entries_are_skipped_and_noted(tmp_path):
    made(tmp_path, "cats/a.png", "cats/._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/cats/a.png", "Thumbs.db")
    made(tmp_path, "~$cats/a.png", "#recycle/a.png", "Temporary Items/a.png")
    made(tmp_path, "cats/.hidden.png", "cats/b.PNG", "cats/notes.txt", "cats/.ipynb_checkpoints/a-checkpoint.png")
    found = walk(tmp_path, (".png",))
    assert [file.id for file in found.files] == ["cats/a.png", "cats/b.PNG"]
    assert found.others == ["cats/notes.txt"] and not found.faults
    assert found.skipped == {
        "._*": 1,
        ".ipynb_checkpoints": 2,
        "__MACOSX": 1,
        "Thumbs.db": 1,
        ".hidden.png": 1,
    } | dict.fromkeys(("~$cats", "#recycle", "Temporary Items"), 1)
    audit = Audit()
    found.tell(audit)
    assert not audit.dropped and len(audit.notes) == 1 and ".ipynb_checkpoints (2)" in audit.notes[0]


def test_a_root_may_itself_be_hidden_or_a_link(tmp_path):
    made(tmp_path, ".cache/corpus/a.png")
    (tmp_path / "link").symlink_to(".cache/corpus")
    assert [file.id for file in walk(tmp_path / "link").files] == ["a.png"]
    assert [file.id for file in walk(tmp_path / ".cache").files] == ["corpus/a.png"]


def test_links_are_followed_once(tmp_path):
    root = tmp_path / "root"
    made(tmp_path, "elsewhere/dogs/d.png", "root/cats/a.png", "root/zebras/z.png", "blob")
    (root / "dogs").symlink_to(tmp_path / "elsewhere/dogs")
    (root / "again").symlink_to(tmp_path / "elsewhere/dogs")
    (root / "aaa").symlink_to(root / "zebras")
    (root / "cats/up").symlink_to("..")
    (root / "cats/out").symlink_to(tmp_path)
    (root / "cats/self").symlink_to(root / "cats/self")
    (root / "cats/gone.png").symlink_to("nowhere.png")
    (root / "cats/gone.txt").symlink_to("nowhere.txt")
    (root / "cats/l1.png").symlink_to(tmp_path / "blob")
    (root / "cats/l2.png").symlink_to(tmp_path / "blob")
    found = walk(root, (".png",))
    ids = [file.id for file in found.files]
    assert ids == ["again/d.png", "cats/a.png", "cats/l1.png", "cats/l2.png", "zebras/z.png"]
    assert {id: fault.reason for id, fault in found.faults} == {
        "aaa": "read already", "dogs": "read already", "cats/up": "link loop", "cats/out": "link loop",
        "cats/self": "link loop", "cats/gone.png": "broken link",
    }  # fmt: skip
    assert found.others == ["cats/gone.txt"]
    audit = Audit()
    found.tell(audit)
    assert audit.reasons["read already"] == 2


def test_what_is_no_file_or_no_name_is_listed(tmp_path):
    made(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with open(os.fsencode(tmp_path) + b"/bad\xff.png", "wb") as file:
        file.write(b"x")
    found = walk(tmp_path, (".png",))
    assert [file.id for file in found.files] == ["a.png"]
    assert {id: fault.reason for id, fault in found.faults} == {
        "pipe.png": "not a file", "bad\\xff.png": "name not UTF-8",
    }  # fmt: skip


def test_ids_are_composed_and_unique(tmp_path):
    one, two = unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.png")
    made(tmp_path, one, two, unicodedata.normalize("NFD", "Zoë/x.png"))
    found = walk(tmp_path)
    assert [file.id for file in found.files] == ["Zoë/x.png", one]
    assert [(id, fault.reason) for id, fault in found.faults] == [(one, "same name")]


def test_numbers_come_in_their_order(tmp_path):
    names = [str(n) for n in range(12)]
    made(tmp_path, *(f"{n}/{m}.png" for n in names for m in (10, 9)), "x10/a.png", "x9/a.png")
    ids = [file.id for file in walk(tmp_path).files]
    assert list(dict.fromkeys(id.split("/")[0] for id in ids)) == [*names, "x10", "x9"]
    assert ids[:2] == ["0/9.png", "0/10.png"]
    assert sorted(["10", "2", "02", "a", "1a", "٣"], key=natural) == ["02", "2", "10", "1a", "a", "٣"]


def test_a_root_that_is_none(tmp_path):
    for path in (tmp_path / "gone", tmp_path / ("x" * 300)):
        with refused(DataError, "missing", path) as error:
            walk(path)
        assert error.value.fault is not None and error.value.fault.reason == "missing"
    made(tmp_path, "a.png")
    with refused(DataError, "format", value="is a file, not a folder"):
        walk(tmp_path / "a.png")


def test_names_of_a_list_are_found_in_any_form(tmp_path):
    made(
        tmp_path,
        unicodedata.normalize("NFD", "é/Zoë.wav"),
        "wavs/UPPER.WAV",
        "wavs/both.wav",
        "wavs/both.WAV",
        "wavs/lower.wav",
    )
    names = Names(tmp_path)
    assert names.find("é/Zoë.wav") == tmp_path / unicodedata.normalize("NFD", "é/Zoë.wav")
    assert names.find(unicodedata.normalize("NFD", "é/Zoë.wav")) is not None
    assert names.find("wavs/UPPER.wav") == tmp_path / "wavs/UPPER.WAV"
    assert names.find("wavs/lower.WAV") == tmp_path / "wavs/lower.wav"
    assert names.find("wavs/both.WAV") == tmp_path / "wavs/both.WAV"
    for wrong in ("wavs/upper.wav", "none.wav", "", "wavs", "x" * 300, "a\0b", "../none", "/none/x.wav"):
        assert names.find(wrong) is None
    assert names.find(str(tmp_path / "wavs/UPPER.wav")) == tmp_path / "wavs/UPPER.WAV"
