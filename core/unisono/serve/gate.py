"""Gate: what every request passes: the key, the host that is meant, a line of sizes in the log, no traceback out."""

import hmac
import logging
import time
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unisono.serve.errors import ClientLeft, Refused, refusal_of
from unisono.serve.metrics import Metrics
from unisono.serve.replies import refusal

LOG = logging.getLogger("unisono.serve")
OPEN = ("/health", "/ready", "/")
"""Paths that need no key: a supervisor asks them, and the page, which holds nothing, asks for the key."""
OPEN_BELOW = ("/page/",)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


class Gate:
    """ASGI middleware; pure, because ``BaseHTTPMiddleware`` hides a client's leaving from what it wraps.

    ``key`` None lets everybody in, and then only a ``Host`` of ``hosts``, so that no page of another site can reach a
    server of this machine under a name of its own.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, key: str | None = None, hosts: Iterable[str] = LOOPBACK):
        self.app, self.metrics, self.key = app, metrics, key
        self.hosts = tuple(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, sizes = time.monotonic(), 0, [0, 0]

        async def receiving() -> Message:
            message = await receive()
            sizes[0] += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            sizes[1] += len(message.get("body", b""))
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receiving, sending)
        except ClientLeft:
            pass
        except Exception as error:
            if not isinstance(error, Refused):
                LOG.error("%s in a route", type(error).__name__)
            if not status:
                await refusal(refusal_of(error))(scope, receive, sending)
        finally:
            route: Any = scope.get("route")
            told = getattr(route, "path", "unknown")
            seconds = time.monotonic() - begun
            self.metrics.answered(told, status or 499, seconds, *sizes)
            LOG.info("%s %s %d %d → %d bytes, %.3f s", scope["method"], told, status or 499, *sizes, seconds)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self.key is None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if "*" not in self.hosts and name not in self.hosts:
                raise Refused(
                    403, f"host {name[:80]!r} is not served here: ask at {self.hosts[0]}", code="unsafe", path="host"
                )
            return
        path = scope["path"]
        if path in OPEN or path.startswith(OPEN_BELOW) or scope["method"] == "OPTIONS":
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.key.encode()):
            told = "wrong key" if given else "no key"
            message = f"{told}: send the header  Authorization: Bearer KEY"
            raise Refused(401, message, code="unsafe", path="authorization", headers={"WWW-Authenticate": "Bearer"})
