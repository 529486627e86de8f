"""Request: what one asks of a model, as typed fields; refusals are one sentence each."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from unisono.errors import RequestError, did_you_mean, shown
from unisono.seeds import MAX_SEED

MOST_PROBLEMS = 5
"""Of a request with more faults only so many are told."""


class Request(BaseModel):
    """The base of every model's request; unknown fields and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="random seed: the same seed gives the same output")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a field takes none, in lists too: pydantic would count them as 1 and 0."""
        if _holds_bool(value) and not _takes_bool(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("give a number or a text, not true or false")
        return value

    @classmethod
    def parse(cls, **fields: Any) -> "Request":
        """Build a request, or raise ``RequestError`` with one sentence that names value, limit and fix."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise RequestError(cls._sentence(error)) from None

    @classmethod
    def _sentence(cls, error: ValidationError) -> str:
        problems = []
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"]) or cls.__name__
            if item["type"] == "extra_forbidden":
                problems.append(f"unknown field {name!r}{did_you_mean(name, cls.model_fields)}")
            elif item["type"] == "missing":
                problems.append(f"{name} is required")
            else:
                message = item["msg"].removeprefix("Value error, ")
                if item["type"] in ("list_type", "tuple_type") and isinstance(item["input"], str):
                    parts = ", ".join(part.strip() for part in item["input"].split(","))
                    message = f"must be a list, such as [{parts:.60}]"
                problems.append(f"{name}={shown(item['input'])}: {message[:1].lower()}{message[1:]}")
        if len(problems) > MOST_PROBLEMS:  # such as a long list of NaN
            problems[MOST_PROBLEMS:] = [f"and {len(problems) - MOST_PROBLEMS} more like these"]
        return "; ".join(problems).encode("utf-8", "backslashreplace").decode()


def _holds_bool(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, bool):
            return True
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
    return False


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_bool, get_args(annotation)))
