"""Limits: how much a server takes on at a time."""

import math
from dataclasses import dataclass, fields

from unisono.errors import RequestError


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; each is of one process, and of one model where it says so.

    requests: of a model, that wait, run or stream at a time; one more is answered 429.
    characters: of a model, in the texts and lists of these requests together; more is answered 429.
    request_characters: in one request; more is answered 413.
    body: bytes of a request; more is answered 413.
    output: bytes of an answer; more is answered 413, and cuts a stream.
    seconds: from a request's arrival to its answer, or between two pieces of a stream; later is answered 504.
    connections: that are open at a time; of more, those that have asked for nothing are closed, oldest first, and where
        all are being served, one more is answered 503.
    head_seconds: in which a connection must have sent a request's head.
    body_seconds: in which the body must have come.
    """

    requests: int = 64
    characters: int = 200_000
    request_characters: int = 50_000
    body: int = 16 * 2**20
    output: int = 256 * 2**20
    seconds: float = 300.0
    connections: int = 512
    head_seconds: float = 10.0
    body_seconds: float = 60.0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise RequestError(f"{field.name}={value} must be above 0", code="range", path=field.name, value=value)


def characters_in(value: object) -> int:
    """Return how much a request's value holds: the characters of its texts, and one for each item of its lists."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(characters_in, value.values()))
    if isinstance(value, list | tuple):
        return len(value) + sum(characters_in(item) for item in value if not isinstance(item, int | float))
    return 0
