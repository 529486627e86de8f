"""Fields: a request's fields as flags of the command line: read, and described for ``--help``."""

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from unisono.errors import RequestError, did_you_mean
from unisono.fields import fields_of
from unisono.plain_yaml import read_yaml


def request_flags(kind: Any, rest: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Parse ``--field value`` and ``--field=value`` into a request's fields; dashes and underscores are one.

    Also return what is no flag: argparse leaves a text here that stands behind a flag it does not know.
    """
    written, texts = written_flags(kind, rest)
    return {name: flag_value(name, value, kind.model_fields[name].annotation) for name, value in written.items()}, texts


def written_flags(kind: Any, rest: list[str]) -> tuple[dict[str, str], list[str]]:
    """As ``request_flags``, with the values as they are written."""
    fields: dict[str, str] = {}
    texts: list[str] = []
    rest = list(rest)
    while rest:
        item = rest.pop(0)
        if not item.startswith("--"):
            texts.append(as_text(item))
            continue
        name, equals, value = item[2:].partition("=")
        name = name.replace("-", "_")
        if name not in kind.model_fields:
            raise RequestError(
                f"unknown flag --{name:.80}{did_you_mean(name[:80], kind.model_fields)}",
                code="unknown",
                path=f"--{name}",
                value=name,
            )
        if not equals:
            if not rest:
                raise RequestError(f"--{name} has no value: write --{name}=VALUE", code="missing", path=f"--{name}")
            value = rest.pop(0)
        fields[name] = as_text(value)
    return fields, texts


def flag_value(name: str, value: str, annotation: Any) -> Any:
    """Read a flag's value as its field's type asks for: a text as it is written, anything else as plain YAML."""
    if takes_text(annotation):
        return value
    try:
        read = read_yaml(value, f"--{name}", RequestError)
        if read is None and value.strip().lower() not in ("null", "~"):  # an empty variable of a shell, a comment
            raise RequestError("it is empty; null is no value", code="empty")
        return read
    except RequestError as error:
        reason = str(error).removeprefix(f"--{name}").strip(": ")
        raise RequestError(
            f"--{name}={value:.80} is not a number, a word or a list such as [1, 2] ({reason:.120})",
            code=error.code,
            path=f"--{name}",
            value=value,
        ) from None


def times_options(given: list[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` of each ``--times-option``; raises ``RequestError``."""
    options: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise RequestError(
                f"--times-option {item!r:.80} is not NAME=VALUE, such as line_length=30",
                code="format",
                path="--times-option",
                value=item,
            )
        if name in options:
            raise RequestError(
                f"--times-option {name!r:.80} is given twice", code="conflict", path="--times-option", value=item
            )
        options[name] = read_yaml(value, f"--times-option {name}", RequestError)
    return options


def takes_text(annotation: Any) -> bool:
    """Whether a field's type takes a text as it is written; a list or mapping of texts does not."""
    if get_origin(annotation) is Annotated:
        return takes_text(get_args(annotation)[0])
    is_union = get_origin(annotation) in (Union, UnionType)
    return annotation is str or (is_union and any(takes_text(kind) for kind in get_args(annotation)))


def as_text(argument: str) -> str:
    """Return an argument as UTF-8, which Python reads as single bytes where the locale knows only ASCII."""
    try:
        return argument.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise RequestError(
            f"{argument!a:.120} is not UTF-8: give it as UTF-8, or in a file with --input",
            code="format",
            value=argument,
        ) from None


def describe_fields(kind: Any, named: Mapping[str, tuple[str, ...]] | None = None) -> list[str]:
    """Return a line per field of a request: its flag, what it means, its choices, its range and its default.

    ``named`` as of ``unisono.fields.fields_of``.
    """
    lines = []
    for name, field in fields_of(kind, named).items():
        flag = f"--{name.replace('_', '-')}"
        lines.append(f"{flag:<17} {field.help}{f' ({field.notes})' if field.notes else ''}")
    return lines
