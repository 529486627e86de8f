"""Texts with blanks: templates, in-filling, and JSON by the skeleton of a schema.

Structure priors as in Dimple (arXiv:2505.16990): what is given is frozen on the canvas, wherever it stands, and the
model fills what lies between, seeing both sides. A template is written as for ``str.format``::

    {name} is {age:2} years old           a blank of the request's length, and one of exactly 2 tokens
    {name:..8} likes {colour:red|blue}    at most 8 tokens, the rest padded with the end token; one of two words
    {{not a blank}}                       braces

A JSON schema becomes such a template, its keys and punctuation given, its values blanks that can hold nothing else:
strings without quotes and backslashes, digits, one of a few words. Whatever the model believes, the result parses.
Differs from Dimple, whose priors are frozen tokens alone: here blanks restrict what may be drawn in them.

Each piece is tokenized by itself, so that at its borders a model sees tokens that a text as a whole might not have.
"""

import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from unisono.errors import Code, RequestError, did_you_mean

MOST_OPTIONS = 4096
DEEPEST = 32
DIGITS = 6
FRACTION = 2


@dataclass(frozen=True)
class Given:
    """Text that stays as it is."""

    text: str


@dataclass(frozen=True)
class Blank:
    """What is to be filled: exactly or at most so many tokens, of any text, a JSON string, digits, or some options."""

    name: str
    tokens: int
    exact: bool = True
    kind: Literal["free", "string", "digits", "decimals", "choice"] = "free"
    options: tuple[str, ...] = ()


Piece = Given | Blank


def read_template(template: str, tokens: int) -> list[Piece]:
    """Return the pieces of a template; a blank that gives no length has exactly ``tokens``.

    Raises ``RequestError`` for a template without blanks, braces that do not match, a length that is none, or a name
    that occurs twice.
    """
    pieces: list[Piece] = []
    names: set[str] = set()
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise RequestError(
            f"template={_short(template)}: {error}; a brace that is text is written twice",
            code="format",
            path="template",
            value=template,
        ) from None
    for text, name, spec, conversion in parts:
        if text:
            pieces.append(Given(text))
        if name is None:
            continue
        name = name or str(len(names))
        if conversion or name in names:
            problem = f"has a conversion !{conversion}" if conversion else "occurs twice"
            raise RequestError(
                f"the blank {name!r} {problem}: a blank is a name of its own and perhaps a length",
                code="value",
                path=name,
                value=conversion or name,
            )
        names.add(name)
        pieces.append(_blank(name, spec or "", tokens))
    if not names:
        raise RequestError(
            f"template={_short(template)} has no blank: write one as {{name}}, or give a prompt",
            code="empty",
            path="template",
            value=template,
        )
    return pieces


def _blank(name: str, spec: str, tokens: int) -> Blank:
    if "|" in spec:
        return choice(name, spec.split("|"))
    found = re.fullmatch(r"(\.\.)?(\d{1,9})", spec)
    if spec and (found is None or int(found[2]) < 1):
        raise RequestError(
            f"the blank {name!r} has the length {spec!r}: write {{{name}:8}} for exactly 8 tokens, "
            f"{{{name}:..8}} for at most 8, {{{name}:this|that}} for one of these",
            code="range",
            path=name,
            value=spec,
        )
    return Blank(name, int(found[2]) if found else tokens, exact=not (found and found[1]))


def choice(name: str, options: list[str]) -> Blank:
    """Return a blank for one of several texts; raises ``RequestError`` for none, too many, or the same twice."""
    if len(set(options)) != len(options):
        raise RequestError(
            f"the blank {name!r} offers one text twice: give each option once", code="value", path=name, value=options
        )
    if not 1 <= len(options) <= MOST_OPTIONS:
        raise RequestError(
            f"the blank {name!r} offers {len(options)} texts: give 1 to {MOST_OPTIONS}",
            code="limit",
            path=name,
            value=len(options),
        )
    return Blank(name, 0, exact=False, kind="choice", options=tuple(options))


# ---- schemas -------------------------------------------------------------------------------------

ANNOTATIONS = {"title", "description", "examples", "default", "$schema", "$id", "$comment", "$defs", "definitions"}
KEYWORDS: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"tokens"},
    "integer": {"minimum", "maximum", "digits"},
    "number": {"minimum", "digits"},
    "boolean": set(),
    "null": set(),
}


def read_schema(schema: dict[str, Any], tokens: int) -> list[Piece]:
    """Return the pieces of the JSON text that a schema describes; strings have at most ``tokens``.

    Types are object (all of its properties), array (of a fixed number of items), string, integer, number, boolean,
    null, ``enum`` and ``const``; ``$ref`` within the schema is followed. ``tokens`` and ``digits`` beside a type are
    the most that a value may have. Raises ``RequestError`` for any other keyword: a skeleton could not promise it.
    """
    pieces: list[Piece] = []
    for piece in _schema(schema, "", tokens, schema, 0):
        if isinstance(piece, Given) and pieces and isinstance(pieces[-1], Given):
            pieces[-1] = Given(pieces[-1].text + piece.text)
        else:
            pieces.append(piece)
    if all(isinstance(piece, Given) for piece in pieces):
        raise RequestError(
            "json_schema leaves nothing open: describe at least one value that is not constant",
            code="empty",
            path="json_schema",
        )
    return pieces


def _schema(schema: Any, path: str, tokens: int, root: dict[str, Any], depth: int) -> Iterator[Piece]:
    if not isinstance(schema, dict):
        raise _fault(path, f"is {_short(repr(schema))}: a schema is an object with a type", "type", schema)
    if depth > DEEPEST:
        raise _fault(path, f"is more than {DEEPEST} levels deep: it must not refer to itself", "limit", depth)
    if "$ref" in schema:
        yield from _schema(_refer(schema["$ref"], root, path), path, tokens, root, depth + 1)
        return
    if "const" in schema or "enum" in schema:
        _only(schema, {"const", "enum", "type"}, path)
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(values, list) or not values:
            raise _fault(path, f"has the enum {values!r}: give a list of values", "type", values)
        texts = [json.dumps(value, ensure_ascii=False) for value in values]
        yield Given(texts[0]) if len(texts) == 1 else choice(path or "value", texts)
        return
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in KEYWORDS:
        raise _fault(path, f"has the type {kind!r}{did_you_mean(str(kind), KEYWORDS)}", "unknown", kind)
    _only(schema, {"type", *KEYWORDS[kind]}, path)
    if kind == "object":
        yield from _object(schema, path, tokens, root, depth)
    elif kind == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        if "items" not in schema or not isinstance(least, int) or least != most or least < 0:
            raise _fault(
                path, f"has {least} to {most} items: give items, and minItems equal to maxItems", "range", (least, most)
            )
        yield Given("[")
        for index in range(least):
            yield Given(", " if index else "")
            yield from _schema(schema["items"], f"{path}[{index}]", tokens, root, depth + 1)
        yield Given("]")
    elif kind == "string":
        yield Given('"')
        yield Blank(path or "value", _whole(schema, "tokens", tokens, path), exact=False, kind="string")
        yield Given('"')
    elif kind == "boolean":
        yield choice(path or "value", ["true", "false"])
    elif kind == "null":
        yield Given("null")
    else:
        yield from _number(schema, path, kind)


def _object(schema: dict[str, Any], path: str, tokens: int, root: dict[str, Any], depth: int) -> Iterator[Piece]:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or not properties:
        raise _fault(path, "is an object without properties: name some", "empty", properties)
    missing = [name for name in schema.get("required", []) if name not in properties]
    if missing:
        near = did_you_mean(missing[0], properties)
        raise _fault(path, f"requires {missing[0]!r}, which is no property{near}", "missing", missing[0])
    for index, (name, inner) in enumerate(properties.items()):
        yield Given(f"{', ' if index else '{'}{json.dumps(name, ensure_ascii=False)}: ")
        yield from _schema(inner, f"{path}.{name}" if path else name, tokens, root, depth + 1)
    yield Given("}")


def _number(schema: dict[str, Any], path: str, kind: str) -> Iterator[Piece]:
    least, most = schema.get("minimum", 0), schema.get("maximum")
    digits = _whole(schema, "digits", DIGITS, path)
    if kind == "integer" and most is not None:
        if not (isinstance(least, int) and isinstance(most, int) and 0 <= most - least < MOST_OPTIONS):
            said = f"runs from {least} to {most}: whole numbers, the larger one last, at most {MOST_OPTIONS} of them"
            raise _fault(path, said, "range", (least, most))
        values = [str(value) for value in range(least, most + 1)]
        yield Given(values[0]) if len(values) == 1 else choice(path or "value", values)
        return
    if least != 0:
        said = f"has the minimum {least}: 0 can be promised, or for integers both ends of a range"
        raise _fault(path, said, "unsupported", least)
    name = path or "value"
    yield Blank(name, digits, exact=False, kind="digits")
    if kind == "number":
        yield Given(".")
        yield Blank(f"{name} (decimals)", FRACTION, exact=False, kind="decimals")


def _fault(path: str, said: str, code: Code, value: Any) -> RequestError:
    where = f"json_schema.{path}" if path else "json_schema"
    return RequestError(f"json_schema at {path or 'its root'} {said}", code=code, path=where, value=value)


def _refer(reference: Any, root: dict[str, Any], path: str) -> Any:
    found: Any = root
    parts = str(reference).split("/")
    for part in parts[1:]:
        found = found.get(part) if isinstance(found, dict) else None
    if parts[0] != "#" or found is None:
        raise _fault(path, f"refers to {reference!r}, which is not in the schema", "missing", reference)
    return found


def _only(schema: dict[str, Any], known: set[str], path: str) -> None:
    unknown = [key for key in schema if key not in known | ANNOTATIONS]
    if unknown:
        said = f"has {unknown[0]!r}, which a skeleton cannot promise{did_you_mean(unknown[0], known)}"
        raise _fault(path, said, "unsupported", unknown[0])


def _whole(schema: dict[str, Any], name: str, default: int, path: str) -> int:
    value = schema.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _fault(path, f"has {name} {value!r}: a whole number of at least 1", "range", value)
    return value


# ---- what was filled in --------------------------------------------------------------------------


def normal(blank: Blank, text: str) -> str:
    """Return what a blank says as it stands in the result: whole numbers lose leading zeros, which JSON forbids."""
    return str(int(text)) if blank.kind == "digits" else text


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
