"""Errors: what a user can mend; each is one sentence with the value, the limit and the fix.

The command line prints the sentence and exits with 2; anything else is our bug and shows its traceback. Programs read
the fields, not the sentence.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from unisono.files.fault import Fault

Code = Literal[
    "unknown",  # no such name; the sentence lists near ones
    "missing",  # a file, field, component or value that is needed is not there
    "type",  # a value of another kind
    "range",  # a number outside its limits
    "value",  # a value that is unfit in another way
    "shape",  # sizes that do not fit together
    "conflict",  # two things that exclude each other
    "unsupported",  # known, and not what this model, scheduler, file type or machine can do
    "empty",  # nothing to work on
    "limit",  # more than is allowed: length, depth, memory, time
    "format",  # not a file or text of the kind that is read here
    "damaged",  # of the right kind, and cut or changed
    "version",  # written by another version
    "unsafe",  # code, links or names that could do harm
    "exists",  # would overwrite what is there
    "write",  # no space, no permission, no such place
    "device",  # a device that is absent or unfit
    "dependency",  # a package or program that is not installed
    "state",  # not now: called out of order, or used by another thread
    "failed",  # what was started ended badly
]
"""The kinds of fault that an error's ``code`` names."""


class UnisonoError(ValueError):
    """The base of every error that a user can mend.

    Attributes:
        code: the kind of fault; None where an older plugin gives none.
        path: what is at fault: a recipe's key (``model.dim``), a request's field, an argument, a role or a file.
        value: what was given.
        fault: where a user's file is to blame, what is wrong with it, in fields.
    """

    def __init__(self, message: str = "", *, code: Code | None = None, path: Any = None, value: Any = None):
        super().__init__(message)
        self.code: Code | None = code
        self.path: str | None = None if path is None else str(path)
        self.value: Any = value
        self.fault: Fault | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep message and fields where an error comes from another process, whatever its constructor takes."""
        return _remade, (type(self), self.args, self.__dict__)


class PluginError(UnisonoError):
    """A plugin is missing, broken, incompatible or claimed by two distributions."""


class RecipeError(UnisonoError):
    """A recipe has an unknown key, a wrong type or a missing value."""


class RequestError(UnisonoError):
    """A request asks for something that the model cannot make."""


class MissingProgram(RequestError):
    """What was asked for needs a program, such as ffmpeg, that is not on this machine."""


class DataError(UnisonoError):
    """A corpus, manifest or file cannot be read as stated."""


class CheckpointError(UnisonoError):
    """An export is damaged, foreign, newer than this version, or unsafe."""


class MissingExtra(UnisonoError):
    """An optional package is not installed; the message has the line that installs it.

    Args:
        package: that is missing.
        extra: that brings it.
        distribution: whose extra it is; a plugin of its own package gives that package's name.
    """

    def __init__(self, package: str, extra: str, distribution: str = "unisono"):
        super().__init__(
            f'{package!r} is not installed: run  pip install "{distribution}[{extra}]"', code="dependency", path=package
        )


def _remade(kind: type[UnisonoError], args: tuple[Any, ...], fields: dict[str, Any]) -> UnisonoError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


@contextmanager
def raised_as(kind: type[UnisonoError], path: str | None = None) -> Iterator[None]:
    """Raise any ``UnisonoError`` of the block as another kind, with its sentence and its fields.

    ``path`` replaces what is at fault, where the caller knows it by another name. Without, errors of that kind go
    through as they are.
    """
    try:
        yield
    except UnisonoError as error:
        if path is None and isinstance(error, kind):
            raise
        where = error.path if path is None else path
        raise kind(str(error), code=error.code, path=where, value=error.value) from error


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
