"""Request: what one asks of a model, as typed fields; refusals are one sentence each."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from unisono.errors import Code, RequestError, UnisonoError, did_you_mean, shown
from unisono.seeds import MAX_SEED

MOST_PROBLEMS = 5
"""Of a request with more faults only so many are told."""


FILE: dict[str, Any] = {"format": "file-path"}
"""``json_schema_extra`` of a field that names a file: ``unisono serve`` takes the file itself, and opens no path."""


def file_of(*suffixes: str) -> dict[str, Any]:
    """Return ``FILE`` of a field that takes files of these suffixes, in small letters: ``unisono batch`` makes a row of
    each such file where the field is the request's main one (``Model.text_field``)."""
    return {**FILE, "x-suffixes": list(suffixes)}


class Request(BaseModel):
    """The base of every model's request; unknown fields and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="random seed: the same seed gives the same output")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a field takes none, in lists too: pydantic would count them as 1 and 0."""
        if _holds_bool(value) and not _takes_bool(cls.model_fields[str(info.field_name)].annotation):
            raise RequestError("give a number or a text, not true or false", code="type")
        return value

    @classmethod
    def parse(cls, **fields: Any) -> "Request":
        """Build a request, or raise ``RequestError`` with one sentence that names value, limit and fix.

        Of several faults the error's fields are the first one's.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            raise sentence_of(cls, error) from None


def sentence_of(kind: type[BaseModel], error: ValidationError) -> RequestError:
    """Return what pydantic found wrong as one sentence; the error's fields are the first fault's."""
    first = error.errors()[0]
    own = getattr(first.get("ctx", {}).get("error"), "path", None)  # of a validator of several fields
    place = own or ".".join(str(part) for part in first["loc"]) or kind.__name__
    return RequestError(_sentence(kind, error), code=_code(first), path=place, value=first["input"])


def _sentence(kind: type[BaseModel], error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or kind.__name__
        if item["type"] == "extra_forbidden":
            problems.append(f"unknown field {name!r}{did_you_mean(name, kind.model_fields)}")
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


def _code(problem: ErrorDetails) -> Code:
    """The code of one of pydantic's errors; that of a validator's own ``UnisonoError`` stays."""
    raised = problem.get("ctx", {}).get("error")
    own = raised.code if isinstance(raised, UnisonoError) else None
    if own is not None:
        return own
    kind = problem["type"]
    known: dict[str, Code] = {
        "extra_forbidden": "unknown",
        "literal_error": "unknown",
        "enum": "unknown",
        "missing": "missing",
        "finite_number": "range",
        "string_too_long": "limit",
        "too_long": "limit",
        "string_too_short": "empty",
        "too_short": "empty",
    }
    if kind in known:
        return known[kind]
    if kind.startswith(("greater_than", "less_than", "multiple_of")):
        return "range"
    return "type" if kind.endswith(("_type", "_parsing", "_from_float")) else "value"


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
