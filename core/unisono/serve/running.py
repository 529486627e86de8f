"""Running: the application on a socket, until a signal; what is being served then is answered first."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from unisono.errors import UnisonoError
from unisono.serve.connections import protocol, room_for
from unisono.serve.limits import Limits

LOG = logging.getLogger("unisono.serve")
BACKLOG = 4096
"""Connections that the system holds until they are accepted; whoever comes later is made to wait for seconds."""
ACCEPTED = 64
"""Connections that are accepted before those that are there are read from again."""
KEEP_ALIVE = 5


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, and not listening yet; port 0 takes a free one.

    Raises ``UnisonoError`` where the address is taken, unknown or not allowed. No two servers share a port.
    """
    if not 0 <= port <= 65_535:
        raise UnisonoError(f"port {port} must be in [0, 65535]", code="range", path="port", value=port)
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, number)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not SO_REUSEPORT, which lets two share it
            made.bind(address)
            made.listen(BACKLOG)
        except BaseException:
            made.close()
            raise
        made.set_inheritable(True)
        return made
    except (OSError, OverflowError) as error:
        taken = getattr(error, "errno", None) == 98 or "in use" in str(error)
        fix = "another server has it: choose another --port" if taken else "choose another --host or --port"
        raise UnisonoError(
            f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}): {fix}",
            code="exists" if taken else "value",
            path="port",
            value=port,
        ) from None


class _Server(uvicorn.Server):
    """uvicorn's server with signals that end it with exit code 0; a second one ends it at once."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]):
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)  # asyncio has set it to what it accepts at a time
        if self.started:
            self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def server_of(app: FastAPI, limits: Limits, started: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return uvicorn's server of an application; ``serve(sockets=[…])`` runs it."""
    config: dict[str, Any] = {
        "http": protocol(limits),
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "log_level": "critical",  # its messages hold nothing that ours do not, and its tracebacks what was asked
        "server_header": False,
        "proxy_headers": False,
        "backlog": ACCEPTED,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": int(limits.seconds) + 5,
    }
    return _Server(uvicorn.Config(app, **config), started)


def run(app: FastAPI, sockets: list[socket.socket], started: Callable[[], None] = lambda: None) -> None:
    """Serve on listening sockets until SIGTERM or SIGINT: then no more is taken, and what was taken is answered."""
    limits = app.state.server.limits
    room_for(limits.connections)
    asyncio.run(server_of(app, limits, started).serve(sockets=sockets))
