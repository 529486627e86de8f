"""Names that nothing defines are found, whatever letters stand in the shapes of jaxtyping."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = """
from jaxtyping import Float
from torch import Tensor

def shaped(x: Float[Tensor, "b"], ä: Float[Tensor, "n"]) -> Float[Tensor, "n d"]: ...
def unknown(x: Bool[Tensor, "b"], ä: Float[Array, "n"]) -> "Missing": ...
"""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("undefined_names", ROOT / "tools/undefined_names.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missing_import_is_found_beside_shapes(tool, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(SOURCE, encoding="utf-8")
    assert [line.split("`")[1] for line in tool.undefined_names([path])] == ["Bool", "b", "Array", "Missing"]


def test_the_repository_has_none(tool):
    assert tool.undefined_names(tool.FOLDERS) == []
