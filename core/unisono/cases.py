"""Cases: the requests that a request's own schema suggests to try (every literal, each limit, two lengths)."""

import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

LARGEST = 256
"""Limits beyond this are sizes (tokens, pixels) that no tiny model need survive; a model that means them lists them."""

BESIDE = 1e-3
"""How far from a limit that is itself excluded the nearest tried number lies; 1 for whole numbers."""


def cases(kind: type[BaseModel], base: Sequence[Any], text_field: str = "text") -> list[Any]:
    """Return ``base`` and, for each field of the request, ``base[0]`` with every other value that its type suggests.

    A literal and a truth value give each of their values, a number its lowest and highest one (up to ``LARGEST``), the
    text field a shorter and a longer text. What the request's own validators refuse is left out.
    """
    if not base:
        return []
    found = list(base)
    seen = {repr(request) for request in found}
    for name, field in kind.model_fields.items():
        value = getattr(base[0], name)
        if name == text_field and isinstance(value, str):
            suggested = texts(value)
        else:
            suggested = list(values(field))
        for other in suggested:
            given = {key: getattr(base[0], key) for key in base[0].model_fields_set}
            try:
                request = kind(**{**given, name: other})
            except ValidationError:
                continue
            if repr(request) not in seen:
                seen.add(repr(request))
                found.append(request)
    return found


def values(field: FieldInfo) -> Iterator[Any]:
    """Yield every value of a literal or truth value, the limits of a number."""
    parts = list(_parts(field.annotation))
    yield from (value for part in parts if get_origin(part) is Literal for value in get_args(part))
    if bool in parts:
        yield from (False, True)
    elif int in parts or float in parts:
        whole = float not in parts
        beside = 1 if whole else BESIDE
        for limit in field.metadata:
            if isinstance(limit, Ge):
                number: Any = limit.ge
            elif isinstance(limit, Gt):
                number = _number(limit.gt) + beside
            elif isinstance(limit, Le):
                number = limit.le
            elif isinstance(limit, Lt):
                number = _number(limit.lt) - beside
            else:
                continue
            if abs(number) <= LARGEST:
                yield int(number) if whole else float(number)


def _number(limit: Any) -> int | float:
    """Return a limit that is known to be a number."""
    return limit


def texts(text: str) -> list[str]:
    """Return a shorter and a longer text than this one."""
    words = text.split()
    return [words[0], f"{text} {text}"] if words else []


def _parts(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation
