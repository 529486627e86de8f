"""Controls: each field of a request's JSON schema as one control of a form, and what was set there as JSON again.

The rules are those of ``page/schema.js``: numbers with near bounds are sliders, choices lists, truth values ticks, a
file a file input; whole numbers beyond 2^53 are digits, since JavaScript rounds them; lists and objects are JSON. What
is empty is left out, so that the model's own default holds.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unisono.errors import DataError, RequestError
from unisono.files import parse_json

Kind = Literal["text", "either", "number", "digits", "slider", "tick", "select", "json", "file"]
SLIDER_RANGE = 20_000
"""Bounds further apart than this are typed."""
FINEST = 1 / 200
"""Of a slider; a default that is nearer to the lower bound is typed."""
MOST_SHOWN = 6
"""Of fields that stand before the fold, where there are more than two beyond it."""
EXACT = 2**53 - 1
"""Whole numbers beyond it are rounded by JavaScript."""
LEFT_OUT: Any = object()
"""What `read` returns of a control that is empty."""


@dataclass(frozen=True)
class Control:
    """One field's control.

    Attributes:
        help: what the field means, its range, and its default.
        optional: whether it may be left empty.
        standard: its default; None where it has none.
        low, high, step: of a slider.
        values: of a list to choose from, or suggestions for a text.
        first: whether it stands before the fold.
        main: whether it is the field that a bare text means.
    """

    name: str
    kind: Kind
    help: str
    optional: bool
    standard: Any = None
    whole: bool = False
    low: float | None = None
    high: float | None = None
    step: float | None = None
    values: tuple[Any, ...] = ()
    first: bool = True
    main: bool = False


def controls_of(
    schema: Mapping[str, Any], text_field: str = "text", choices: Mapping[str, Sequence[str]] | None = None
) -> list[Control]:
    """Return a control for each field of a request's schema, in the order in which they stand.

    ``choices`` are names that a model knows beside its schema, by field (`unisono.model.choices_of`).
    """
    made = [_control(name, schema, text_field, (choices or {}).get(name, ())) for name in schema["properties"]]

    def rank(control: Control) -> int:
        if control.main:
            return 0
        if not control.optional:
            return 1
        return 2 if control.kind == "file" else 3 if control.standard is not None else 4

    others = sorted((control for control in made if control.name != "seed"), key=rank)
    seed = [control for control in made if control.name == "seed"]
    if len(others) <= MOST_SHOWN + 2:
        return [*others, *seed]
    behind = [Control(**{**vars(control), "first": False}) for control in others[MOST_SHOWN:]]
    return [*others[:MOST_SHOWN], *seed, *behind]


def shown(control: Control, value: Any = LEFT_OUT) -> Any:
    """Return what a control holds where its field has a value; without one, what it holds at the beginning."""
    if control.kind == "slider":
        return value if value not in (LEFT_OUT, None) else control.low if control.standard is None else control.standard
    if control.kind == "tick":
        return control.standard if value is LEFT_OUT else value
    if value is LEFT_OUT:
        return None if control.kind in ("number", "file") else ""
    if control.kind == "text":
        return value
    if control.kind == "either":
        return json.dumps(value) if isinstance(value, str) and re.fullmatch(r'-?\d+|".*"', value) else str(value)
    if control.kind in ("number", "file"):
        return value
    return json.dumps(value, ensure_ascii=False)


def read(control: Control, given: Any) -> Any:
    """Return the JSON value of what a control holds, ``LEFT_OUT`` where that is nothing; raises ``RequestError``."""
    name, empty = control.name, given is None or (isinstance(given, str) and not given.strip())
    if empty and not (control.kind == "text" and given):  # a text of blanks is one
        if control.optional:
            return LEFT_OUT
        raise RequestError(f"{name} is required: give it", code="missing", path=name)
    if control.kind in ("slider", "tick") and control.optional and given == shown(control):
        return LEFT_OUT
    if control.kind in ("number", "slider"):
        return _number(control, given)
    if control.kind == "digits":
        if not re.fullmatch(r"-?\d{1,40}", str(given).strip()):
            raise RequestError(f"{name}: {given!r:.60} is no whole number: type digits", code="type", path=name)
        return int(str(given).strip())
    if control.kind == "either":
        text = str(given).strip()
        return _json(name, text) if re.fullmatch(r'-?\d+|".*"', text) else str(given)
    if control.kind in ("select", "json"):
        return _json(name, given)
    return given


def _number(control: Control, given: Any) -> float | int:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise RequestError(f"{control.name}: {given!r:.60} is no number: type one", code="type", path=control.name)
    if not control.whole:
        return given
    if given != int(given):
        raise RequestError(f"{control.name}: {given} is no whole number", code="type", path=control.name, value=given)
    return int(given)


def _json(name: str, text: Any) -> Any:
    try:
        return parse_json(str(text))
    except DataError as error:
        raise RequestError(f"{name}: {error}", code=error.code, path=name) from None


def _control(name: str, whole: Mapping[str, Any], text_field: str, choices: Sequence[str]) -> Control:
    def resolved(part: Mapping[str, Any]) -> dict[str, Any]:
        inner = part.get("allOf", ())
        reference = part.get("$ref") or (inner[0].get("$ref") if len(inner) == 1 else None)
        return {**whole["$defs"][reference.rpartition("/")[2]], **part} if reference else dict(part)

    schema = resolved(whole["properties"][name])
    parts = [resolved(part) for part in schema.get("anyOf", [schema])]
    kinds = [part for part in parts if part.get("type") != "null"]
    one = {**schema, **kinds[0]} if len(kinds) == 1 else schema
    optional = len(kinds) < len(parts) or "default" in schema or name not in whole.get("required", ())
    standard = schema.get("default")
    fields = _of(one, kinds, standard)
    if fields["kind"] == "text" and choices:
        fields["values"] = tuple(choices)
    help = [
        schema.get("description", ""),
        range_of(one),
        "" if standard is None else f"default {json.dumps(standard, ensure_ascii=False)}",
        "" if optional else "required",
        "JSON" if fields["kind"] == "json" else "",
        'digits are a number, "3" in quotes is a text' if fields["kind"] == "either" else "",
    ]
    return Control(
        name=name, optional=optional, standard=standard, help="; ".join(filter(None, help)),
        main=name == text_field, **fields,
    )  # fmt: skip


def _of(schema: Mapping[str, Any], kinds: Sequence[Mapping[str, Any]], standard: Any) -> dict[str, Any]:
    """The kind of a field's control, with what belongs to that."""
    if schema.get("format") == "file-path":
        return {"kind": "file"}
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        return {"kind": "select", "values": tuple(values)}
    types = {kind.get("type") for kind in kinds}
    if types == {"boolean"}:
        return {"kind": "tick"} if isinstance(standard, bool) else {"kind": "select", "values": (True, False)}
    if types == {"string"}:
        return {"kind": "text"}
    if types in ({"integer"}, {"number"}):
        return _of_number(schema, types == {"integer"}, standard)
    if types and types <= {"string", "integer", "number"}:
        return {"kind": "either"}
    return {"kind": "json"}


def _of_number(schema: Mapping[str, Any], whole: bool, standard: Any) -> dict[str, Any]:
    low, high = (schema.get(name, schema.get(f"exclusive{name.capitalize()}")) for name in ("minimum", "maximum"))
    if (high is not None and high > EXACT) or (low is not None and low < -EXACT):
        return {"kind": "digits", "whole": True} if whole else {"kind": "number"}
    if low is None or high is None or high - low > SLIDER_RANGE or standard is None:
        return {"kind": "number", "whole": whole}
    if 0 < standard - low < (high - low) * FINEST:
        return {"kind": "number", "whole": whole}
    step = schema.get("multipleOf") or (1 if whole else 10.0 ** (math.floor(math.log10(high - low)) - 2))
    if "minimum" not in schema:  # what is excluded cannot be slid to
        low = min(low + step, standard)
    if "maximum" not in schema:
        high = max(high - step, standard)
    return {"kind": "slider", "whole": whole, "low": low, "high": high, "step": step}


def range_of(schema: Mapping[str, Any]) -> str:
    """Return a field's range in words."""
    words = {
        "minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}",
        "exclusiveMaximum": "below {}", "multipleOf": "a multiple of {}", "minItems": "at least {} items",
        "maxItems": "at most {} items", "minLength": "at least {} characters", "maxLength": "at most {} characters",
        "pattern": "of the form {}",
    }  # fmt: skip
    return ", ".join(text.format(_told(schema[name])) for name, text in words.items() if name in schema)


def _told(value: Any) -> str:
    power = value.bit_length() if isinstance(value, int) else 0
    return f"2^{power} − 1" if power > 53 and value == 2**power - 1 else str(value)
