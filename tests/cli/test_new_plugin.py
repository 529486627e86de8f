"""New plugin: what is written, under which names, and what is refused; test_packaging installs and runs it."""

import errno
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from refused import refused
from unisono import PLUGIN_API, cli
from unisono.errors import PluginError
from unisono.scaffold import KINDS, Names, new_plugin

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
LONGEST = "z234567890-234567890-234"


def texts(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_written_under_its_names(kind, tmp_path):
    folder = new_plugin("note-rows", kind, tmp_path / "deep")
    assert folder == tmp_path / "deep/unisono-note-rows"
    assert [path.name for path in folder.parent.iterdir()] == ["unisono-note-rows"]
    found = texts(folder)
    package = "unisono_note_rows"
    assert {"README.md", "pyproject.toml", ".gitignore", "tests/test_conformance.py"} <= {*found}
    steps = yaml.safe_load(found[".github/workflows/test.yml"])["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step][-3:] == ["ruff check", "pyright", "pytest"]
    assert {f"{package}/recipes/note-rows.yaml", f"{package}/recipes/note-rows-tiny.yaml"} <= {*found}
    assert "class NoteRows(" in found[f"{package}/model.py"]
    for path, text in found.items():
        assert "sketch" not in (path + text).lower(), path
        assert not re.search(r"\bonly (masked|diffusion|duration)\b", text), path
        assert text.endswith("\n") and "\r" not in text, path
    project = tomllib.loads(found["pyproject.toml"])
    assert project["project"]["entry-points"]["unisono.plugins"] == {"note-rows": f"{package}:plugin"}
    for name in set(re.findall(r"\*\*`(?:tests/|recipes/|(\w+\.py))`\*\*", found["README.md"])) - {""}:
        assert f"{package}/{name}" in found, f"the README tells of {name}"


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_written_for_the_unisono_that_writes_it(kind, tmp_path):
    found = texts(new_plugin("note-rows", kind, tmp_path))
    assert f'api="{PLUGIN_API}"' in found["unisono_note_rows/__init__.py"]
    needs = tomllib.loads(found["pyproject.toml"])["project"]["dependencies"]
    major, minor = (int(part) for part in version("unisono").split(".")[:2])
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (diffusers,) = [need for need in own["image"] if need.startswith("diffusers")]
    assert needs == [f"unisono>={major}.{minor},<{major}.{minor + 1}", *([diffusers] if kind == "diffusion" else [])]


def test_it_is_lint_clean_by_a_short_and_a_long_name(tmp_path):
    for kind in KINDS:
        for name in ("a", LONGEST):
            new_plugin(name, kind, tmp_path / kind)
    folders = sorted(tmp_path.glob("*/*"))
    assert len(folders) == 6
    for command in (("check",), ("format", "--check")):
        for folder in folders:  # each by its own settings, as its author runs it
            line = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, f"{folder}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    ("name", "code", "names"),
    [
        ("", "format", "my-plugin"),
        ("Note_Rows", "format", "note-rows"),
        ("note--rows", "format", "note-rows"),
        ("1st", "format", "st"),
        ("é", "format", "my-plugin"),
        ("a/../../b", "format", "a-b"),
        ("unisono-rows", "format", "rows"),
        ("unisono_rows", "format", "rows"),
        (f"{LONGEST}5", "limit", "24"),
        ("none", "conflict", "None"),
        ("block", "conflict", "Block"),
        ("model-rows", "conflict", "unisono-model-rows"),
        ("tts", "exists", "unisono"),
        ("sound", "exists", "unisono_sound"),
    ],
)
def test_a_name_that_is_none_or_clashes_is_refused(name, code, names, tmp_path):
    with refused(PluginError, code, "name", value=name, names=names):
        new_plugin(name, "masked", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_installed_is_seen_whatever_the_list_of_plugins_allows(tmp_path, monkeypatch):
    info = tmp_path / "unisono_rows-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unisono-rows\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("UNISONO_PLUGINS", "")
    for name, shown in (("rows", "unisono-rows 0.1"), ("tts", "plugin")):
        with refused(PluginError, "exists", "name", value=name, names=shown):
            Names.read(name)


def test_an_unknown_kind_is_refused(tmp_path):
    with refused(PluginError, "unknown", "kind", value="maskd", names="masked"):
        new_plugin("note-rows", "maskd", tmp_path)


def test_what_is_there_is_never_written_over(tmp_path):
    folder = tmp_path / "unisono-note-rows"
    folder.mkdir()
    with refused(PluginError, "exists", folder, value="note-rows"):
        new_plugin("note-rows", dest=tmp_path)
    assert not list(folder.iterdir())
    folder.rmdir()
    folder.symlink_to(tmp_path / "nowhere")
    with refused(PluginError, "exists", folder, value="note-rows"):
        new_plugin("note-rows", dest=tmp_path)


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with refused(PluginError, "write", tmp_path / "file/unisono-note-rows"):
        new_plugin("note-rows", dest=tmp_path / "file")
    write = Path.write_text

    def full(path: Path, *args, **kwargs):
        if path.name == "media.py":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with refused(PluginError, "write", tmp_path / "unisono-note-rows", names="no space left"):
        new_plugin("note-rows", dest=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_says_what_to_do_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new-plugin", "note-rows", "--kind", "duration"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "unisono-note-rows" and (tmp_path / printed[0]).is_dir()
    commands = [line.removeprefix("next:").strip() for line in printed[1:]]
    tiny = "unisono train note-rows/note-rows-tiny"
    assert commands == ["pip install -e unisono-note-rows", tiny, "unisono check note-rows"]
    assert cli.main(["new-plugin", "note-rows"]) == 2
    assert capsys.readouterr().err.startswith("unisono: 'unisono-note-rows' exists")
