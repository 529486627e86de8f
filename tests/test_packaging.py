"""What pip installs: the wheels of unisono and of a stranger's plugin, in an environment that knows no repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "tests" / "example_plugin"


def call(*command: str | Path, cwd: Path, expect: int = 0) -> str:
    """Run a command without this process's Python path and return what it printed."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "UNISONO_PLUGINS"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {"COLUMNS": "200", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == expect, f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, EXAMPLE):
        call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    return {path.name.partition("-")[0]: path for path in out.glob("*.whl")}


@pytest.fixture(scope="module")
def elsewhere(wheels, tmp_path_factory) -> Path:
    """A folder with an environment in ``venv``: the two wheels, and the packages that they need."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv = folder / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", venv, cwd=folder)
    python = venv / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps")
    call(sys.executable, *install, *wheels.values(), cwd=folder)
    # A path in a .pth file is searched, but the .pth files in it, such as an editable install's, are not.
    (site,) = (venv / "lib").glob("python*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    return folder


def test_the_wheel_holds_the_packages_and_nothing_else(wheels):
    names = zipfile.ZipFile(wheels["unisono"]).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    in_tree = {p.name for p in (ROOT / "plugins").glob("unisono_*")}
    assert tops == {"unisono", "unisono_sound", "unisono_recipes"} | in_tree
    recipes = {p.relative_to(ROOT / "recipes").as_posix() for p in (ROOT / "recipes").rglob("*.yaml")}
    assert recipes and recipes <= set(names)
    testing = ROOT / "core/unisono/testing"
    kit = {f"unisono/testing/{path.relative_to(testing).as_posix()}" for path in testing.rglob("*.py")}
    assert {"unisono/py.typed", "unisono/testing/kit.py"} | kit <= set(names)
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".so", ".ckpt", ".safetensors"))]


def test_the_strangers_wheel_carries_its_recipes_and_entry_point(wheels):
    archive = zipfile.ZipFile(wheels["unisono_hum"])
    assert "unisono_hum/recipes/hum-tiny.yaml" in archive.namelist()
    (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "hum = unisono_hum:plugin" in archive.read(entry).decode()


def test_nothing_is_imported_from_the_repository(elsewhere):
    code = (
        "import sys, unisono, unisono.train, unisono.testing.promises\n"
        "from unisono import plugin\n"
        "for name in plugin.discover():\n"
        "    for short in plugin.get(name).models: plugin.resolve(f'{name}/{short}', 'models')\n"
        "files = [m.__file__ for n, m in sys.modules.items() if n.startswith('unisono') and m.__file__]\n"
        "print('\\n'.join(files + sys.path))"
    )
    printed = call(elsewhere / "venv/bin/python", "-c", code, cwd=elsewhere).splitlines()
    files = [line for line in printed if line.endswith(".py")]
    assert len(files) > 30
    assert all(Path(file).is_relative_to(elsewhere) for file in files), files
    in_repo = [line for line in printed if line and Path(line) in {ROOT / p for p in ("core", "plugins", "recipes")}]
    assert not in_repo


def test_a_strangers_plugin_is_listed_beside_the_others(elsewhere):
    listed = call(elsewhere / "venv/bin/unisono", "plugins", "--strict", cwd=elsewhere)
    assert [name for name in ("codec", "hum", "tts") if f" {name} " in listed] == ["codec", "hum", "tts"]
    assert "unisono-hum" in listed
    recipes = call(elsewhere / "venv/bin/unisono", "recipes", cwd=elsewhere)
    assert {"hum/hum-tiny", "tts/quickstart", "codec/vocos-tiny"} <= set(recipes.split())
    call(elsewhere / "venv/bin/unisono", "recipes", "copy", "hum/hum-tiny", "mine.yaml", cwd=elsewhere)
    copied = call(elsewhere / "venv/bin/unisono", "train", "mine.yaml", "--no-progress", cwd=elsewhere)
    assert "run: " in copied and (elsewhere / "runs/mine/0001/checkpoints/last.ckpt").is_file()


def test_a_models_wheel_speaks_by_its_name_far_from_the_clone(elsewhere):
    unisono = elsewhere / "venv/bin/unisono"
    wheel = call(unisono, "package", ROOT / "checkpoints/tts-en", "--dest", "models", cwd=elsewhere).strip()
    install = ("-m", "pip", "--python", elsewhere / "venv/bin/python", "install", "--quiet", "--no-index", "--no-deps")
    call(sys.executable, *install, wheel, cwd=elsewhere)
    (elsewhere / "far").mkdir()
    listed = json.loads(call(unisono, "models", "--json", cwd=elsewhere / "far"))
    assert [(row["name"], row["where"], row["output"]) for row in listed] == [
        ("tts-en", "unisono-model-tts-en 1.0.0", "Audio")
    ]
    call(unisono, "generate", "tts-en", "This voice came out of a wheel.", "-o", "out.wav", cwd=elsewhere / "far")
    assert (elsewhere / "far/out.wav").stat().st_size > 20_000


def test_a_strangers_plugin_passes_the_kit(elsewhere):
    printed = call(elsewhere / "venv/bin/unisono", "check", "hum", cwd=elsewhere)
    assert printed.splitlines()[-1] == "hum: 24 run, 0 skipped, 24 in total; 0 failed"


@pytest.mark.slow
def test_a_strangers_own_tests_pass(elsewhere):
    tests = shutil.copytree(EXAMPLE / "tests", elsewhere / "tests")
    quick = "not two_processes and not two_shards and not fresh_process"  # they ran in the test above
    printed = call(
        *(elsewhere / "venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"),
        *("-k", quick, tests),
        cwd=elsewhere,
    )
    assert "23 passed, 3 deselected" in printed
