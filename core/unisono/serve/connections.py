"""Connections: uvicorn's HTTP protocol with bounds on how long a head may take and how many connections there are.

uvicorn times only the pause between two requests; a connection that sends nothing, or a letter a minute, would stay for
ever. Its own bound counts only what it has parsed. And where a process has no descriptor left, nobody gets in at all.
"""

from __future__ import annotations

import asyncio
import json
from array import array
from contextlib import suppress
from itertools import islice
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from unisono.errors import UnisonoError
from unisono.serve.errors import Refused
from unisono.serve.limits import Limits

MOST_REFUSED, REFUSED_SECONDS = 64, 1.0
"""Of connections that were answered 503, how many are kept until they have read that, and how long at most."""
MOST_LOOKED = 16
"""Of connections that could be closed for a new one, how many are looked at."""
SPARE = 256
"""Descriptors beside those of connections: listening, those being refused, and what models and uploads open."""


def room_for(connections: int) -> None:
    """Let this process have so many connections open; raises ``UnisonoError`` where the system does not allow it."""
    try:
        import resource
    except ModuleNotFoundError:  # a system without such limits
        return
    needed = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UnisonoError(
            f"{connections} connections need {needed} open files, and this process may have {hard}: allow at most "
            f"{max(hard - SPARE, 0)} connections, or raise the limit (ulimit -n, or LimitNOFILE of systemd)",
            code="limit",
            path="connections",
            value=connections,
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Connections:
    """The connections of one server that ask for nothing, in the order in which they began to.

    ``silent`` are those that never asked for anything, ``resting`` those that were answered, ``refused`` those that
    there is no room for.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.silent: dict[Connection, None] = {}
        self.resting: dict[Connection, None] = {}
        self.refused: dict[Connection, None] = {}

    def make_room(self, everyone: Any) -> None:
        """Close those that are too many, the newest not counted: the oldest of the silent ones, then of the resting.

        What one of them has sent may not have been read yet: such a one is asking, and stays.
        """
        for waiting in (self.silent, self.resting):
            for oldest in list(islice(waiting, MOST_LOOKED)):
                if len(everyone) <= self.limits.connections:
                    return
                if oldest.unread():
                    waiting[oldest] = waiting.pop(oldest)
                else:
                    oldest.end()
                    everyone.discard(oldest)


def protocol(limits: Limits) -> type[H11Protocol]:
    """Return the protocol's class for one server."""
    bounds = Connections(limits)
    return type("BoundedConnection", (Connection,), {"bounds": bounds})


class Connection(H11Protocol):
    """One connection; idle until a request's head is whole, and again when that was answered."""

    bounds: Connections
    _timer: asyncio.TimerHandle | None = None
    _served = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.bounds.make_room(self.connections)
        if len(self.connections) > self.bounds.limits.connections:  # all others are being served
            self.connections.discard(self)
            self.refuse()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asked()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self in self.bounds.refused:
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._asked()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._served = True
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def end(self) -> None:
        """Close it: it has asked for nothing in time."""
        self._asked()
        self.transport.abort()

    def unread(self) -> bool:
        """Whether it has sent something that was not read yet; False where the system does not say."""
        try:
            from fcntl import ioctl
            from termios import FIONREAD
        except ModuleNotFoundError:
            return False
        size = array("i", [0])
        with suppress(OSError):
            ioctl(self.transport.get_extra_info("socket").fileno(), FIONREAD, size)
        return size[0] > 0

    def refuse(self) -> None:
        """Answer 503, whatever it asks, and close it when it has read that."""
        self._asked()
        self.bounds.refused[self] = None
        if len(self.bounds.refused) > MOST_REFUSED:
            next(iter(self.bounds.refused)).end()
        self.transport.write(_full(self.bounds.limits.connections))
        self.transport.write_eof()
        self._timer = self.loop.call_later(REFUSED_SECONDS, self.end)

    def _wait(self) -> None:
        self._asked()
        (self.bounds.resting if self._served else self.bounds.silent)[self] = None
        self._timer = self.loop.call_later(self.bounds.limits.head_seconds, self.end)

    def _asked(self) -> None:
        for waiting in (self.bounds.silent, self.bounds.resting, self.bounds.refused):
            waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _full(connections: int) -> bytes:
    """The answer to whom there is no room for, as bytes: it is written before anything was asked."""
    error = Refused(503, f"{connections} connections are being served, and no more are: ask again", code="limit")
    body = json.dumps(error.body).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "retry-after: 1",
        "connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
