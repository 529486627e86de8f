"""Batcher: what waits for one model, within bounds; handed out in order, requests of like length together.

::

    admit ─ a place, or 429 ─ put ─ waiting ─ take ─ [job]            a turn of a stream, always alone
                                                  └─ [job, job, …]    requests, the largest less than twice the smallest

A place counts from its admission until its request has ended, whether that waits, runs or streams between two turns.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from unisono.serve.errors import Refused
from unisono.serve.limits import Limits

WINDOW = 0.02
"""Seconds for which requests are awaited that may come again, after a batch of several was answered."""


@dataclass(eq=False)
class Place:
    """One request's share of the bounds."""

    batcher: "Batcher"
    size: int
    held: bool = True

    def release(self) -> None:
        """Give it back; once."""
        self.batcher._release(self)


@dataclass(eq=False)
class Job:
    """Work for the model's thread: a request that may be one of a batch, or a turn, which is called alone.

    ``finish`` is called with the medium, in the same thread. ``left`` holds where nobody waits any more.
    """

    place: Place
    expires: float
    request: Any = None
    finish: Callable[[Any], Any] = lambda medium: medium
    turn: Callable[[], Any] | None = None
    left: bool = False
    done: "Future[Any]" = field(default_factory=Future)

    def over(self) -> bool:
        """Whether its result is of no use: nobody waits, or it is too late."""
        return self.left or time.monotonic() > self.expires

    def begin(self) -> bool:
        """Whether somebody waits for it; after that it can no longer be cancelled, only told to stop."""
        if self.done.set_running_or_notify_cancel():
            return True
        self.left = True
        if self.turn is None:
            self.place.release()
        return False

    def settle(self, call: Callable[[], Any]) -> None:
        """Answer with what a call returns or raises; a request gives its place back."""
        try:
            result, error = call(), None
        except BaseException as raised:  # whatever a stranger's model raises, somebody waits for an answer
            result, error = None, raised
        if self.turn is None:
            self.place.release()
        if error is None:
            self.done.set_result(result)
        else:
            self.done.set_exception(error)


class Batcher:
    """The queue of one model; ``at_once`` requests are handed out together at most."""

    def __init__(self, limits: Limits, at_once: int = 1):
        self.limits, self.at_once = limits, at_once
        self.requests = self.characters = 0  # of places that are held
        self.seconds = 1.0  # that a request takes, a running mean
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._expected = 0  # requests that may come again: as many as the last batch had

    def admit(self, sizes: Sequence[int]) -> list[Place]:
        """Return a place for each request of these sizes, or raise ``Refused``: 413 for one too long, 429, 503."""
        limits, total = self.limits, sum(sizes)
        if max(sizes) > limits.request_characters:
            raise Refused(
                413,
                f"the request has {max(sizes)} characters, at most {limits.request_characters}: ask in parts",
                code="limit",
            )
        if len(sizes) > limits.requests or total > limits.characters:
            raise Refused(
                413,
                f"{len(sizes)} requests of {total} characters are more than this server ever holds "
                f"({limits.requests} and {limits.characters}): ask in parts",
                code="limit",
            )
        with self._changed:
            if self._closed:
                raise Refused(503, "the server is going down: ask again", code="state", headers={"Retry-After": "5"})
            if self.requests + len(sizes) > limits.requests or self.characters + total > limits.characters:
                wait = max(1, min(60, ceil(self.requests * self.seconds / 2)))
                raise Refused(
                    429,
                    f"{self.requests} requests of {self.characters} characters are being served, at most "
                    f"{limits.requests} and {limits.characters}: ask again in {wait} s",
                    code="limit",
                    headers={"Retry-After": str(wait)},
                )
            self.requests += len(sizes)
            self.characters += total
        return [Place(self, size) for size in sizes]

    def _release(self, place: Place) -> None:
        with self._changed:
            if place.held:
                place.held = False
                self.requests -= 1
                self.characters -= place.size
                self._changed.notify_all()

    def put(self, job: Job) -> None:
        """Queue a job behind all that waits."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()

    def leave(self, job: Job) -> None:
        """Nobody waits for a job: what has not begun never will, what runs is told at its next step."""
        job.left = True
        with self._changed:
            waiting = job in self._waiting
            if waiting:
                self._waiting.remove(job)
        if waiting:
            job.done.cancel()
            if job.turn is None:
                job.place.release()

    def take(self) -> list[Job]:
        """Wait for work and return it: the oldest job, and with a request those like it; empty when all is over."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or (self._closed and not self.requests))
                if not self._waiting:
                    return []
                if self._expected > 1 and self._waiting[0].turn is None:
                    wanted = min(self._expected, self.at_once)
                    self._changed.wait_for(lambda wanted=wanted: len(self._waiting) >= wanted, WINDOW)
                self._expected = 0
                if not self._waiting:  # whoever waited has left meanwhile
                    continue
                first = self._waiting.popleft()
                if not first.begin():
                    continue
                if first.turn is not None:
                    return [first]
                batch = [first]
                for job in list(self._waiting):
                    if len(batch) == self.at_once:
                        break
                    if job.turn is None and alike(first.place.size, job.place.size):
                        self._waiting.remove(job)
                        batch += [job] if job.begin() else []
                self._expected = len(batch)
                return batch

    def close(self) -> None:
        """Admit nothing more; what was admitted is served."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def alike(one: int, other: int) -> bool:
    """Whether two sizes differ by less than a factor of two; short ones are all alike."""
    return max(one, other, 16) < 2 * max(min(one, other), 16)
