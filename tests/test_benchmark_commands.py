"""Commands of benchmarks, and those that wait for a GPU: they name scripts, flags, recipes and keys that there are."""

import re
import shlex
from pathlib import Path

import pytest
from unisono.errors import RecipeError
from unisono.recipe import Recipe, all_recipes

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/*.md")),
    *sorted(ROOT.glob("checkpoints/*/README.md")),
]


def commands(page: Path, begin: str) -> list[str]:
    """The commands of a page that begin so, whether they stand in a line or in a block."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(rf"(?:^|`|\$ ){begin}[^`\n]*", text, re.MULTILINE)
    return [" ".join(command.lstrip("`$ ").split()) for command in found]


def every(pages: list[Path], begin: str) -> list:
    return [
        pytest.param(command, id=f"{page.relative_to(ROOT)}:{number}")
        for page in pages
        for number, command in enumerate(commands(page, begin))
    ]


@pytest.mark.parametrize("command", every(PAGES, r"python benchmarks/\w+\.py"))
def test_a_benchmark_has_the_flags_that_a_page_gives_it(command):
    script, flags = command.split()[1], re.findall(r"(?<=\s)--[\w-]+", command)
    source = (ROOT / script).read_text(encoding="utf-8")
    known = set(re.findall(r'"(--[\w-]+)"', source)) | {"--help"}
    assert set(flags) <= known, f"{script} has no {sorted(set(flags) - known)}"


@pytest.mark.parametrize("command", every([ROOT / "benchmarks/gpu.md"], "unisono train "))
def test_a_training_that_waits_for_a_gpu_has_a_recipe_that_takes_its_keys(command):
    name, *given = shlex.split(command)[2:]
    assert name in all_recipes(), f"there is no recipe {name}"
    try:
        Recipe.read(name, [key for key in given if key.startswith("--")])
    except RecipeError as error:
        assert error.code == "missing" and "…" in given, error
