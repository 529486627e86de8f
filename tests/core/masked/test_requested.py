"""Requested: fields of a request that say how tokens are drawn, and the strategies that they make."""

import pytest
from pydantic import Field
from refused import refused
from unisono import Request
from unisono.errors import RequestError
from unisono.masked import (
    PRESETS,
    ChoiceTemperatureField,
    Layout,
    Samplers,
    TemperatureField,
    TopKField,
    TopPField,
    check_sampler,
    knobs_of,
)

SAMPLING = Samplers({"maskgit": "maskgit", "at once": "one_pass"}, 7)


class Asked(Request):
    """All fields that `Samplers` reads."""

    sampler: str = "maskgit"
    num_steps: int | None = None
    guidance_scale: float = 1.0
    temperature: TemperatureField = None
    top_k: TopKField = None
    top_p: TopPField = None
    choice_temperature: ChoiceTemperatureField = None


class Written(Request):
    """The same fields, written out."""

    temperature: float | None = Field(default=None, ge=0, le=10)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    choice_temperature: float | None = Field(default=None, ge=0, le=1000)


def test_a_field_by_its_type_is_the_field_written_out():
    ours, theirs = (kind.model_json_schema()["properties"] for kind in (Asked, Written))
    for name in Written.model_fields:
        own, written = ({k: v for k, v in kind[name].items() if k != "description"} for kind in (ours, theirs))
        assert own == written
        assert ours[name]["description"]


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", -0.1), ("temperature", 11), ("top_k", 0), ("top_p", 0), ("top_p", 1.1)]
)
def test_limits_are_the_fields(field, value):
    with refused(RequestError, "range", field, value=value):
        Asked.parse(**{field: value})


def test_every_field_that_a_strategy_reads_is_named():
    assert set(Samplers.fields) == set(Asked.model_fields) - {"seed"}


def test_a_strategy_has_the_requests_knobs_or_the_models_steps():
    layout = Layout.sequence(20, 5)
    assert SAMPLING.strategy(Asked(), layout).plan.count.num_steps == 7
    assert SAMPLING.strategy(Asked(num_steps=3), layout).plan.count.num_steps == 3
    levels = SAMPLING.strategy(Asked(num_steps=3), Layout.levels(4, 3, 5))
    assert levels.plan.count.num_steps == (3, 1, 1)


def test_unknown_samplers_and_knobs_that_one_lacks_are_refused():
    with refused(RequestError, "unknown", "sampler", value="maskgti"):
        SAMPLING.check(Asked(sampler="maskgti"))
    with refused(RequestError, "unknown", "sampler", value="b"):
        check_sampler("b", ("a",))
    assert "num_steps" not in PRESETS["one_pass"].takes
    with refused(RequestError, "conflict", "num_steps", value=2):
        SAMPLING.check(Asked(sampler="at once", num_steps=2))
    with refused(RequestError, "conflict", "num_steps", value=2):
        knobs_of(Asked(sampler="at once", num_steps=2), "one_pass")
    assert knobs_of(Asked(sampler="at once", num_steps=2), "one_pass", but=("num_steps",)) == {}
    assert knobs_of(Asked(num_steps=2, choice_temperature=0.5), "maskgit") == {
        "num_steps": 2,
        "choice_temperature": 0.5,
    }
