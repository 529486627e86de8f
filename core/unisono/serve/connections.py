"""Connections: uvicorn's HTTP protocol with bounds on how long a head may take and how many connections there are.

uvicorn times only the pause between two requests; a connection that sends nothing, or a letter a minute, would stay for
ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from unisono.serve.limits import Limits


class Connections:
    """The connections of one server that have asked for nothing yet, in the order in which they came."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.idle: dict[Connection, None] = {}

    def make_room(self, everyone: Any) -> None:
        """Close those that are too many: of the idle ones the oldest."""
        while len(everyone) > self.limits.connections and self.idle:
            oldest = next(iter(self.idle))
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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        self.bounds.make_room(self.connections)
        if len(self.connections) > self.bounds.limits.connections:  # all others are being served
            self.connections.discard(self)
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asked()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._asked()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def end(self) -> None:
        """Close it: it has asked for nothing in time."""
        self._asked()
        self.transport.abort()

    def _wait(self) -> None:
        self._asked()
        self.bounds.idle[self] = None
        self._timer = self.loop.call_later(self.bounds.limits.head_seconds, self.end)

    def _asked(self) -> None:
        self.bounds.idle.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
