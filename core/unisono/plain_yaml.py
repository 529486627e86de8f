"""Plain YAML: YAML 1.2's core schema, read within bounds and written so that it reads back as the same values.

``010`` is 10, ``1:30`` a text, ``1e-3`` a number, ``yes`` and ``off`` are texts, and dates are texts. Keys are texts.
Refused, each in one sentence with its line: a key given twice, tags, more than one document, keys that are lists or
mappings, integers beyond 64 bits, and texts, depths or aliases beyond the bounds below.
"""

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from unisono.errors import Code, RecipeError, UnisonoError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 32
MAX_VALUES = 100_000
"""Values in one document, each alias counted as often as it is used."""

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_OTHER_BREAKS = re.compile("[\x85\u2028\u2029]")
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")
_MERGE = "<<"


def read_yaml(text: str, origin: str, kind: type[UnisonoError] = RecipeError) -> Any:
    """Return the value of one YAML document; raises ``kind`` with one sentence that begins with ``origin``.

    Where one is to blame, the error's ``value`` is the line, counted from 1.
    """
    if len(text) > MAX_CHARACTERS:
        raise kind(
            f"{origin} holds {len(text):,} characters, a recipe at most {MAX_CHARACTERS:,}: shorten it",
            code="limit",
            path=origin,
            value=len(text),
        )
    if found := _OTHER_BREAKS.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise kind(
            f"{origin}: U+{ord(found[0]):04X} is a line break to some readers: write it as an escape (line {line})",
            code="format",
            path=origin,
            value=found[0],
        )
    try:
        return _Reader(yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except _Refused as error:
        raise kind(f"{origin}: {error}", code=error.code, path=origin, value=error.line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" (line {mark.line + 1})" if mark else ""
        raise kind(
            f"{origin} is not valid YAML: {error.problem or error.context}{line}",
            code="format",
            path=origin,
            value=mark and mark.line + 1,
        ) from None
    except OverflowError:
        raise kind(
            f"{origin} is not valid YAML: an escape in it stands for no character", code="format", path=origin
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise kind(f"{origin} is not valid YAML: {reason}", code="format", path=origin) from None


def write_yaml(value: Any) -> str:
    """Return a plain value as YAML that ``read_yaml``, and readers of YAML 1.1, read back as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Refused(ValueError):
    """What is valid YAML and yet no plain value; the message has the line."""

    def __init__(self, message: str, event: yaml.Event, code: Code = "format"):
        self.code: Code = code
        self.line = event.start_mark.line + 1
        super().__init__(f"{message} (line {self.line})")


class _Reader:
    """Makes values from the parser's events one by one, so that nothing is built beyond the bounds."""

    def __init__(self, events: Iterator[yaml.Event]):
        self.events = events
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.values = 0

    def document(self) -> Any:
        value, seen = None, False
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    raise _Refused("holds more than one document: give one", event)
                value, seen = self.node(next(self.events), 0), True
        return value

    def node(self, event: yaml.Event, depth: int) -> Any:
        self.count(1, event)
        if depth > MAX_DEPTH:
            raise _Refused(f"values lie deeper than {MAX_DEPTH} levels: flatten them", event, "limit")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _Refused(f"alias *{event.anchor} stands for nothing before it: name an anchor", event, "missing")
            value, size = self.anchors[event.anchor]
            self.count(size, event)
            return copy.deepcopy(value)
        before = self.values
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self.untagged(event, "tag:yaml.org,2002:seq")
            value = []
            while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                value.append(self.node(inner, depth + 1))
        elif isinstance(event, yaml.MappingStartEvent):
            self.untagged(event, "tag:yaml.org,2002:map")
            value = self.mapping(depth)
        else:
            raise _Refused("holds no value where one is due", event)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.values - before)
        return value

    def mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag not in _TEXT_TAGS:
                raise _Refused("a key must be a text, not a list, a mapping, an alias or a tagged value", event, "type")
            key = _whole(event)
            if key in own:
                raise _Refused(f"key {key!r:.80} is given twice", event, "conflict")
            value = self.node(next(self.events), depth + 1)
            if key == _MERGE and event.implicit[0]:
                parts = value if isinstance(value, list) else [value]
                if merged or not all(isinstance(part, dict) for part in parts):
                    raise _Refused("<< merges a mapping or a list of mappings, once", event)
                for part in reversed(parts):
                    merged.update(part)
            else:
                own[key] = value
        return {**merged, **own}

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        if event.tag not in _TEXT_TAGS:
            raise _Refused(f"tag {event.tag!r:.80} is not plain YAML: leave it out", event)
        text = _whole(event)
        if not event.implicit[0] or event.tag is not None:
            return text
        try:
            return _plain_scalar(text)
        except OverflowError:
            shown = text if len(text) <= 40 else f"{text[:20]}… ({len(text):,} characters)"
            raise _Refused(
                f"{shown} is beyond what a 64-bit number holds: give a smaller one", event, "range"
            ) from None

    def untagged(self, event: Any, own: str) -> None:
        if event.tag not in (None, "!", own):
            raise _Refused(f"tag {event.tag!r:.80} is not plain YAML: leave it out", event)

    def count(self, more: int, event: yaml.Event) -> None:
        self.values += more
        if self.values > MAX_VALUES:
            raise _Refused(f"holds more than {MAX_VALUES:,} values, aliases counted: write fewer", event, "limit")


def _whole(event: yaml.ScalarEvent) -> str:
    if any("\ud800" <= character <= "\udfff" for character in event.value):
        raise _Refused("a text holds half of a surrogate pair, which is no character: remove it", event, "damaged")
    return event.value


def _plain_scalar(text: str) -> Any:
    """Resolve an unquoted scalar; raises ``OverflowError`` for a number beyond 64 bits."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            digits = text if base == 10 else text[2:]
            if len(digits) > 100:
                raise OverflowError
            number = int(digits, base)
            if not -(2**63) <= number < 2**64:
                raise OverflowError
            return number
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise OverflowError
        return number
    if _INFINITE.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    if _NAN.fullmatch(text):
        return math.nan
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would read as something else than a text, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if _OTHER_BREAKS.search(value) else None)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    resolvers: dict[str, list[Any]] = {k: list(v) for k, v in yaml.SafeDumper.yaml_implicit_resolvers.items()}
    for name, pattern in (("int", _INT), ("int", _OCTAL), ("int", _HEXADECIMAL), ("float", _FLOAT)):
        whole = re.compile(f"(?:{pattern.pattern})$")
        for first in "-+.0123456789":
            resolvers.setdefault(first, []).append((f"tag:yaml.org,2002:{name}", whole))
    return resolvers


_Dumper.yaml_implicit_resolvers = _resolvers()
_Dumper.add_representer(str, _text)
