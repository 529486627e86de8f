"""Exports are written whole or not at all: full disks, kills, and what they leave."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import unisono
from refused import refused
from trees import files
from unisono.errors import CheckpointError
from unisono.export import (
    save_export,
)


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "fails", ["safetensors.torch.save_file", "unisono.export.write._write_text", "shutil.copyfile"]
)
def test_a_full_disk_leaves_the_old_export_and_nothing_half(voice_export, tmp_path, monkeypatch, fails):
    model = unisono.load(voice_export).model
    folder = save_export(model, tmp_path / "voice")
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    with monkeypatch.context() as patch:
        patch.setattr(fails, no_space)
        for dest in (folder, tmp_path / "new"):
            with refused(CheckpointError, "write", dest, value="no space left on device", names="free some"):
                save_export(model, dest, overwrite=True)
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    assert [path.name for path in tmp_path.iterdir()] == ["voice"]


def test_safetensors_own_error_of_a_full_disk_is_one_sentence(voice, tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def fail(*args):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with refused(CheckpointError, "write", "voice", value="no space left on device"):
        save_export(voice.model, tmp_path / "voice")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_cut_while_written_are_not_kept(voice, tmp_path, monkeypatch):
    from safetensors.torch import save_file as whole

    def cut(weights, path):
        whole(weights, path)
        os.truncate(path, path.stat().st_size - 100)

    monkeypatch.setattr("safetensors.torch.save_file", cut)
    with refused(CheckpointError, "damaged", "model.safetensors"):
        save_export(voice.model, tmp_path / "voice")
    assert list(tmp_path.iterdir()) == []


def test_an_export_whose_successor_cannot_be_moved_in_returns(voice, tmp_path, monkeypatch):
    folder = save_export(voice.model, tmp_path / "voice")
    rename = Path.rename

    def stuck(self, target):
        if self.suffix == ".part":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stuck)
        with refused(CheckpointError, "write", "voice", value="permission denied"):
            save_export(voice.model, folder, overwrite=True)
    unisono.load(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["voice"]


def test_what_a_killed_export_left_is_cleared_and_what_it_put_aside_returns(voice, tmp_path):
    folder = save_export(voice.model, tmp_path / "voice")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder.rename(tmp_path / f".voice.{dead.pid}.old")
    (tmp_path / f".voice.{dead.pid}.part").mkdir()
    (tmp_path / f".voice.{os.getpid()}.part-of-mine").mkdir()
    with refused(CheckpointError, "missing", "voice", names=[f".voice.{dead.pid}.old", "rename it"]):
        unisono.load(folder)
    with refused(CheckpointError, "exists", "voice"):
        save_export(voice.model, folder)
    unisono.load(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"voice", f".voice.{os.getpid()}.part-of-mine"}
