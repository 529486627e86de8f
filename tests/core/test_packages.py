"""Packages: an export as a wheel: its bytes, what pip and unisono make of it, and what is refused."""

import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import unisono
from refused import refused
from unisono.errors import CheckpointError
from unisono.export.layout import check_tree
from unisono.export.licence import spdx
from unisono.export.package import write_package


@pytest.fixture
def export(voice_export, tmp_path) -> Path:
    """An export with a card that states its licence."""
    folder = shutil.copytree(voice_export, tmp_path / "some-voice")
    info = json.loads((folder / "unisono.json").read_text())
    info["card"] |= {"title": "Some\nvoice", "licence": "CC0 1.0", "data": "made up"}
    (folder / "unisono.json").write_text(json.dumps(info))
    return folder


def test_the_same_export_gives_the_same_bytes(export, tmp_path):
    first = write_package(export, tmp_path / "first")
    again = shutil.copytree(export, tmp_path / "elsewhere" / "some-voice", copy_function=shutil.copyfile)
    for path in again.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700)
    second = write_package(again, tmp_path / "second")
    assert first.name == second.name == "unisono_model_some_voice-1.0.0-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()


def test_a_wheel_is_as_the_format_says(export, tmp_path):
    """RECORD names every file with its digest and size; the metadata are those of the card."""
    (export / "notes.txt").write_text("ours")
    wheel = zipfile.ZipFile(write_package(export, tmp_path / "dist", version="1.2rc1"))
    files = {name: wheel.read(name) for name in wheel.namelist()}
    info = "unisono_model_some_voice-1.2rc1.dist-info"
    rows = list(csv.reader(files[f"{info}/RECORD"].decode().splitlines()))
    assert sorted(row[0] for row in rows) == sorted(files)
    for name, digest, size in rows:
        if name != f"{info}/RECORD":
            wanted = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={wanted}", str(len(files[name])))
    inside = {f"unisono_model_some_voice/some-voice/{path.as_posix()}" for path in check_tree(export)}
    assert {name for name in files if not name.startswith(info)} == inside | {"unisono_model_some_voice/__init__.py"}
    compiled = compile(files["unisono_model_some_voice/__init__.py"], "x", "exec")
    assert set(compiled.co_names) <= {"__doc__"}  # nothing but a docstring
    told = message_from_string(files[f"{info}/METADATA"].decode())
    assert (told["Name"], told["Version"], told["Summary"]) == ("unisono-model-some-voice", "1.2rc1", "Some voice")
    assert told["License-Expression"] == "CC0-1.0" and told.get_all("Requires-Dist") == ["unisono[codec,tts]>=0.1.0"]
    assert "CC0 1.0" in files[f"{info}/licenses/LICENSE"].decode()
    assert told.get_payload() == (export / "README.md").read_text()


def test_pip_installs_it_and_its_name_loads(export, tmp_path, monkeypatch):
    wheel, site = write_package(export, tmp_path / "dist"), tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site, wheel]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(site)
    voice = unisono.load("some-voice")
    assert voice.source is not None and voice.source.revision == "1.0.0"
    assert voice("Hello.").waveform.tobytes() == unisono.load(export)("Hello.").waveform.tobytes()
    again = write_package("some-voice", tmp_path / "again")
    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize(
    ("name", "version", "path", "offer"),
    [
        ("Some_Voice", "1.0.0", "name", "some-voice"),
        ("a--b", "1.0.0", "name", "a-b"),
        ("../x", "1.0.0", "name", "x"),
        ("-", "1.0.0", "name", "my-model"),
        ("voice", "v1", "version", "1.0.0"),
        ("voice", "1.0/../../x", "version", "1.0.0"),
        ("voice", "1.0-1", "version", "1.0.0"),
    ],
)
def test_a_name_that_pip_would_change_is_refused(export, tmp_path, name, version, path, offer):
    with refused(CheckpointError, "format", path, value=name if path == "name" else version, names=offer):
        write_package(export, tmp_path / "dist", name=name, version=version)
    assert not (tmp_path / "dist").exists()


def test_an_export_without_a_licence_is_not_packaged(voice_export, export, tmp_path):
    bare = shutil.copytree(voice_export, tmp_path / "bare")
    with refused(CheckpointError, "missing", "licence", names="LICENSE"):
        write_package(bare, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()
    (bare / "LICENSE").write_bytes(b"mine \xff")
    wheel = zipfile.ZipFile(write_package(bare, tmp_path / "dist"))
    assert wheel.read("unisono_model_bare-1.0.0.dist-info/licenses/LICENSE").decode() == "mine \\xff"


def test_what_could_run_is_not_packaged(export, tmp_path):
    (export / "evil.py").write_text("")
    with refused(CheckpointError, "unsafe", "evil.py"):
        write_package(export, tmp_path / "dist")


@pytest.mark.parametrize(
    ("stated", "identifier"),
    [
        ("CC0 1.0", "CC0-1.0"),
        ("CC BY-NC 4.0, as the data", "CC-BY-NC-4.0"),
        ("apache 2.0, as the data", "Apache-2.0"),
        ("MIT", "MIT"),
        ("MIT, but not on Sundays", None),
        ("Apache-2.0; the text is in the public domain", None),
        ("as CIFAR-10, which states none", None),
        ("", None),
    ],
)
def test_a_licence_is_recognised_or_not(stated, identifier):
    assert spdx(stated) == identifier
