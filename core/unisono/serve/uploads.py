"""Uploads: fields that name a file take the file itself, as a ``data:`` URL; no path is opened for a client."""

import base64
import binascii
import mimetypes
import re
import tempfile
from pathlib import Path
from typing import Any

from unisono.errors import RequestError

URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<parameters>(;[\w-]+=[^;,]*)*);base64,", re.ASCII)
SUFFIX = re.compile(r"name=[^;,]*(?P<suffix>\.[A-Za-z0-9]{1,8})(;|$)")


def file_fields(kind: Any) -> frozenset[str]:
    """Return the fields of a request that name files: their schema, or that of their items, has `FILE`'s format."""
    properties = kind.model_json_schema()["properties"]
    return frozenset(name for name, schema in properties.items() if _names_files(schema))


class Uploads:
    """Files that came with a request, in a folder of their own until ``close``."""

    def __init__(self):
        self._folder: tempfile.TemporaryDirectory | None = None

    def close(self) -> None:
        """Remove them."""
        if self._folder is not None:
            self._folder.cleanup()

    def placed(self, fields: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
        """Return the fields with the paths of uploaded files for their ``data:`` URLs; raises ``RequestError``."""
        return {name: self._place(name, value) if name in names else value for name, value in fields.items()}

    def _place(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._place(f"{name}.{number}", item) for number, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        found = URL.match(value)
        if found is None:
            raise RequestError(
                f"{name}: a server opens no files of its own for a client: send the file, as "
                "data:TYPE;name=FILE;base64,…",
                code="unsafe",
                path=name,
            )
        try:
            content = base64.b64decode(value[found.end() :], validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(
                f"{name}: what follows base64, is not base64: mend it", code="damaged", path=name
            ) from None
        named = SUFFIX.search(found["parameters"] or "")
        suffix = named["suffix"] if named else mimetypes.guess_extension(found["type"] or "") or ""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="unisono-")
        path = Path(self._folder.name) / f"{len(list(Path(self._folder.name).iterdir()))}{suffix.lower()}"
        path.write_bytes(content)
        return str(path)


def _names_files(schema: Any) -> bool:
    """Whether a field's schema says that it takes files, one or a list of them."""
    if isinstance(schema, list):
        return any(map(_names_files, schema))
    if not isinstance(schema, dict):
        return False
    within = (schema.get(key) for key in ("items", "prefixItems", "anyOf", "oneOf", "allOf"))
    return schema.get("format") == "file-path" or any(map(_names_files, within))
