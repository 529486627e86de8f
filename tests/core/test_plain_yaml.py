"""Plain YAML: YAML 1.2's values, within bounds, and back."""

import math
import time
from itertools import pairwise

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import RecipeError, RequestError
from unisono.plain_yaml import read_yaml, write_yaml

TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\t:#-'\"~%0123eE.+\x85\u2028"), max_size=12
)
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(a, b) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_what_is_written_reads_back_as_the_same(value):
    assert same(read_yaml(write_yaml(value), "x"), value)


@pytest.mark.parametrize(
    "text", ["1e-3", "010", "0o7", "0x1f", "1:30", "yes", "~", "", "2020-01-01", ".5", "=", "<<", "-"]
)
def test_a_text_that_looks_like_something_else_is_quoted(text):
    assert read_yaml(write_yaml({"k": text}), "x") == {"k": text}
    assert yaml.safe_load(write_yaml({"k": text})) == {"k": text}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("010", 10), ("-0", 0), ("0o17", 15), ("0x1F", 31), ("1e-3", 1e-3), ("1.e2", 100.0), ("-.5", -0.5),
        ("12.", 12.0), (".inf", math.inf), ("-.INF", -math.inf), ("1:30", "1:30"), ("0b1", "0b1"), ("1_0", "1_0"),
        ("on", "on"), ("Yes", "Yes"), ("TRUE", True), ("tRUE", "tRUE"), ("NULL", None), ("!!str 3", "3"), ("! 3", "3"),
        ("'3'", "3"), ("2001-12-14", "2001-12-14"), ("0o8", "0o8"), ("1e", "1e"), ("é", "é"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(written, value):
    found = read_yaml(written, "x")
    assert found == value and type(found) is type(value)
    assert math.isnan(read_yaml(".NaN", "x"))


def test_keys_are_texts_and_merges_keep_their_own():
    assert read_yaml("1: a\nyes: b\n~: c", "x") == {"1": "a", "yes": "b", "~": "c"}
    assert read_yaml("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", "x")["b"] == {"p": 1, "q": 3}
    first = read_yaml("a: &x [1]\nb: *x", "x")
    first["a"].append(2)
    assert first["b"] == [1]  # an alias is a copy


def bomb(levels: int, width: int) -> str:
    names = "abcdefghijklmnop"[: levels + 1]
    lines = [f"a: &a [{', '.join('x' * width)}]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * width)}]" for old, new in pairwise(names)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "code", "value", "names"),
    [
        (bomb(9, 9), "limit", 6, "100,000"),
        (bomb(2, 400), "limit", 2, "100,000"),
        ("a: 1\nb: 2\na: 1", "conflict", 3, ["'a'", "line 3"]),
        ("&a [*a]", "missing", 1, "*a"),
        ("[" * 200_000, "limit", 1, "32"),
        ("{a: " * 5000, "limit", 1, "32"),
        ("- " * 5000, "limit", 1, "32"),
        ("x" * 1_000_001, "limit", 1_000_001, ["1,000,001", "1,000,000"]),
        ("9" * 5000, "range", 1, "64-bit"),
        ("1e999", "range", 1, "64-bit"),
        ("-9223372036854775809", "range", 1, "-9223372036854775809"),
        ("*" + "a" * 300 + ": 1", "type", 1, ()),
        ('"\\ud800"', "damaged", 1, "surrogate"),
        ('"\\U99999999"', "format", None, ()),
        ("a: 1\nb: x\u2028y", "format", "\u2028", ["U+2028", "line 2"]),
        ("\0", "format", None, ()),
        ("a: [1,\nb", "format", 2, "line 2"),
        ("!!python/object/apply:os.getcwd []", "format", 1, "os.getcwd"),
        ("!!timestamp 2001-01-01", "format", 1, "timestamp"),
        ("!!binary aGk=", "format", 1, "binary"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_is_out_of_bounds_is_one_short_sentence_soon(text, code, value, names):
    start = time.monotonic()
    with refused(RecipeError, code, "file.yaml", value=value, names=names) as caught:
        read_yaml(text, "file.yaml")
    assert time.monotonic() - start < 5  # a bound against minutes, no timing
    assert str(caught.value).startswith("file.yaml")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40) | st.text("[]{}:-*&!|>'\"#%@`? \n\tab1,<~", max_size=40))
def test_any_text_is_a_value_or_one_sentence(text):
    try:
        read_yaml(text, "x")
    except RecipeError as error:
        assert "\n" not in str(error)


def test_the_kind_of_the_error_can_be_chosen():
    with refused(RequestError, "format", "--pace", value=1):
        read_yaml("[1", "--pace", RequestError)
