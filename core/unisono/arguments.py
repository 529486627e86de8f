"""Arguments: plain values checked against a class's typed constructor, by pydantic.

``check_arguments`` returns all arguments as plain data with the defaults filled in; ``build`` makes the object. Values
are checked strictly: an int serves as a float and a list as a tuple, but a number in quotes is a text, and true is no
number. Dataclasses nest: a mapping gives the fields that differ from the parameter's own default.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from unisono.errors import Code, PluginError, RecipeError, UnisonoError, did_you_mean, shown

REQUIRED = "???"
"""Stands in a recipe for a value that the user must give."""


def check_arguments(
    target: Any, given: Mapping[str, Any], section: str, origin: str, flat: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Check values against a class's constructor; return all of them, defaults included, as plain data.

    ``flat`` says where names of recipe format 1 have gone: ``{"encoder_layers": "network.encoder_layers"}``.
    """
    given = nested(given, flat, section, origin) if flat else given
    return {name: _plain(value) for name, value in _checked(target, given, section, origin).items()}


def nested(given: Mapping[str, Any], flat: Mapping[str, str], section: str, origin: str) -> dict[str, Any]:
    """Return arguments with those of recipe format 1 where format 2 has them."""
    moved: dict[str, Any] = {}
    old = old_names(given, flat)
    for name in old:
        path = flat[name]
        *groups, last = path.split(".")
        inner, beside = moved, cast(Any, given)
        for group in groups:
            inner = inner.setdefault(group, {})
            beside = beside.get(group) if isinstance(beside, Mapping) else None
        if groups and isinstance(beside, Mapping) and last in beside:
            raise RecipeError(
                f"{origin}: {section}.{name} is {section}.{path} since recipe format 2, and both are given: remove one",
                path=f"{section}.{name}",
                value=given[name],
                code="conflict",
            )
        value = given[name]  # a group that has gone into another, or one argument
        inner[last] = _merged(inner.get(last, {}), value) if isinstance(value, Mapping) else value
    return _merged({name: value for name, value in given.items() if name not in old}, moved)


def old_names(given: Mapping[str, Any], flat: Mapping[str, str]) -> list[str]:
    """Return which arguments are format 1's. ``objective: flow`` is, ``objective: {name: flow}`` is not."""
    return [name for name in flat if name in given and not (isinstance(given[name], Mapping) and is_group(name, flat))]


def is_group(name: str, flat: Mapping[str, str]) -> bool:
    """Return whether a name of format 1 is that of a group in format 2."""
    return any(path.startswith(f"{name}.") for path in flat.values())


def build(target: Any, values: Mapping[str, Any], section: str, origin: str) -> Any:
    """Make an object from a section of a recipe, whose ``name`` chose the class."""
    given = {key: value for key, value in values.items() if key != "name" or "name" in _parameters(target)}
    return _made(target, _checked(target, given, section, origin), section, origin)


class _Parameter(NamedTuple):
    """One argument of a constructor: its type, reduced to what a file can say, and its default, if any."""

    kind: Any
    default: Any

    @property
    def nested(self) -> type | None:
        """The dataclass that a mapping stands for here, if one does."""
        kinds = [kind for kind in (self.kind, *_members(self.kind)) if is_dataclass(kind)]
        return cast(type, kinds[0]) if kinds else None

    @property
    def items(self) -> type | None:
        """The dataclass that each mapping in a list stands for here, if one does."""
        inner = [kind for kind in get_args(self.kind) if is_dataclass(kind)]
        many = get_origin(self.kind) in (tuple, list)
        return cast(type, inner[0]) if many and inner else None


@cache
def _parameters(target: Any) -> dict[str, _Parameter]:
    of_dataclass: bool = is_dataclass(target)
    hints = get_type_hints(target if of_dataclass else target.__init__)
    factories = {f.name: f.default_factory for f in fields(target)} if of_dataclass else {}
    found = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name not in hints:
            raise PluginError(
                f"{target.__qualname__}: its argument {parameter.name!r} has no type: annotate it",
                code="missing",
                path=parameter.name,
                value=target.__qualname__,
            )
        default = MISSING if parameter.default is parameter.empty else parameter.default
        factory = factories.get(parameter.name, MISSING)
        if factory is not MISSING:
            default = factory()
        kind = _plain_type(hints[parameter.name])
        found[parameter.name] = _Parameter(NoneType if kind is None else kind, default)
    return found


def _checked(target: Any, given: Mapping[str, Any], path: str, origin: str) -> dict[str, Any]:
    """Return the arguments as the constructor takes them, in the order of its signature."""
    parameters = _parameters(target)
    for key in given:
        if key not in parameters:
            raise RecipeError(
                f"{origin}: unknown key {path}.{key!s:.80}{_nearest(str(key), parameters)}",
                path=f"{path}.{key}",
                code="unknown",
            )
    checked = {}
    for name, parameter in parameters.items():
        here = f"{path}.{name}"
        value = given.get(name, parameter.default)
        if value is MISSING or (isinstance(value, str) and value == REQUIRED):
            raise RecipeError(f"{origin}: {here} is required: add --{here}=VALUE", path=here, code="missing")
        if name not in given and parameter.nested is None:
            checked[name] = value
        elif parameter.nested is not None and isinstance(value, Mapping):
            default = _plain(parameter.default) if isinstance(parameter.default, parameter.nested) else {}
            checked[name] = _made_of(parameter.nested, default, value, here, origin)
        elif parameter.nested is not None and isinstance(value, parameter.nested):
            checked[name] = value
        elif parameter.items is not None and isinstance(value, list | tuple):
            checked[name] = get_origin(parameter.kind)(
                _item(parameter.items, item, f"{here}[{number}]", origin) for number, item in enumerate(value)
            )
        else:
            checked[name] = _fit(parameter.kind, value, here, origin)
    return checked


def _nearest(key: str, parameters: Mapping[str, _Parameter]) -> str:
    """Return what is meant by a key, in a group of its own perhaps: ``(did you mean 'network.dim'?)``."""
    groups = {name: parameter.nested for name, parameter in parameters.items() if parameter.nested is not None}
    inside = {inner: f"{name}.{inner}" for name, group in reversed(groups.items()) for inner in _parameters(group)}
    near = get_close_matches(key, {**inside, **parameters}, n=1)
    if near and near[0] not in parameters:
        return f" (did you mean {inside[near[0]]!r}?)"
    return did_you_mean(key, parameters)


def _made_of(target: type, default: dict[str, Any], given: Mapping[str, Any], path: str, origin: str) -> Any:
    return _made(target, _checked(target, _merged(default, given), path, origin), path, origin)


def _item(target: type, given: Any, path: str, origin: str) -> Any:
    if isinstance(given, target):
        return given
    if not isinstance(given, Mapping):
        return _fit(target, given, path, origin)
    return _made_of(target, {}, given, path, origin)


def _merged(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(default)
    for key, value in given.items():
        known = merged.get(key)
        inner = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(cast(Any, known), value) if inner else value
    return merged


def _made(target: Any, arguments: dict[str, Any], path: str, origin: str) -> Any:
    try:
        return target(**arguments)
    except RecipeError as error:
        prefix = "" if str(error).startswith(f"{origin}: ") else f"{origin}: "
        raise RecipeError(
            f"{prefix}{error}", path=error.path or path, value=error.value, code=error.code or "value"
        ) from error
    except UnisonoError:
        raise
    except Exception as error:  # whatever a constructor raises, the values of its section do not fit
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise RecipeError(f"{origin}: {path}: {reason}", path=path, code="value") from error


def _fit(kind: Any, value: Any, path: str, origin: str) -> Any:
    """Return a value as its type asks for, or raise ``RecipeError`` that says what it must be."""
    code: Code = "type"
    try:
        return _adapter(kind).validate_json(json.dumps(_plain(value)), strict=True)
    except ValidationError as error:
        if error.errors()[0]["type"] == "literal_error":
            code = "unknown"
    except (TypeError, ValueError, RecursionError):
        pass  # no plain value: an object, a value within itself
    raise RecipeError(
        f"{origin}: {path}={shown(value)} must be {describe(kind)}", path=path, value=value, code=code
    ) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else ()


_PLAIN = (str, int, float, bool, NoneType, dict, list, Path)


def _plain_type(kind: Any) -> Any:
    """Return a type without what no file can say, such as a callback; None where nothing is left."""
    if members := _members(kind):
        left = tuple(plain for member in members if (plain := _plain_type(member)) is not None)
        return Union[left] if left else None  # noqa: UP007
    outer = get_origin(kind)
    if kind in _PLAIN or kind is Any or is_dataclass(kind) or outer is Literal:
        return kind
    if outer in (list, tuple, dict) or (isinstance(outer, type) and issubclass(outer, Sequence | Mapping)):
        inner = [argument for argument in get_args(kind) if argument is not Ellipsis]
        return None if any(_plain_type(argument) is None for argument in inner) else kind
    return None


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


_ONE = {str: "a text", int: "an integer", float: "a number", bool: "true or false", Path: "a path", NoneType: "null"}
_MANY = {str: "texts", int: "integers", float: "numbers", bool: "truth values", Path: "paths"}


def describe(kind: Any) -> str:
    """Return what a value of a type is, in words: ``an integer or null``, ``a list of 2 numbers``."""
    if members := _members(kind):
        choices = [value for member in members if get_origin(member) is Literal for value in get_args(member)]
        words = [describe(member) for member in members if get_origin(member) is not Literal]
        if choices:
            words.insert(0, f"one of {', '.join(map(repr, choices))}")
        return " or ".join(dict.fromkeys(words))
    if kind is Any or kind in _ONE:
        return _ONE.get(kind, "any value")
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if is_dataclass(kind):
        return f"a mapping of {', '.join(_parameters(kind))}"
    many = _many(kind)
    return f"a {many.replace('lists', 'list', 1).replace('mappings', 'mapping', 1)}"


def _many(kind: Any) -> str:
    if kind in _MANY:
        return _MANY[kind]
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer is tuple and inner and inner[-1] is not Ellipsis:
        alike = len(set(inner)) == 1
        return f"lists of {len(inner)} {_many(inner[0]) if alike else 'values'}"
    if isinstance(outer, type) and issubclass(outer, Mapping):
        return f"mappings of names to {_many(inner[1])}" if inner else "mappings"
    if isinstance(outer, type) and issubclass(outer, Sequence):
        return f"lists of {_many(inner[0])}" if inner else "lists"
    return f"values ({describe(kind)})" if _members(kind) or get_origin(kind) is Literal else "values"
