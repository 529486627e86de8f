"""Who imports whom, and what is light."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "core/unisono/scaffold/templates"  # of plugins: what they are held to is what plugins are
SHIPPED = sorted((ROOT / "core/unisono").rglob("*.py"))
CORE = [path for path in SHIPPED if TEMPLATES not in path.parents]
SOUND = sorted((ROOT / "core/unisono_sound").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").glob("unisono_*"))
NEW = sorted(TEMPLATES.glob("*/unisono_sketch"))
HEAVY = ("torch", "lightning", "librosa", "matplotlib", "numba", "pandas", "transformers", "scipy")


def imports(path: Path) -> list[tuple[str, str | None]]:
    """Return (module, name) of each absolute import in a file, wherever it stands."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def test_core_imports_no_plugin():
    assert len(CORE) > 40 and len(NEW) == 3
    wrong = [f"{path.name}: {module}" for path in CORE for module, _ in imports(path) if module.startswith("unisono_")]
    assert not wrong


def test_sound_imports_core_only():
    assert len(SOUND) > 20
    for path in SOUND:
        for module, _ in imports(path):
            top = module.partition(".")[0]
            assert top in ("unisono", "unisono_sound") or not top.startswith("unisono_"), f"{path.name}: {module}"


def test_sound_has_no_entry_point():
    targets = [point.value for point in entry_points(group="unisono.plugins")]
    assert targets and not [target for target in targets if target.startswith("unisono_sound")]


# What a medium is (`media`), and the tool's own summary of itself, may say so.
OF_ONE_MODALITY = re.compile(r"\b(speech|speaker|mel|utterance|motion|skeleton)s?\b", re.IGNORECASE)
SUMMARY = "non-autoregressive generators of"


def test_no_line_of_the_core_names_a_modality():
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SHIPPED
        if path.parent.name != "media"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if OF_ONE_MODALITY.search(line) and SUMMARY not in line and "Generating Diverse" not in line
    ]
    assert not lines, "\n".join(lines)


def test_core_names_no_plugin_in_a_string():
    """Import strings would be a way around: 'unisono_tts.fastpitch:FastPitch'."""
    wrong = [
        f"{path.name}: {node.value!r}"
        for path in CORE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("unisono_")
    ]
    assert not wrong


@pytest.mark.parametrize("package", [*PLUGINS, *NEW], ids=lambda path: f"{path.parent.name}-{path.name}")
def test_plugins_import_public_names_and_no_other_plugin(package):
    files = sorted(package.rglob("*.py"))
    assert files
    for path in files:
        for module, name in imports(path):
            top, *rest = module.split(".")
            known = (package.name, "unisono_sound")
            assert top in known or not top.startswith("unisono_"), f"{path.name} imports {module}"
            if top in ("unisono", "unisono_sound"):
                private = [part for part in [*rest, name or ""] if part.startswith("_") and part != "__version__"]
                assert not private, f"{path.name} imports {module}.{name}, which is not public"


def loaded(code: str, *arguments: str) -> set[str]:
    """Run code in a clean process and return which heavy packages it has loaded."""
    script = f"{code}\nimport sys\nprint('loaded:', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (last,) = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    return set(last.split()[1:])


CLI = """
import sys
from unisono.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
"""


LIGHT = {
    "import": "import unisono; unisono.Plugin; unisono.__version__",
    "manifests": "from unisono import plugin; [plugin.get(n) for n in plugin.discover()]",
    **{
        " ".join(words): f"sys.argv[1:] = {words!r}\n{CLI}"
        for words in (
            *(["--help"], ["--version"], ["plugins"], ["recipes"], ["codec", "encode", "--help"]),
            *([verb, "--help"] for verb in ("train", "generate", "export", "check", "data", "recipes", "doctor")),
            *([verb, "--help"] for verb in ("models", "package", "push", "new-plugin")),
        )
    },
}


def test_these_load_nothing_heavy():
    """One process does all, one after the other: none has loaded anything before the first that does."""
    steps = "".join(
        f"exec({code!r}, {{'sys': sys}})\n"
        f"assert not (heavy := [m for m in {HEAVY!r} if m in sys.modules]), f'{name} loads {{heavy}}'\n"
        for name, code in LIGHT.items()
    )
    assert len(LIGHT) == 18 and loaded(f"import sys\n{steps}") == set()


def test_core_needs_no_pytest():
    """The kit serves on the command line where pytest is not installed."""
    for path in CORE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in inside:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not [n for n in names if n.partition(".")[0] in ("pytest", "xdist", "_pytest")], path


def test_the_probe_sees_what_is_heavy():
    assert loaded("import scipy") == {"scipy"}


def test_every_public_name_can_be_had():
    import unisono

    assert set(unisono.__all__) == set(dir(unisono))
    for name in unisono.__all__:
        assert getattr(unisono, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        unisono.lod  # noqa: B018


def test_what_a_package_declares_public_exists():
    files = [*CORE, *SOUND]
    packages = [".".join(p.relative_to(ROOT / "core").parent.parts) for p in files if p.name == "__init__.py"]
    assert {"unisono", "unisono.data", "unisono.duration", "unisono.testing", "unisono.train"} <= set(packages)
    for package in packages:
        module = import_module(package)
        missing = [name for name in getattr(module, "__all__", []) if not hasattr(module, name)]
        assert not missing, f"{package}: {missing}"
