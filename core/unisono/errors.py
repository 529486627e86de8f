"""Errors: what a user can mend; each is one sentence with the value, the limit and the fix.

The command line prints the sentence and exits with 2; anything else is our bug and shows its traceback.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unisono.files.fault import Fault


class UnisonoError(ValueError):
    """The base of every error that a user can mend.

    Attributes:
        fault: where a file is to blame, what is wrong with it, in fields.
    """

    fault: "Fault | None" = None


class PluginError(UnisonoError):
    """A plugin is missing, broken, incompatible or claimed by two distributions."""


class RecipeError(UnisonoError):
    """A recipe has an unknown key, a wrong type or a missing value.

    ``path`` is the key at fault (``model.dim``), ``value`` what was given and ``code`` the kind of fault: ``unknown``,
    ``missing``, ``type``, ``choice``, ``value`` or ``yaml``; None where a fault has none.
    """

    def __init__(self, message: str, *, path: str | None = None, value: Any = None, code: str | None = None):
        super().__init__(message)
        self.path, self.value, self.code = path, value, code


class RequestError(UnisonoError):
    """A request asks for something that the model cannot make."""


class MissingProgram(RequestError):
    """What was asked for needs a program, such as ffmpeg, that is not on this machine."""


class DataError(UnisonoError):
    """A corpus, manifest or file cannot be read as stated."""


class CheckpointError(UnisonoError):
    """An export is damaged, foreign, newer than this version, or unsafe."""


class MissingExtra(UnisonoError):
    """An optional package is not installed; the message has the line that installs it."""

    def __init__(self, package: str, extra: str):
        super().__init__(f'{package!r} is not installed: run  pip install "unisono[{extra}]"')


@contextmanager
def writing(path: str | Path, kind: type[UnisonoError] = UnisonoError) -> Iterator[None]:
    """Turn a place that cannot be written (no such folder, no permission, disk full) into one sentence."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write {str(path)!r}: {error.strerror or error}; choose another place") from None


def shown(value: Any, limit: int = 80) -> str:
    """Return ``repr(value)``, cut after ``limit`` characters, for a message."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no longer ones
        return "an integer of more than 4,300 digits"
    return text if len(text) <= limit else f"{text[:limit]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"``, or the known names (the first of many) when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {near[0]!r}?)"
    if len(known) > 20:
        return f" (known: {', '.join(known[:12])}, … {len(known)} in all)"
    return f" (known: {', '.join(known)})" if known else ""
