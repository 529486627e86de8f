"""What pip installs: the wheels of unisono and of strangers' plugins, in an environment that knows no repository.

The strangers' plugins are one of each kind that ``unisono new-plugin`` makes, as it makes them.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from unisono.scaffold import KINDS, new_plugin

ROOT = Path(__file__).parent.parent
OF_KINDS = [pytest.param(kind, marks=[pytest.mark.slow] if kind != "duration" else []) for kind in KINDS]
LINES = {
    "masked": '{"pattern": "up", "tokens": [1, 2, 3, 4]}',
    "diffusion": '{"shape": "square", "points": [[1, 1], [-1, 1], [-1, -1], [1, -1]]}',
    "duration": '{"text": "ab", "durations": [1, 2], "values": [0.1, 0.9, 0.9]}',
}
"""A line of the file that a plugin of each kind reads."""
SERVED = """
import json, sys, unisono
from fastapi.testclient import TestClient
from unisono.serve import app

with TestClient(app({"made": unisono.load(sys.argv[1])}), base_url="http://127.0.0.1") as client:
    page = client.get("/v1/models/made/page").json()
    fields = {name: json.loads(value) for name, value in page["examples"][0].items()}
    made = client.post("/v1/models/made", json=fields)
    print(page["view"], made.status_code, made.headers["content-type"])
"""
"""What the server's page is told of a model, and what its first example gives."""


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
def strangers(tmp_path_factory) -> dict[str, Path]:
    """A plugin's folder by kind."""
    folder = tmp_path_factory.mktemp("strangers")
    return {kind: new_plugin(f"my-{kind}", kind, folder) for kind in KINDS}


@pytest.fixture(scope="module")
def wheels(strangers, tmp_path_factory) -> dict[str, Path]:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, *strangers.values()):
        call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    return {path.name.partition("-")[0]: path for path in out.glob("*.whl")}


@pytest.fixture(scope="module")
def elsewhere(wheels, tmp_path_factory) -> Path:
    """A folder with an environment in ``venv``: the wheels, and the packages that they need."""
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
    templates = (ROOT / "core/unisono/scaffold/templates").rglob("[!.]*")
    files = (path.relative_to(ROOT / "core") for path in templates if path.is_file())
    assert {path.as_posix() for path in files if not {"__pycache__", ".ruff_cache"} & {*path.parts}} <= set(names)
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".so", ".ckpt", ".safetensors"))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_wheel_carries_its_recipes_and_entry_point(wheels, kind):
    archive = zipfile.ZipFile(wheels[f"unisono_my_{kind}"])
    assert f"unisono_my_{kind}/recipes/my-{kind}-tiny.yaml" in archive.namelist()
    (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert f"my-{kind} = unisono_my_{kind}:plugin" in archive.read(entry).decode()


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


def test_strangers_plugins_are_listed_beside_the_others(elsewhere):
    listed = call(elsewhere / "venv/bin/unisono", "plugins", "--strict", cwd=elsewhere)
    named = ("codec", "tts", *(f"my-{kind}" for kind in KINDS))
    assert not [name for name in named if f" {name} " not in listed]
    assert "unisono-my-masked" in listed
    recipes = call(elsewhere / "venv/bin/unisono", "recipes", cwd=elsewhere)
    assert {"my-masked/my-masked-tiny", "tts/quickstart", "codec/vocos-tiny"} <= set(recipes.split())
    copy = ("recipes", "copy", "my-duration/my-duration-tiny", "mine.yaml")
    call(elsewhere / "venv/bin/unisono", *copy, cwd=elsewhere)
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


@pytest.mark.parametrize("kind", OF_KINDS)
def test_a_strangers_plugin_passes_the_kit(elsewhere, kind):
    printed = call(elsewhere / "venv/bin/unisono", "check", f"my-{kind}", cwd=elsewhere)
    assert printed.splitlines()[-1] == f"my-{kind}: 24 run, 0 skipped, 24 in total; 0 failed"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_own_tests_pass(elsewhere, strangers, kind):
    tests = shutil.copytree(strangers[kind] / "tests", elsewhere / f"tests-{kind}")
    quick = "not two_processes and not two_shards and not fresh_process"  # they ran in the test above
    printed = call(
        *(elsewhere / "venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"),
        *("-k", quick, tests),
        cwd=elsewhere,
    )
    found = re.search(r"(\d+) passed, 3 deselected", printed)
    assert found and int(found[1]) >= 21 + 9, printed[-1000:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_of_a_strangers_readme_do_what_they_say(elsewhere, strangers, kind):
    """All but pip's, the kit's and the server's; the model that is trained is exported, called and measured."""
    folder = elsewhere / f"reader-{kind}"
    folder.mkdir()
    (folder / "FILE").write_text(f"{LINES[kind]}\n" * 3, encoding="utf-8")
    readme = (strangers[kind] / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (unisono .+)$", readme, re.MULTILINE)
    commands += re.findall(r"`(unisono (?:evaluate|sweep) .+?)`", readme)
    ran = []
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        if words[0] in ("check", "serve"):
            continue
        few = ["--trainer.max_steps=20", "--no-progress"] if words[0] == "train" else []
        call(elsewhere / "venv/bin/unisono", *words, *few, cwd=folder)
        ran.append(words[0])
    assert ran == ["train", "export", "generate", "evaluate", "sweep"]
    assert len([*folder.glob("*.png")]) == 2 and (folder / "evaluation.json").is_file()
    served = call(elsewhere / "venv/bin/python", "-c", SERVED, f"my-my-{kind}", cwd=folder)
    assert served.split() == ["/page/views/file.js", "200", "image/png"]
