"""Errors: each has a code of the list, says what is at fault, and keeps both when it crosses processes."""

import ast
import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from refused import refused
from unisono.data import CacheError
from unisono.errors import (
    CheckpointError,
    Code,
    DataError,
    MissingExtra,
    MissingProgram,
    PluginError,
    RecipeError,
    RequestError,
    UnisonoError,
    did_you_mean,
    raised_as,
    shown,
)
from unisono.files import Fault
from unisono.files.fault import CODES

ROOT = Path(__file__).parents[2]
BUILT_IN = ("UnisonoError", "PluginError", "RecipeError", "RequestError", "MissingProgram", "DataError")
BUILT_IN += ("CheckpointError", "CacheError")


@cache
def trees() -> dict[str, ast.Module]:
    """Return every module of the core, of sound and of the plugins."""
    files = sorted([*ROOT.glob("core/**/*.py"), *ROOT.glob("plugins/**/*.py")])
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in files}


@cache
def kinds() -> dict[str, ast.ClassDef | None]:
    """Return every class of errors by name; those of ``errors.py`` and others without a constructor have none."""
    found: dict[str, ast.ClassDef | None] = dict.fromkeys(BUILT_IN)
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and {getattr(base, "id", "") for base in node.bases} & set(BUILT_IN):
                own = any(isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body)
                found[node.name] = node if own else None
    return found


def name_of(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def made(tree: ast.Module) -> Iterator[ast.Call]:
    """Yield the calls that make an error: those of a kind, and whatever ``kind`` is raised."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in kinds() and kinds()[name_of(node)] is None:
            yield node
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and name_of(node.exc) == "kind":
            yield node.exc


def fields(call: ast.Call) -> dict[str | None, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def test_every_error_has_a_code():
    lacking, count = [], 0
    for file, tree in trees().items():
        for call in made(tree):
            given = fields(call)
            count += 1
            if "code" not in given and None not in given:
                lacking.append(f"{file}:{call.lineno}: {ast.unparse(call)[:80]}")
    assert not lacking, "\n".join(lacking)
    assert count > 1000  # else the test sees nothing


def test_kinds_with_a_constructor_of_their_own_set_the_code():
    for name, node in kinds().items():
        if node is None:
            continue
        inner = [call for call in ast.walk(node) if isinstance(call, ast.Call) and name_of(call) == "__init__"]
        assert inner and all("code" in fields(call) for call in inner), name
    assert MissingExtra("x", "y").code == "dependency"


def test_codes_are_those_of_the_list():
    known = set(get_args(Code))
    for file, tree in trees().items():
        for call in made(tree):
            code = fields(call).get("code")
            branches = [code.body, code.orelse] if isinstance(code, ast.IfExp) else [code]
            for part in branches:
                if isinstance(part, ast.Constant):
                    assert part.value in known, f"{file}:{call.lineno}: {part.value!r}"
    assert set(CODES.values()) <= known


def same(error: UnisonoError) -> UnisonoError:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert again.__dict__ == error.__dict__
    return again


@pytest.mark.parametrize(
    "kind",
    [
        *(UnisonoError, PluginError, RecipeError, RequestError),
        *(MissingProgram, DataError, CheckpointError, CacheError),
    ],
)
def test_an_error_keeps_its_fields_where_it_crosses_processes(kind):
    error = same(kind("too long: shorten it", code="limit", path=Path("x.txt"), value={"length": 3}))
    assert (error.code, error.path, error.value) == ("limit", "x.txt", {"length": 3})
    plain = same(kind("as an older plugin has it"))
    assert (plain.code, plain.path, plain.value, plain.fault) == (None, None, None, None)


def test_errors_with_constructors_and_faults_cross_processes_too():
    assert same(MissingExtra("diffusers", "image")).path == "diffusers"
    assert str(MissingExtra("diffusers", "image")).endswith('run  pip install "unisono[image]"')
    theirs = MissingExtra("gym", "play", distribution="unisono-robot")
    assert str(same(theirs)).endswith('run  pip install "unisono-robot[play]"')

    fault = Fault("too large", "has 9 bytes", "divide it", Path("x"), 3)
    error = same(fault.error(RequestError))
    assert (error.fault, error.code, error.path, error.value) == (fault, "limit", "x", "has 9 bytes")

    again = pickle.loads(pickle.dumps(Stopped("stopped", rounds=7)))
    assert (str(again), again.code, again.rounds) == ("stopped after 7", "failed", 7)


class Stopped(UnisonoError):
    """A kind of a plugin whose constructor takes something else than a sentence."""

    def __init__(self, what: str, *, rounds: int):
        super().__init__(f"{what} after {rounds}", code="failed")
        self.rounds = rounds


def test_near_names_are_proposed_and_values_cut():
    assert did_you_mean("pase", ["pace", "text"]) == " (did you mean 'pace'?)"
    assert did_you_mean("zzz", ["pace", "text"]) == " (known: pace, text)"
    many = did_you_mean("zzz", [f"name{i:02d}" for i in range(21)])
    assert many.startswith(" (known: name00, ") and "name11, … 21 in all" in many and "name12" not in many
    assert did_you_mean("zzz", []) == ""
    assert shown("x" * 100) == "'" + "x" * 79 + "…" and shown("x" * 78) == repr("x" * 78)
    assert shown(10**5000) == "an integer of more than 4,300 digits"


def test_what_refused_asserts():
    """The helper of all other tests must not pass what is not so."""
    error: dict[str, Any] = {"code": "limit", "path": "folder/x.txt", "value": 3}

    def attempt(kind: type[UnisonoError], *asked: Any, raised: type[UnisonoError] = DataError, **more: Any) -> None:
        with refused(kind, *asked, **more):
            raise raised("x.txt has 3 lines", **error)

    attempt(DataError, "limit", "x.txt", value=3, names="3 lines")
    for wrong in (
        lambda: attempt(UnisonoError, "limit"),
        lambda: attempt(DataError, "range"),
        lambda: attempt(DataError, "limit", "y.txt"),
        lambda: attempt(DataError, "limit", value=4),
        lambda: attempt(DataError, "limit", names=["3", "4 lines"]),
        lambda: attempt(DataError, "limit", raised=CacheError),
    ):
        with pytest.raises(AssertionError):
            wrong()


def test_an_error_is_raised_as_another_kind_with_its_fields():
    with refused(RequestError, "range", "eta", value=3, names="eta=3"), raised_as(RequestError):
        raise UnisonoError("eta=3 must be in [0, 1]", code="range", path="eta", value=3)
    with refused(RecipeError, "shape", "codec"), raised_as(RecipeError, "codec"):
        raise RecipeError("it has 3 levels, not 4", code="shape", path="num_levels")


def test_an_error_of_the_kind_and_what_is_no_fault_of_the_user_go_through():
    program = MissingProgram("no ffmpeg", code="dependency")
    with pytest.raises(MissingProgram) as caught, raised_as(RequestError):
        raise program
    assert caught.value is program
    with pytest.raises(ZeroDivisionError), raised_as(RequestError):
        _ = 1 / 0
