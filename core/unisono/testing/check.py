"""Check: one promise of a plugin or model, how it ended, and where it is broken."""

import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


class CheckFailed(AssertionError):
    """A promise that is not kept, in one sentence.

    ``code`` names the kind of fault, such as ``"seed-ignored"``; ``fields`` hold the values that the sentence tells;
    ``at`` is the class or function to look at, where it is known.
    """

    def __init__(self, sentence: str, code: str, at: Any = None, **fields: Any):
        super().__init__(sentence)
        self.code, self.at, self.fields = code, at, fields


class Skipped(Exception):
    """A check that cannot run on this machine; counted, never silent."""


def ensure(condition: bool, sentence: str, code: str, at: Any = None, **fields: Any) -> None:
    """Raise ``CheckFailed`` unless the condition holds."""
    if not condition:
        raise CheckFailed(sentence, code, at, **fields)


@dataclass(frozen=True)
class Check:
    """One promise of one model (or of the plugin as a whole); calling it raises where it is not kept.

    ``package`` is the folder of the plugin's code, ``about`` returns what to look at where a failure names nothing.
    """

    name: str
    of: str
    promise: str
    call: Callable[[], None]
    package: str = ""
    about: Callable[[], Any] = field(default=lambda: None)

    @property
    def id(self) -> str:
        return f"{self.name}[{self.of}]"

    def __call__(self) -> None:
        self.call()


@dataclass(frozen=True)
class Outcome:
    """How a check ended: ``passed``, ``failed`` or ``skipped``, why, where to look, and after how many seconds.

    ``code`` and ``fields`` are those of ``CheckFailed``; another exception's code is its class' name.
    """

    check: Check
    state: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float
    where: str = ""
    code: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def where(error: BaseException, package: str = "", about: Any = None) -> str:
    """Return ``file:line`` of the plugin's own code that an error points at.

    That is the innermost line of the traceback inside ``package``; else what the error names (``CheckFailed.at``), else
    ``about``, else the innermost line of all. Empty where there is none.
    """
    lines: list[traceback.FrameSummary] = []
    cause: BaseException | None = error
    while cause is not None:
        lines += traceback.extract_tb(cause.__traceback__)
        cause = cause.__cause__
    inside = [frame for frame in lines if package and Path(frame.filename).is_relative_to(package)]
    if inside:
        return f"{shown(inside[-1].filename)}:{inside[-1].lineno}"
    named = error.at if isinstance(error, CheckFailed) and error.at is not None else about
    if named is not None:
        return location(named)
    return f"{shown(lines[-1].filename)}:{lines[-1].lineno}" if lines else ""


def location(target: Any) -> str:
    """Return ``file:line`` where a class, function or module is written; empty where Python does not know."""
    try:
        target = inspect.unwrap(target)
        file = inspect.getsourcefile(target)
        line = 1 if inspect.ismodule(target) else inspect.getsourcelines(target)[1]
    except (TypeError, OSError):
        return ""
    return f"{shown(file)}:{line}" if file else ""


def shown(file: str) -> str:
    """Return a path from the working directory where it lies in it, else from a folder of installed packages."""
    for base in (str(Path.cwd()), *sorted((p for p in sys.path if p), key=len, reverse=True)):
        if Path(file).is_relative_to(base):
            return str(Path(file).relative_to(base))
    return file
