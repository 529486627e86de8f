"""Fields: what can be asked of a model, field by field, with the values and ranges that each takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
MOST_SHOWN = 12
"""Values that only the loaded model knows, such as its classes, of which a line shows no more."""


@dataclass(frozen=True)
class Field:
    """One field of a request.

    Attributes:
        name: as in Python and JSON; on the command line with dashes.
        help: what it means.
        required: whether a request must have it.
        default: its value where a request has none.
        choices: the values that it takes, where they can be listed: literals, or names that the model's facts list.
        limits: ranges and choices in words, such as ``"≥ 0.25"``.
        schema: the field's JSON schema.
    """

    name: str
    help: str
    required: bool
    default: Any
    choices: tuple[Any, ...] = ()
    limits: tuple[str, ...] = ()
    schema: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def notes(self) -> str:
        """Limits, and the default or that it is required, in one line."""
        notes = list(self.limits)
        if self.required:
            notes.append("required")
        elif self.default is not None:
            notes.append(f"default {self.default}")
        return ", ".join(dict.fromkeys(notes))


def fields_of(kind: Any, named: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Field]:
    """Return the fields of a kind of request by name.

    ``named`` are values that are known of a trained model only (``unisono.model.choices_of``): field → names.
    """
    schema = kind.model_json_schema()
    found = {}
    for name, declared in kind.model_fields.items():
        own = schema["properties"][name]
        definitions = schema.get("$defs", {})
        known = tuple((named or {}).get(name, ()))
        limits = list(_limits(own, definitions))
        if known:
            shown = ", ".join(known[:MOST_SHOWN])
            limits.append(f"one of {shown}" + (f", … {len(known)} in all" if len(known) > MOST_SHOWN else ""))
        plain = declared.default_factory is None and not declared.is_required()
        found[name] = Field(
            name,
            declared.description or "",
            declared.is_required(),
            declared.default if plain else None,
            known or tuple(dict.fromkeys(_choices(own, definitions))),
            tuple(dict.fromkeys(limits)),
            own,
        )
    return found


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema's parts: itself, what it refers to, and its alternatives."""
    yield schema
    if "$ref" in schema:
        yield from _resolved(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    for part in schema.get("anyOf", []):
        yield from _resolved(part, definitions)


def _choices(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[Any]:
    for part in _resolved(schema, definitions):
        yield from part.get("enum", [part["const"]] if "const" in part else [])


def _limits(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """What a value is bound to: choices and ranges, those of optional fields and of a list's items too."""
    for part in _resolved(schema, definitions):
        choices = part.get("enum", [part["const"]] if "const" in part else [])
        if choices:
            yield f"one of {', '.join(map(str, choices))}"
        for key, sign in _SIGNS.items():
            if abs(part.get(key, 1e18)) < 1e18:
                yield f"{sign} {part[key]:g}"
        items = [part["items"]] if isinstance(part.get("items"), dict) else part.get("prefixItems", [])
        inner = list(dict.fromkeys(note for item in items for note in _limits(item, definitions)))
        if part.get("type") == "array":
            least, most = part.get("minItems", 0), part.get("maxItems")
            size = f" of {most}" if least == most else f" of at least {least}" if least else ""
            yield f"a list{size}" + (f", each {', '.join(inner)}" if inner else "")
