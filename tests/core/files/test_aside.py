"""Writing aside: whole or not at all, nothing left behind, and what is wrong in one sentence."""

import errno
import os
import threading

import pytest
from refused import refused
from unisono.errors import CheckpointError, DataError, UnisonoError
from unisono.files import folder_written_aside, walk, written_aside

FULL = "no space left on device"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_keeps_its_suffix(tmp_path):
    path = tmp_path / "new" / "x.ogg"
    with written_aside(path) as aside:
        aside.write_bytes(b"half")
        assert aside.parent == path.parent and aside.suffix == ".ogg" and not path.exists()
        assert not walk(path.parent).files
        aside.write_bytes(b"whole")
    assert path.read_bytes() == b"whole" and names(path.parent) == ["x.ogg"]


@pytest.mark.parametrize("write", [written_aside, folder_written_aside])
@pytest.mark.parametrize("sync", [True, False])
def test_content_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch, write, sync):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: done.append(os.readlink(f"/proc/self/fd/{number}")) or fsync(number)
    )
    monkeypatch.setattr(os, "replace", lambda old, new: done.append("renamed") or replace(old, new))
    with write(tmp_path / "x", sync=sync) as aside:
        file = aside / "in" if aside.is_dir() else aside
        file.write_text("content")
    assert done == ([str(file), "renamed", str(tmp_path)] if sync else ["renamed"])


@pytest.mark.parametrize("write", [written_aside, folder_written_aside])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, RuntimeError])
def test_what_fails_leaves_what_was_there(tmp_path, write, error):
    path = tmp_path / "x"
    if write is written_aside:
        path.write_text("good")
    with pytest.raises(error), write(path) as aside:
        (aside / "in" if aside.is_dir() else aside).write_text("bad")
        raise error
    assert names(tmp_path) == (["x"] if write is written_aside else [])
    assert write is folder_written_aside or path.read_text() == "good"


@pytest.mark.parametrize("write", [written_aside, folder_written_aside])
def test_a_full_disk_is_named(tmp_path, write):
    for error in (OSError(errno.ENOSPC, "x"), RuntimeError("I/O error: No space left on device (os error 28)")):
        writing = write(tmp_path / "x", CheckpointError, "free some", also=(RuntimeError,))
        with refused(CheckpointError, "write", tmp_path / "x", value=FULL, names="free some"), writing:
            raise error
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "full").write_text("mine")
    for path in (tmp_path / "file" / "x", tmp_path / "folder", tmp_path / ("n" * 300), "/proc/none/x"):
        with refused(UnisonoError, "write", path, names="choose another place") as error, written_aside(path) as aside:
            aside.write_text("x")
        assert "\n" not in str(error.value)
    with refused(DataError, "write", "folder"), folder_written_aside(tmp_path / "folder", DataError):
        pass
    assert names(tmp_path) == ["file", "folder"] and names(tmp_path / "folder") == ["full"]


def test_errors_of_other_files_pass(tmp_path):
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "x"):
        (tmp_path / "sources" / "missing").read_text()
    with refused(UnisonoError, "write", "x"), written_aside(tmp_path / "x") as aside:
        (aside / "below").write_text("x")


def test_links_are_followed_and_devices_written_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to("real/x.txt")
    with written_aside(tmp_path / "link.txt") as aside:
        aside.write_text("new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real" / "x.txt").read_text() == "new"
    with written_aside("/dev/null") as aside:
        aside.write_text("new")
    assert not os.path.isfile("/dev/null") and os.path.exists("/dev/null")
    with refused(UnisonoError, "write", "/dev/full", value=FULL), written_aside("/dev/full") as aside:
        aside.write_text("new")
    with written_aside("/dev/null") as aside:  # as libraries write that rename, to which a device is any other name
        aside.with_name("x").write_text("new")
        os.replace(aside.with_name("x"), aside)
    assert not os.path.isfile("/dev/null") and os.path.exists("/dev/null")
    with refused(UnisonoError, "write", "a\0b.txt"), written_aside("a\0b.txt"):
        pass


def test_writers_of_one_file_do_not_meet(tmp_path):
    path, barrier, places = tmp_path / "x.txt", threading.Barrier(8), []

    def write(number):
        with written_aside(path, sync=False) as aside:
            places.append(aside)
            barrier.wait()
            aside.write_text(f"{number}" * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(places)) == 8 and len(set(path.read_text())) == 1 and names(tmp_path) == ["x.txt"]


def test_the_first_of_two_folders_stays(tmp_path):
    with folder_written_aside(tmp_path / "x", keep_other=True) as late:
        with folder_written_aside(tmp_path / "x", keep_other=True) as early:
            (early / "a").write_text("early")
        (late / "a").write_text("late")
    assert names(tmp_path) == ["x"] and (tmp_path / "x" / "a").read_text() == "early"


def test_a_folder_that_cannot_be_moved_in_is_no_other_ones(tmp_path, monkeypatch):
    def refuse(old, new):
        raise PermissionError(errno.EACCES, "no", str(new))

    monkeypatch.setattr(os, "replace", refuse)
    with (
        refused(UnisonoError, "write", "x", value="permission denied"),
        folder_written_aside(tmp_path / "x", keep_other=True),
    ):
        pass
    assert names(tmp_path) == []
