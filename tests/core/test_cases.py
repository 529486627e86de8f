"""Cases: what the schema of a request suggests to try, by hand."""

from typing import Literal

from pydantic import Field
from unisono.cases import BESIDE, LARGEST, cases, texts
from unisono.request import Request


class Asked(Request):
    text: str = "one two"
    size: Literal["small", "large"] | None = None
    loud: bool = False
    count: int = Field(default=3, gt=1, lt=9)
    pace: float = Field(default=1.0, ge=0.25, lt=4)
    steps: int | None = Field(default=None, ge=1, le=LARGEST + 1)


def test_every_literal_each_limit_and_two_lengths():
    base = Asked(pace=2.0)
    found = cases(Asked, [base])
    assert found[0] is base
    given = [{name: value for name, value in request.model_dump().items() if value != getattr(base, name)}
             for request in found[1:]]  # fmt: skip
    assert given == [
        {"seed": 0} if base.seed else {"text": "one"},
        {"text": "one two one two"},
        {"size": "small"},
        {"size": "large"},
        {"loud": True},
        {"count": 2},
        {"count": 8},
        {"pace": 0.25},
        {"pace": 4 - BESIDE},
        {"steps": 1},  # its upper limit is a size that no tiny model need survive
    ]


def test_what_the_request_refuses_is_left_out_and_nothing_comes_twice():
    class Strict(Asked):
        text: str = Field(default="one two", max_length=8)

    names = [request.text for request in cases(Strict, [Strict()])]
    assert "one" in names and "one two one two" not in names
    assert cases(Asked, []) == []
    both = [Asked(), Asked(loud=True)]
    assert sum(request.loud for request in cases(Asked, both)) == 1
    assert texts("") == [] and texts("a") == ["a", "a a"]
