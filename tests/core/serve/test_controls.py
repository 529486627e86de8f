"""Controls: each field of every shipped model's request has one, and what it shows reads back as it was; no Gradio."""

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from refused import refused
from unisono import Request
from unisono import plugin as plugins
from unisono.errors import RequestError
from unisono.request import FILE
from unisono.serve.ui.controls import LEFT_OUT, Control, controls_of, read, shown


class Inner(BaseModel):
    a: int = 1


class Everything(Request):
    """A field of each kind."""

    text: str = Field(default="", max_length=50, description="what to say")
    must: str = Field(min_length=1)
    pace: float = Field(default=1.0, ge=0.25, le=4.0)
    above: float = Field(default=0.5, gt=0, lt=1)
    steps: int | None = Field(default=None, ge=1, le=100)
    fine: float = Field(default=0.001, ge=0, le=10)
    far: int = Field(default=5, ge=0, le=10**6)
    loud: bool = False
    maybe: bool | None = None
    way: Literal["a", "b", 3] = "a"
    recording: str | None = Field(default=None, json_schema_extra=FILE)
    either: int | str = "x"
    items: list[float] = Field(default=[1.0], max_length=3)
    inner: Inner | None = None
    pattern: str | None = Field(default=None, pattern="[a-z]+")


def controls(kind: Any = Everything, **options: Any) -> dict[str, Control]:
    return {control.name: control for control in controls_of(kind.model_json_schema(), **options)}


def test_a_field_has_the_control_that_fits_it():
    made = controls(choices={"text": ["one", "two"]})
    assert {name: control.kind for name, control in made.items()} == {
        "text": "text", "must": "text", "pace": "slider", "above": "slider", "steps": "number", "fine": "number",
        "far": "number", "loud": "tick", "maybe": "select", "way": "select", "recording": "file", "either": "either",
        "items": "json", "inner": "json", "pattern": "text", "seed": "digits",
    }  # fmt: skip
    assert [name for name, control in made.items() if not control.optional] == ["must"]
    assert (made["pace"].low, made["pace"].high, made["pace"].step) == (0.25, 4.0, 0.01)
    assert 0 < made["above"].low < made["above"].high < 1  # what is excluded cannot be slid to
    assert made["text"].values == ("one", "two") and made["way"].values == ("a", "b", 3)
    assert made["maybe"].values == (True, False)
    assert made["text"].main and not made["must"].main


def test_help_says_what_the_range_and_the_default_are():
    made = controls()
    assert made["text"].help == 'what to say; at most 50 characters; default ""'
    assert made["pace"].help == "at least 0.25, at most 4.0; default 1.0"
    assert made["must"].help == "at least 1 characters; required"
    assert made["above"].help.startswith("above 0, below 1")
    assert "at most 3 items" in made["items"].help and "JSON" in made["items"].help
    assert "2^63 − 1" in made["seed"].help and "[a-z]+" in made["pattern"].help


def test_the_main_field_comes_first_and_few_stand_before_the_fold():
    made = list(controls().values())
    assert [control.name for control in made][:3] == ["text", "must", "recording"]
    before = [control.name for control in made if control.first]
    assert len(before) == 7 and before[-1] == "seed"
    assert [control.name for control in made] == before + [control.name for control in made if not control.first]
    assert all(control.first for control in controls(Request).values())


def test_what_is_left_alone_is_left_out():
    for control in controls().values():
        if control.optional:
            assert read(control, shown(control)) is LEFT_OUT, control.name
        else:
            with refused(RequestError, "missing", control.name):
                read(control, shown(control))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", "ab\n"), ("text", " "), ("must", "x"), ("pace", 2), ("pace", 0.25), ("steps", 7), ("far", 0),
        ("loud", True), ("maybe", False), ("maybe", True), ("way", "b"), ("way", 3), ("recording", "/tmp/a.wav"),
        ("either", "3"), ("either", 3), ("either", '"quoted"'), ("either", "three"), ("items", [0.5, 2]),
        ("items", []), ("inner", {"a": 2}), ("seed", 2**63 - 1), ("fine", 0.5),
    ],
)  # fmt: skip
def test_what_is_shown_reads_back_as_it_was(name, value):
    control = controls()[name]
    back = read(control, shown(control, value))
    assert back == value and type(back) is type(value)
    Everything(**{"must": "x", name: back})


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("seed", "1.5", "type"), ("seed", "9" * 50, "type"), ("far", 2.5, "type"), ("far", True, "type"),
        ("pace", float("nan"), "type"), ("pace", "2", "type"), ("items", "[1", "format"), ("items", "[1]]", "format"),
        ("inner", '{"a": 1, "a": 2}', "format"), ("must", "", "missing"), ("must", None, "missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_field(name, given, code):
    with refused(RequestError, code, name):
        read(controls()[name], given)


def test_every_field_of_every_shipped_model_has_a_control_whose_default_is_left_out():
    seen: dict[str, int] = {}
    for state in plugins.states():
        assert state.plugin is not None, state.reason
        for name in state.plugin.models:
            target = plugins.resolve(f"{state.found.name}/{name}", "models")
            made = controls(target.Request, text_field=target.text_field)
            assert set(made) == set(target.Request.model_fields), name
            for control in made.values():
                seen[control.kind] = seen.get(control.kind, 0) + 1
                assert control.help and (not control.optional or read(control, shown(control)) is LEFT_OUT)
                if control.kind == "slider":
                    assert control.low <= control.standard <= control.high and control.step > 0, (name, control.name)
                if control.kind == "select":
                    for value in control.values:
                        assert json.dumps(read(control, shown(control, value))) == json.dumps(value)
    assert set(seen) >= {"text", "number", "slider", "tick", "select", "json", "file", "digits"}, seen
