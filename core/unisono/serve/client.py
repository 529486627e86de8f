"""Client: the other end of one HTTP request: its body within bounds, and whether it is still there.

``request.is_disconnected()`` polls, and in some stacks is never true; here one task awaits the disconnect, and whatever
is awaited for the client is raced against it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from unisono.errors import DataError
from unisono.files import Fault, decoded, lone_surrogate, parse_json
from unisono.serve.errors import ClientLeft, Refused
from unisono.serve.limits import Limits
from unisono.serve.uploads import Uploads

T = TypeVar("T")


class Client:
    """Use as ``async with Client(request, limits) as client``: it ends the watch, unless an answer takes it over."""

    def __init__(self, request: Request, limits: Limits):
        self.request, self.limits = request, limits
        self.uploads = Uploads()
        self._left: asyncio.Task[None] | None = None
        self._kept = False

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *error: object) -> None:
        if not self._kept:
            await self.close()

    def keep(self) -> None:
        """Go on watching behind the ``async with``: whoever calls this calls ``close`` later."""
        self._kept = True

    async def close(self) -> None:
        """End the watch; files that came with the request go."""
        self.uploads.close()
        if self._left is not None:
            self._left.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._left

    async def fields(self) -> dict[str, Any]:
        """Read the body as a JSON object, strictly; raises ``Refused``."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a page of another site can send any other kind without being asked
            raise Refused(
                415, f"content-type {kind[:80]!r} is not read here: send application/json", code="format", path=None
            )
        text = decoded(await self._body())
        if isinstance(text, Fault):
            raise Refused(400, f"the body is not UTF-8: {text.error(DataError)}", code="format")
        try:
            fields = parse_json(text)
        except DataError as error:
            raise Refused(400, f"the body is not JSON: {error}", code="format") from None
        if not isinstance(fields, dict):
            raise Refused(400, "the body must be a JSON object with the request's fields", code="type")
        half = next(filter(None, map(lone_surrogate, _texts(fields))), None)
        if half:
            raise Refused(400, f"the body holds half of a surrogate pair ({half}): remove it", code="damaged")
        return fields

    async def _body(self) -> bytes:
        most = self.limits.body
        length = self.request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise Refused(413, f"the body has {length} bytes, at most {most}: send less", code="limit")
        parts: list[bytes] = []
        size = 0

        async def read() -> None:
            nonlocal size
            async for part in self.request.stream():
                size += len(part)
                if size > most:
                    raise Refused(413, f"the body has more than {most} bytes: send less", code="limit")
                parts.append(part)

        try:
            await asyncio.wait_for(read(), self.limits.body_seconds)
        except asyncio.TimeoutError:
            message = f"the body did not come within {self.limits.body_seconds:g} s: send it at once"
            raise Refused(408, message, code="limit", headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise ClientLeft from None
        return b"".join(parts)

    async def wait(self, awaited: Awaitable[T], seconds: float) -> T:
        """Return what is awaited; raises ``ClientLeft``, or ``Refused`` (504) where it takes too long."""
        if self._left is None:  # by now the body has been read, and what comes next is the disconnect
            self._left = asyncio.ensure_future(self._until_left())
        task = asyncio.ensure_future(awaited)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody may be left to look
        try:
            await asyncio.wait({task, self._left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self._left.done():
                raise ClientLeft
            raise Refused(504, f"this took longer than {seconds:g} s and was given up: ask for less", code="limit")
        finally:
            if not task.done():
                task.cancel()

    async def _until_left(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass


def _texts(value: Any):
    """Every text of a JSON value, keys too."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
