"""Tasks of the table top: which disc goes where, as a sentence; said in several ways, read back from any of them."""

import re
from dataclasses import dataclass
from typing import Any

from unisono.data import words_of
from unisono.errors import RequestError

COLOURS = ("red", "green", "blue", "yellow", "purple")
PADS = ("red", "green", "blue")
RELATIONS = ("on", "left", "right")
_WAYS = {
    "on": (
        "put the {disc} one on the {other} pad",
        "move the {disc} disc to the {other} pad",
        "{disc} onto the {other} pad",
    ),
    "left": (
        "put the {disc} one left of the {other} one",
        "move the {disc} disc left of the {other} disc",
        "{disc} to the left of {other}",
    ),
    "right": (
        "put the {disc} one right of the {other} one",
        "move the {disc} disc right of the {other} disc",
        "{disc} to the right of {other}",
    ),
}
NUM_WAYS = 3


@dataclass(frozen=True)
class Task:
    """Put a disc ``on`` a pad, or ``left`` or ``right`` of another disc."""

    disc: str
    relation: str
    other: str

    def say(self, way: int = 0) -> str:
        """Return the task as a sentence; ``way`` is which of three phrasings."""
        return _WAYS[self.relation][way].format(disc=self.disc, other=self.other)


ALL_TASKS = tuple(
    Task(disc, relation, other)
    for relation in RELATIONS
    for disc in COLOURS
    for other in (PADS if relation == "on" else COLOURS)
    if relation == "on" or other != disc
)


def read_task(instruction: str) -> Task:
    """Return the task of a sentence: the first colour is moved, the second is where to.

    Raises ``RequestError`` for a sentence that names no task.
    """
    words = words_of(instruction)
    colours = [word for word in words if word in COLOURS]
    sides = {word for word in words if word in ("left", "right")}
    on = bool(re.search(r"\bpad\b", " ".join(words)))
    if len(colours) != 2 or len(sides) + on != 1:
        raise _unread(instruction, "names no disc and no place", "format")
    relation, (disc, other) = ("on" if on else sides.pop()), colours
    if relation == "on" and other not in PADS:
        raise _unread(instruction, f"there is no {other} pad, only {', '.join(PADS)}", "unknown")
    if relation != "on" and other == disc:
        raise _unread(instruction, f"the {disc} one cannot be beside itself", "conflict")
    return Task(disc, relation, other)


def _unread(instruction: str, why: str, code: Any) -> RequestError:
    return RequestError(
        f"instruction={instruction!r:.80}: {why}; say something like {ALL_TASKS[2].say()!r}",
        code=code,
        path="instruction",
        value=instruction,
    )
