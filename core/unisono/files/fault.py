"""Fault: what is wrong with a user's file, as a row for an audit and as a sentence for an error."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unisono.errors import Code, DataError, UnisonoError

MOST_SHOWN = 240
CODES: dict[str, Code] = {
    "missing": "missing",
    "broken link": "missing",
    "too large": "limit",
    "empty": "empty",
    "truncated": "damaged",
    "unreadable": "damaged",
    "not finite": "damaged",
    "half a character": "damaged",
    "same name": "exists",
    "read already": "exists",
    "link loop": "unsafe",
}
"""The errors' codes of faults; all others are of the ``format``."""

Kind = Callable[..., UnisonoError]
"""Makes an error of a sentence and its fields (``code``, ``path``, ``value``); the errors' own types serve."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a file.

    Attributes:
        reason: one of few, for counting: ``missing``, ``not a file``, ``not a folder``, ``unreadable``, ``too large``,
            ``invalid UTF-8``, ``not text``, ``not JSON``, ``open quote``, ``wrong fields``, ``half a character``,
            ``broken link``, ``link loop``, ``read already``, ``name not UTF-8``, ``same name``.
        detail: what was found.
        fix: what to do about it.
        path, line: where; a line's number counts from 1.
    """

    reason: str
    detail: str
    fix: str = ""
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        what = f"{self.detail}; {self.fix}" if self.fix else self.detail
        if self.path is None:
            return what if self.line is None else f"line {self.line}: {what}"
        return f"{shown(self.path)}{'' if self.line is None else f', line {self.line}'}: {what}"

    def error(self, kind: Kind = DataError) -> UnisonoError:
        """Return the fault as an error; the fault itself is the error's ``fault``."""
        error = kind(str(self), code=CODES.get(self.reason, "format"), path=self.path, value=self.detail)
        error.fault = self
        return error


def shown(name: str | os.PathLike) -> str:
    """Return a name as it can be printed: bytes that are no UTF-8 and control characters escaped, a long one cut."""
    text = os.fspath(name) if isinstance(name, str) else str(name)
    if not text.isprintable():
        text = "".join(map(_printable, text))
    if len(text) > MOST_SHOWN:
        half = MOST_SHOWN // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text


def lone_surrogate(text: str) -> str | None:
    """Return the first half of a character in a text (U+D800 to U+DFFF alone), as it is written in JSON; else None.

    Such a text has no UTF-8: it can be neither written nor hashed.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}"
    return None


def _printable(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # how Python holds a byte of a name that is no UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
