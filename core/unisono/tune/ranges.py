"""Ranges: which values of a recipe are searched, and between which limits.

As text: ``1e-4..1e-2:log`` (evenly over the logarithm), ``2..8`` (whole numbers where the recipe takes no others),
``0..0.5:step=0.1``, and ``cosine|linear`` for a choice. In a file a choice is a list, too.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisono.errors import RecipeError, UnisonoError, shown
from unisono.files import read_text
from unisono.plain_yaml import read_yaml
from unisono.recipe import Recipe

NOT_SEARCHED = ("run.dir", "trainer.devices", "trainer.num_nodes", "format")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})((?::[^:]*)*)")
_ALIKE = re.compile(r"[-+\d.eE]*\.\.[-+\d.eE]*(:.*)?")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``log`` evenly over the logarithm, ``step`` apart or any."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{':log' * self.log}{'' if self.step is None else f':step={self.step:g}'}"

    def ask(self, trial: Any, path: str) -> Any:
        """Have Optuna choose a value."""
        if self.whole:
            step = {} if self.log else {"step": int(self.step or 1)}
            return trial.suggest_int(path, int(self.low), int(self.high), log=self.log, **step)
        return trial.suggest_float(path, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choices:
    """One of some values, of any kind that a recipe takes."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return "|".join(map(_text, self.values))

    def ask(self, trial: Any, path: str) -> Any:
        """Have Optuna choose a value."""
        return json.loads(trial.suggest_categorical(path, [json.dumps(value) for value in self.values]))


Ranges = dict[str, Range | Choices]


def looks_like_range(text: str) -> bool:
    """Whether a value on the command line is a range or a choice, right or wrong."""
    return "|" in text or (any(map(str.isdigit, text)) and _ALIKE.fullmatch(text) is not None)


def read_ranges(path: str | Path) -> Ranges:
    """Read a YAML file that maps keys of a recipe to ranges; raises ``RecipeError`` for anything else."""
    raw = read_yaml(read_text(path, RecipeError), str(path))
    if not isinstance(raw, Mapping) or not raw:
        raise RecipeError(
            f"{str(path)!r:.200} holds no ranges: write lines such as  optim.lr: 1e-4..1e-2:log",
            code="empty" if not raw else "type",
            path=str(path),
        )
    return {str(key): read_range(str(key), value) for key, value in raw.items()}


def read_range(path: str, given: Any) -> Range | Choices:
    """Return what a text, a list or a mapping (``{low, high, log, step}``) says; raises ``RecipeError``."""
    if isinstance(given, Range | Choices):
        return _checked(path, given)
    if isinstance(given, list | tuple):
        return _checked(path, Choices(tuple(given)))
    if isinstance(given, Mapping):
        unknown = [key for key in given if key not in ("low", "high", "log", "step")]
        if unknown or not {"low", "high"} <= given.keys() or not isinstance(given.get("log", False), bool):
            raise _wrong(path, given, "needs low and high, and may have log (true) and step", "unknown")
        numbers = [given["low"], given["high"], given.get("step", 1)]
        if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
            raise _wrong(path, given, "needs numbers", "type")
        return _checked(path, Range(given["low"], given["high"], given.get("log", False), given.get("step")))
    text = str(given)
    if "|" in text:
        parts = [part.strip() for part in text.split("|")]
        if not all(parts):
            raise _wrong(path, text, "has an empty choice: write VALUE|VALUE|…", "empty")
        return _checked(path, Choices(tuple(read_yaml(part, path) for part in parts)))
    found = _RANGE.fullmatch(text)
    if not found:
        raise _wrong(path, given, "is no range: write LOW..HIGH, LOW..HIGH:log, LOW..HIGH:step=STEP or A|B", "format")
    log, step = False, None
    for option in found[3].split(":")[1:]:
        if option == "log":
            log = True
        elif re.fullmatch(rf"step={_NUMBER}", option):
            step = float(option.removeprefix("step="))
        else:
            raise _wrong(path, text, f"has the option {option!r}: there are log and step=STEP", "unknown")
    return _checked(path, Range(float(found[1]), float(found[2]), log, step))


def fitted(recipe: Recipe, ranges: Mapping[str, Any]) -> Ranges:
    """Return ranges that a recipe takes, whole numbers where it takes no others.

    Raises ``RecipeError`` where there are none, for an unknown key, and for an end or a choice that the recipe refuses.
    """
    if not ranges:
        raise RecipeError(
            "nothing to search: give a range, such as --optim.lr=1e-4..1e-2:log, or --ranges FILE",
            code="empty",
            path="ranges",
        )
    checked: Ranges = {}
    for path, given in ranges.items():
        if path in NOT_SEARCHED:
            raise RecipeError(f"{path} cannot be searched: leave it out", code="unsupported", path=path)
        chosen = read_range(path, given)
        if isinstance(chosen, Range):
            middle = math.floor(chosen.low) + 0.5
            try:
                recipe.with_values({path: middle})
            except UnisonoError as error:
                if error.code == "type":
                    chosen = _whole(path, chosen)
            ends: tuple[Any, ...] = (chosen.low, chosen.high)
        else:
            ends = chosen.values
        for value in ends:
            recipe.with_values({path: value})
        checked[path] = chosen
    return checked


def _whole(path: str, given: Range) -> Range:
    numbers = [given.low, given.high, given.step or 1]
    if any(number != int(number) for number in numbers):
        raise _wrong(path, str(given), f"must have whole numbers: {path} takes no others", "type")
    return Range(int(given.low), int(given.high), given.log, None if given.step is None else int(given.step), True)


def _checked(path: str, given: Range | Choices) -> Range | Choices:
    if isinstance(given, Choices):
        try:
            told = [json.dumps(value, sort_keys=True) for value in given.values]
        except (TypeError, ValueError):
            raise _wrong(path, given.values, "must be plain values", "type") from None
        if len(set(told)) < 2 or len(set(told)) < len(told):
            raise _wrong(path, list(given.values), "needs two different values or more, each once", "empty")
        return given
    if not (math.isfinite(given.low) and math.isfinite(given.high)):
        raise _wrong(path, str(given), "must have finite ends", "range")
    if given.low >= given.high:
        what = "is empty" if given.low == given.high else "runs backwards"
        raise _wrong(path, str(given), f"{what}: its first number must be below its second", "range")
    if given.log and given.low <= 0:
        raise _wrong(path, str(given), "cannot be logarithmic through 0 or below: begin above 0", "range")
    if given.step is not None and not 0 < given.step <= given.high - given.low:
        raise _wrong(path, str(given), "must have a step above 0 that is not wider than itself", "range")
    if given.log and given.step is not None:
        raise _wrong(path, str(given), "is logarithmic, and has a step: remove one", "conflict")
    return given


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _wrong(path: str, value: Any, why: str, code: Any) -> RecipeError:
    return RecipeError(f"the range {path}={shown(value)} {why}", code=code, path=path, value=value)
