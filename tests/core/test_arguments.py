"""Arguments: what a typed constructor takes, what it is coerced to, and how a misfit is said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from refused import refused
from unisono.arguments import REQUIRED, build, check_arguments, describe
from unisono.errors import PluginError, RecipeError


@dataclass(frozen=True)
class Inner:
    depth: int = 2
    rates: tuple[float, ...] = (0.5, 1.0)


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner(depth=7)
    names: list[str] = field(default_factory=lambda: ["a"])

    def __post_init__(self):
        if not self.names:
            raise RecipeError("names must not be empty")


class Everything:
    def __init__(
        self,
        number: float,
        count: int = 3,
        flag: bool = False,
        text: Optional[str] = None,  # noqa: UP045
        mode: Literal["x", "y"] = "x",
        mixed: Union[int, float, Literal["all"], None] = None,  # noqa: UP007
        pair: tuple[int, int] = (1, 2),
        grid: tuple[tuple[int, int, int], ...] = (),
        many: Sequence[str] = ("p",),
        table: dict[str, int] | None = None,
        path: Path = Path("here"),
        outer: Outer = Outer(inner=Inner(depth=9)),
        maybe: Inner | None = None,
        hook: Callable[[], None] | None = None,
        hook_or_name: Union[Callable[[], None], str] = "name",  # noqa: UP007
    ):
        self.given = {key: value for key, value in locals().items() if key != "self"}


def checked(**given: Any) -> dict[str, Any]:
    return check_arguments(Everything, {"number": 1, **given}, "model", "r")


def test_defaults_are_filled_in_as_plain_data():
    found = checked()
    assert found["outer"] == {"inner": {"depth": 9, "rates": [0.5, 1.0]}, "names": ["a"]}
    assert found["path"] == "here" and found["pair"] == [1, 2] and found["many"] == ["p"]
    assert list(found) == [name for name in Everything(1).given]


@pytest.mark.parametrize(
    ("name", "given", "object_", "plain"),
    [
        ("number", 2, 2.0, 2.0),
        ("pair", [3, 4], (3, 4), [3, 4]),
        ("grid", [[1, 2, 3]], ((1, 2, 3),), [[1, 2, 3]]),
        ("many", ["q"], ["q"], ["q"]),
        ("mixed", 2, 2, 2),
        ("mixed", 2.5, 2.5, 2.5),
        ("mixed", "all", "all", "all"),
        ("table", {"a": 1}, {"a": 1}, {"a": 1}),
        ("path", "there", Path("there"), "there"),
        ("text", "7", "7", "7"),
        ("hook", None, None, None),
        ("hook_or_name", "other", "other", "other"),
        ("maybe", {"depth": 5}, Inner(5), {"depth": 5, "rates": [0.5, 1.0]}),
        (
            "outer",
            {"inner": {"rates": [1]}},
            Outer(Inner(9, (1.0,))),
            {"inner": {"depth": 9, "rates": [1.0]}, "names": ["a"]},
        ),
    ],
)
def test_values_are_coerced_without_loss(name, given, object_, plain):
    found = checked(**{name: given})[name]
    assert found == plain and type(found) is type(plain)
    made = build(Everything, {"number": 1, name: given}, "model", "r").given[name]
    assert made == object_ and type(made) is type(object_)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("number", "1.5", "model.number='1.5' must be a number"),
        ("number", True, "must be a number"),
        ("count", 2.0, "model.count=2.0 must be an integer"),
        ("count", None, "model.count=None must be an integer"),
        ("flag", 1, "must be true or false"),
        ("flag", "yes", "must be true or false"),
        ("text", 7, "must be a text or null"),
        ("mode", "z", "must be one of 'x', 'y'"),
        ("mixed", "most", "must be one of 'all' or an integer or a number or null"),
        ("pair", [1, 2, 3], "must be a list of 2 integers"),
        ("pair", "12", "must be a list of 2 integers"),
        ("grid", [[1, 2]], "must be a list of lists of 3 integers"),
        ("many", "word", "must be a list of texts"),
        ("table", {"a": "b"}, "must be a mapping of names to integers or null"),
        ("hook", "os.getcwd", "must be null"),
        ("outer", 3, "must be a mapping of inner, names"),
        ("text", object(), "must be a text or null"),
    ],
)
def test_a_misfit_names_path_value_and_what_fits(name, value, said):
    code = "unknown" if name == "mode" else "type"  # the values of a literal are names
    with refused(RecipeError, code, f"model.{name}", value=value, names=said) as caught:
        checked(**{name: value})
    assert caught.value.path == f"model.{name}" and len(str(caught.value)) < 250


def test_a_number_of_thousands_of_digits_is_not_printed():
    with refused(RecipeError, "type", "model.count", names="4,300"):
        checked(count=10**5000)


def test_nested_faults_have_their_whole_path():
    with refused(RecipeError, "unknown", "model.outer.inner.dept", names="depth"):
        checked(outer={"inner": {"dept": 1}})
    with refused(RecipeError, "type", "model.outer.inner.depth", value="2"):
        checked(outer={"inner": {"depth": "2"}})
    with refused(RecipeError, "value", "model.outer", names="r: names must not be empty") as caught:
        checked(outer={"names": []})
    assert caught.value.path == "model.outer"
    with refused(RecipeError, "missing", "model.number", names="--model.number"):
        check_arguments(Everything, {}, "model", "r")
    with refused(RecipeError, "missing", "model.number", names="--model.number"):
        checked(number=REQUIRED)
    with refused(RecipeError, "missing", "model.number", names="--model.number"):
        checked(number=REQUIRED)


def test_an_argument_without_a_type_is_its_authors_fault():
    class Untyped:
        def __init__(self, size):
            self.size = size

    with refused(PluginError, "missing", "size", names="annotate it"):
        check_arguments(Untyped, {"size": 1}, "model", "r")


def test_types_are_said_in_words():
    assert describe(dict[str, str]) == "a mapping of names to texts"
    assert describe(str | list[str] | dict[str, str]) == "a text or a list of texts or a mapping of names to texts"
    assert describe(Any) == "any value"
