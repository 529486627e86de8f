"""Requests: what rows ask of a model, and the hash by which a request is known.

A row's key is the hash of its whole request, fields that it leaves out included; of a field that names a file, the
file's size and age count too. Where neither the row nor the command gives a seed, the row has one of its own, derived
from that hash: the same wherever the row stands, and another one for another row. Equal requests are one row.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisono.batch.rows import BadRow, Columns, FileField, Row
from unisono.batch.stored import Stored
from unisono.errors import RequestError, did_you_mean
from unisono.files import is_file
from unisono.plain_yaml import read_yaml

SEED_BITS = 53
"""Of a row's own seed: a number that JSON keeps whole in every language."""
KEY_LENGTH = 32
"""Hexadecimal digits of a key, 128 bits."""


@dataclass(frozen=True)
class Asked:
    """A request as it travels between processes, plain: its key, its seed and the fields that were given.

    Where ``stored`` is there, its content is the value of the main field, which holds its name.
    """

    key: str
    seed: int
    fields: dict[str, Any]
    stored: Stored | None = None

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> "Asked":
        """Return what ``dataclasses.asdict`` made plain."""
        return cls(**{**fields, "stored": Stored(**fields["stored"]) if fields["stored"] else None})


class Requests:
    """Turns rows into requests of one kind; ``fields`` apply to all rows that do not give them themselves."""

    def __init__(self, kind: Any, text_field: str, fields: Mapping[str, Any]):
        self.kind, self.text_field, self.fields = kind, text_field, dict(fields)
        unknown = [name for name in self.fields if name not in kind.model_fields]
        if unknown:
            raise RequestError(
                f"unknown field {unknown[0]!r:.80}{did_you_mean(unknown[0], kind.model_fields)}",
                code="unknown",
                path=unknown[0],
                value=unknown[0],
            )

    def request(self, row: Row) -> Any:
        """Return the request of a row; raises ``RequestError``."""
        if isinstance(row.given, BadRow):
            raise RequestError(row.given.reason, code=row.given.code)
        own = row.given if isinstance(row.given, dict) else {self.text_field: row.given}
        return self.kind.parse(**{**self.fields, **own})

    def asked(self, row: Row) -> Asked:
        """Return what a row asks, with its seed and its key; raises ``RequestError``."""
        request = self.request(row)
        content = {self.text_field: row.stored.digest()} if row.stored else {}
        if "seed" not in request.model_fields_set:
            request = request.model_copy(update={"seed": own_seed(request, content)})
        key = request_fingerprint(request, "", content)[:KEY_LENGTH]
        return Asked(key, request.seed, request.model_dump(mode="json", exclude_unset=True), row.stored)

    @property
    def file_field(self) -> FileField | None:
        """The main field, where it says of which suffixes the files are that it takes."""
        known = self.kind.model_fields.get(self.text_field)
        extra = known.json_schema_extra if known else None
        suffixes = extra.get("x-suffixes") if isinstance(extra, dict) else None
        return FileField(self.text_field, tuple(suffixes)) if suffixes else None

    def columns(self, chosen: str | None) -> Columns:
        """Return which columns of a table are which fields; ``chosen`` is ``NAME,NAME=FIELD,…``."""
        fields = tuple(self.kind.model_fields)
        if chosen is None:
            return Columns(fields, self._cell, file=self.file_field)
        pairs: dict[str, str] = {}
        for item in chosen.split(","):
            name, equals, field = (part.strip() for part in item.partition("="))
            field = field if equals else name
            if field not in fields:
                raise RequestError(
                    f"--columns {item!r:.80}: {field!r:.80} is no field of the request{did_you_mean(field, fields)}",
                    code="unknown",
                    path="--columns",
                    value=field,
                )
            if name in pairs or field in pairs.values():
                raise RequestError(
                    f"--columns {chosen!r:.80} names {item!r:.80} twice", code="conflict", path="--columns", value=item
                )
            pairs[name] = field
        return Columns(fields, self._cell, pairs, self.file_field)

    def _cell(self, name: str, text: str) -> Any:
        """Read a cell as its field's type asks for: a text as it is written, anything else as plain YAML."""
        from unisono.cli.fields import takes_text

        if takes_text(self.kind.model_fields[name].annotation):
            return text
        try:
            return read_yaml(text, name, RequestError)
        except RequestError as error:
            raise RequestError(
                f"{name}={text!r:.80} is not a number, a word or a list such as [1, 2]",
                code=error.code,
                path=name,
                value=text,
            ) from None


def own_seed(request: Any, content: Mapping[str, str] | None = None) -> int:
    """Return the seed that is a request's own, of its other fields, in [0, 2^53)."""
    other = request.model_copy(update={"seed": 0})
    return int(request_fingerprint(other, "seed", content), 16) % 2**SEED_BITS


def request_fingerprint(request: Any, model: str, content: Mapping[str, str] | None = None) -> str:
    """Return a fingerprint of a request to a model; of fields that name a file, its size and age count too.

    ``content`` are fields that count by the hash of what lies behind their name instead.
    """
    values = {**request.model_dump(mode="json"), **(content or {})}
    files = {}
    lists = [(name, value) for name, value in values.items() if isinstance(value, list)]
    listed = [(f"{name}.{number}", item) for name, value in lists for number, item in enumerate(value)]
    for name, value in [*values.items(), *listed]:
        if isinstance(value, str) and len(value) < 4096 and is_file(Path(value)):
            state = Path(value).stat()
            files[name] = [state.st_size, state.st_mtime_ns]
    told = json.dumps([model, values, files], sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def model_fingerprint(synthesizer: Any) -> str:
    """Return a fingerprint of a model and its components: what they are, and their weights, of large ones a part.

    Weights that only training needs are not in an export, are drawn anew by each process, and do not count.
    """
    from torch import nn

    from unisono.export import export_state

    digest = hashlib.sha256()
    parts = {"": synthesizer.model, **synthesizer.model.components}
    for role, part in sorted(parts.items()):
        recipe = getattr(part, "recipe", None) or {}
        digest.update(json.dumps([role, type(part).__qualname__, recipe.get("model")], default=str).encode())
        state = export_state(part) if isinstance(part, nn.Module) else {}
        size = sum(weight.numel() for weight in state.values())
        for name, weight in state.items():
            step = max(1, size // 2**24)
            taken = weight.detach().flatten()[::step].cpu()
            taken = taken.float() if taken.is_floating_point() else taken
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(taken.contiguous().numpy().tobytes())
    return digest.hexdigest()
