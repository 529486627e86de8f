"""The documentation mentions what there is, links to what exists, and builds."""

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from unisono import plugin
from unisono.cli import VERBS, plugin_verbs
from unisono.nn.adapters import AdapterSpec
from unisono.optim import OptimSpec
from unisono.recipe import RunSpec, all_recipes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))],
    key=str,
)
PAGES = [page for page in PAGES if "_build" not in page.parts]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}

name_of = {page: page.relative_to(ROOT).as_posix() for page in PAGES}


def page(name: str) -> str:
    return TEXT[DOCS / name]


def test_every_verb_has_a_section():
    assert "codec" in plugin_verbs()
    for verb in {**VERBS, **plugin_verbs()}:
        assert f"\n## {verb}\n" in page("command-line.md"), f"no section on {verb}"


def test_every_verb_in_the_docs_exists():
    for path, text in TEXT.items():
        commands = re.findall(r"^(?:\$ )?unisono ([a-z][a-z-]*)", text, re.MULTILINE)
        commands += re.findall(r"`unisono ([a-z][a-z-]*)", text)
        assert set(commands) <= {*VERBS, *plugin_verbs()}, f"{name_of[path]} names a verb that does not exist"


def test_every_shipped_recipe_is_listed():
    shipped = [name for name in all_recipes() if name.partition("/")[0] in ("tts", "codec")]
    assert len(shipped) >= 11
    for name in shipped:
        assert f"`{name}`" in page("recipes.md"), f"recipes.md does not list {name}"


def test_every_recipe_in_the_docs_exists():
    known = set(all_recipes())
    for name in ("tts", "codec"):
        known |= {f"{name}/{short}" for short in (*plugin.get(name).models, *plugin.get(name).data)}
    for path, text in TEXT.items():
        named = set(re.findall(r"(?<![\w/.-])((?:tts|codec)/[a-z][a-z-]*)(?![\w/*.-])", text))
        assert named <= known, f"{name_of[path]}: {sorted(named - known)}"


@pytest.mark.parametrize(("section", "spec"), [("optim", OptimSpec), ("adapters", AdapterSpec), ("run", RunSpec)])
def test_every_key_of_a_section_is_explained(section, spec):
    body = page("recipes.md").partition(f"\n### {section}\n")[2].partition("\n### ")[0]
    for field in fields(spec):
        assert f"| `{field.name}` |" in body, f"recipes.md does not explain {section}.{field.name}"


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("tts/speech", "your-own-data.md"),
        ("tts/espeak", "your-own-data.md"),
        ("codec/audio", "vocoders.md"),
        ("codec/tones", "vocoders.md"),
        ("codec/voice", "soundstorm.md"),
        ("codec/spoken", "soundstorm.md"),
        ("codec/prompted", "gmlm.md"),
        ("codec/made-prompted", "gmlm.md"),
        ("codec/words", "gmlm.md"),
        ("codec/made-words", "gmlm.md"),
        ("codec/pictures", "picture-codecs.md"),
        ("codec/made-pictures", "picture-codecs.md"),
        ("motion/clips", "motion.md"),
        ("motion/figures", "motion.md"),
        ("music/chorales", "music.md"),
        ("music/midi", "music.md"),
        ("music/tunes", "music.md"),
        ("motion/views", "lifter.md"),
        ("motion/figure-views", "lifter.md"),
        ("convert/speakers", "conversion.md"),
        ("convert/espeak", "conversion.md"),
        ("restore/damaged", "miipher.md"),
        ("restore/made-damaged", "miipher.md"),
        ("inverse/trial", "picture-restoration.md"),
        ("inverse/made-kernels", "picture-restoration.md"),
        ("image/folder", "image.md"),
        ("image/captions", "image.md"),
        ("image/shards", "image.md"),
        ("image/emoji", "image.md"),
        ("image/shapes", "image.md"),
        ("outline/scenes", "outlines.md"),
        ("outline/folder", "outlines.md"),
        ("views/objects", "views.md"),
        ("views/folder", "views.md"),
        ("text/files", "text-data.md"),
        ("text/chat", "text-data.md"),
        ("text/toy", "text-data.md"),
    ],
)
def test_every_argument_of_a_data_set_is_explained(name, of):
    for argument, parameter in inspect.signature(plugin.resolve(name, "data")).parameters.items():
        group = parameter.default if is_dataclass(parameter.default) else None
        whole = group is None or f"`{argument}`" in page(of)
        names = [argument] if whole else [f"{argument}.{field.name}" for field in fields(group)]
        for known in names:
            assert f"`{known}`" in page(of), f"{of} does not explain data.{known} of {name}"


def test_every_field_of_a_request_is_explained():
    for name in ("fastspeech", "fastpitch"):
        for field in plugin.resolve(f"tts/{name}", "models").Request.model_fields:
            assert f"| `{field}` |" in page("synthesis-api.md"), f"{field} is not explained"
    for field in plugin.resolve("tts/glow", "models").Request.model_fields:
        assert f"| `{field}` |" in page("glow-tts.md") + page("synthesis-api.md"), f"{field} is not explained"
    for name in ("matcha", "zipvoice"):
        for field in plugin.resolve(f"tts/{name}", "models").Request.model_fields:
            assert f"| `{field}` |" in page("flow-voices.md") + page("synthesis-api.md"), f"{field} is not explained"
    for name in ("soundstorm", "gmlm"):
        for field in plugin.resolve(f"codec/{name}", "models").Request.model_fields:
            assert f"| `{field}` |" in page(f"{name}.md"), f"{field} is not explained"
    for field in plugin.resolve("text/mdlm", "models").Request.model_fields:
        assert f"| `{field}` |" in page("text-decoding.md"), f"{field} is not explained"
    for field in plugin.resolve("motion/lifter", "models").Request.model_fields:
        assert f"`{field}`" in page("lifter.md"), f"{field} is not explained"
    for field in plugin.resolve("outline/pvd", "models").Request.model_fields:
        assert f"| `{field}` |" in page("outlines.md"), f"{field} is not explained"


def test_the_reference_says_what_the_docstrings_say():
    path = DOCS / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert page("reference.md") == module.reference(), "run  python docs/generate_reference.py"


@pytest.mark.parametrize("path", PAGES, ids=name_of.get)
def test_links_and_included_files_resolve(path):
    text = re.sub(r"```.*?```", "", TEXT[path], flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    links += re.findall(r"```\{literalinclude\} (\S+)", TEXT[path])
    for link in links:
        target = link.partition("#")[0]
        if target and "://" not in target:
            if "checkpoints/" in target and not (ROOT / "checkpoints/tts-en").exists():
                continue  # a source distribution has no voice
            assert (path.parent / target).exists(), f"{name_of[path]}: {link} does not exist"


@pytest.mark.parametrize("path", PAGES, ids=name_of.get)
def test_python_in_the_docs_compiles(path):
    for snippet in re.findall(r"^```python\n(.*?)^```", TEXT[path], re.DOTALL | re.MULTILINE):
        tree = ast.parse(snippet)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unisono"):
                if node.module.startswith("unisono_sketch"):  # of a new plugin, whose files are shown as they are
                    continue
                module = importlib.import_module(node.module)
                for alias in node.names:
                    where = f"{name_of[path]}: no {node.module}.{alias.name}"
                    assert hasattr(module, alias.name), where


def test_the_pages_build_without_a_warning(tmp_path):
    for package in ("sphinx", "myst_parser", "furo"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install --group docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d"]
    command += [str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "index.html").is_file()


METHODS = (
    "duration",
    "masked",
    "masked-training",
    "masked-verify",
    "lossless",
    "diffusion",
    "pipelines",
    "devices",
    "deer",
)


@pytest.mark.parametrize("name", METHODS)
def test_a_page_on_a_method_says_why_before_a_block_that_runs(name):
    text = page(f"{name}.md")
    opening = text.partition("\n\n")[2].partition("\n\n")[0]
    assert not opening.startswith(("```", "|")), f"{name}.md opens with no sentence"
    assert len(re.findall(r"[.?:](?:\s|$)", opening)) >= 3, f"{name}.md opens with fewer than three sentences"
    first, shown, _ = text.partition("```python")
    assert shown, f"{name}.md has no block of Python"
    assert "<!-- not run" not in first, f"{name}.md: the first block is not run"


def test_the_pages_of_methods_are_those_of_the_index():
    (listed,) = re.findall(r":caption: Methods\n\n(.*?)```", page("index.md"), re.DOTALL)
    assert tuple(listed.split()) == METHODS
