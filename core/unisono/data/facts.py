"""Facts: what a model must know of its data, as one frozen dataclass per family of data.

    data.prepare() → data.describe() → Facts → model.build(facts) → unisono.json in every export

A family derives from ``Facts`` and declares its fields with their types; a field with a default may be absent, as it
is from exports that are older than the field. Everything is checked when facts are made, hence before the first step
of training: types, unknown and missing keys, and that all of it can be written as strict JSON::

    @dataclass(frozen=True)
    class CardFacts(Facts):
        suits: tuple[str, ...]
        values: int = 13

    CardFacts(suits=["hearts"])["suits"]                     # ["hearts"]: what stands in the export
    CardFacts.from_json({"suits": ["hearts"], "value": 13})  # DataError: no fact 'value' (did you mean 'values'?)
"""

import dataclasses
import functools
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Protocol, TypeVar, Union, runtime_checkable

import pydantic

from unisono.errors import DataError, did_you_mean

AnyFacts = TypeVar("AnyFacts", bound="Facts")


@runtime_checkable
class Plain(Protocol):
    """A value that is written as a dict of plain JSON and made of it again, such as a tree."""

    def to_dict(self) -> dict[str, Any]: ...

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Facts(Mapping[str, Any]):
    """The base of a family's facts: typed attributes, and a read-only mapping of what stands in the export.

    Fields take what their types say, or the JSON of it: lists become tuples, and a dataclass is made of its dict (by
    its ``from_dict``, where it has one). Two facts are equal when their JSON is. Raises ``DataError`` that names the
    key.
    """

    def __post_init__(self) -> None:
        values = {field.name: to_plain(getattr(self, field.name), field.name) for field in dataclasses.fields(self)}
        for name, value in _checked(type(self), values).items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_json(cls: type[AnyFacts], values: Mapping[str, Any]) -> AnyFacts:
        """Return the facts that ``to_json`` described; unknown and missing keys are named."""
        fields = dataclasses.fields(cls)
        names = [field.name for field in fields]
        wrong = [f"has no fact {name!r}{did_you_mean(str(name), names)}" for name in values if name not in names]
        needed = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
        missing = [repr(name) for name in needed if name not in values]
        if missing:
            wrong.append(f"lacks {', '.join(missing)}")
        if wrong:
            unknown = [name for name in values if name not in names]
            lacking = [name for name in needed if name not in values]
            raise DataError(
                f"{cls.__name__} {', and '.join(wrong)}: give the facts of its own kind of data",
                code="unknown" if unknown else "missing",
                path=(unknown or lacking)[0],
                value=unknown or lacking,
            )
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; facts that are unknown (None, as their default is) are left out."""
        return {name: self[name] for name in self}

    def __getitem__(self, name: str) -> Any:
        if name not in list(self):
            raise KeyError(name)
        return to_plain(getattr(self, name), name)

    def __iter__(self) -> Iterator[str]:
        for field in dataclasses.fields(self):
            if field.default is not None or getattr(self, field.name) is not None:
                yield field.name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.to_json() == dict(other)

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # `dataclass` writes methods of its own only where the class has none
        cls.__eq__, cls.__hash__ = Facts.__eq__, Facts.__hash__


def facts_of(values: Any, family: type[Facts] | None) -> Any:
    """Return facts of the family that a model is built from; of none, any mapping of plain JSON will do.

    ``values`` may be facts of the family, of one that extends it (of which only the family's own are kept, so that an
    export holds what the model knows), or the JSON of them.
    """
    if family is None:
        return values if isinstance(values, Facts) else to_plain(values, "facts")
    if isinstance(values, family):
        own = {field.name: getattr(values, field.name) for field in dataclasses.fields(family)}
        return values if type(values) is family else family(**own)
    if not isinstance(values, Mapping):
        raise DataError(
            f"facts are a {type(values).__name__}: give {family.__name__}, or a mapping of plain JSON",
            code="type",
            path="facts",
            value=type(values).__name__,
        )
    return family.from_json(dict(values))


def to_plain(value: Any, place: str) -> Any:
    """Return a value as plain JSON, tuples as lists; raises ``DataError`` that names the place of what is none."""
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise DataError(
                f"{place}={value} is not finite: strict JSON has no such number", code="range", path=place, value=value
            )
        return value
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{place}={value!a} holds half a character (a surrogate): drop or mend that text",
                code="damaged",
                path=place,
                value=value,
            ) from None
        return value
    if type(value) in (list, tuple):
        return [to_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise DataError(
                    f"{place} has the key {key!r}, a {type(key).__name__}: keys of JSON are texts",
                    code="type",
                    path=place,
                    value=key,
                )
            to_plain(key, place)
        return {key: to_plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Plain):
        return to_plain(value.to_dict(), place)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, place)
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise DataError(
        f"{place} is a {name}: facts are plain JSON, so give int(…), float(…) or .tolist() of it",
        code="type",
        path=place,
        value=name,
    )


@functools.cache
def _model(cls: type[Facts]) -> tuple[type[pydantic.BaseModel], dict[str, Any]]:
    """Return the schema of a family, and the fields that make themselves of a dict."""
    hints = typing.get_type_hints(cls)
    schema: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        union = typing.get_origin(kind) in (Union, UnionType)
        parts = [part for part in (typing.get_args(kind) if union else (kind,)) if isinstance(part, Plain)]
        if parts:
            made[field.name], kind = parts[0].from_dict, dict[str, Any] | None if union else dict[str, Any]
        schema[field.name] = (kind, ...)
    config = pydantic.ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    return pydantic.create_model(cls.__name__, __config__=config, **schema), made


def _checked(cls: type[Facts], values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields' values, made of plain JSON."""
    model, made = _model(cls)
    try:
        read = model.model_validate_json(json.dumps(values, ensure_ascii=False))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{part!r}]" if i else str(part) for i, part in enumerate(first["loc"]))
        raise DataError(
            f"{cls.__name__}: {place} is {first['input']!r:.60}: {first['msg']}",
            code="type",
            path=place,
            value=first["input"],
        ) from None
    found = {name: getattr(read, name) for name in values}
    for name, make in made.items():
        if values[name] is None:
            continue
        try:
            found[name] = make(values[name])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{cls.__name__}: {name} cannot be read ({type(error).__name__}: {error})",
                code="type",
                path=name,
                value=values[name],
            ) from None
    return found
