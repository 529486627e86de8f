"""Replies: a stream as the body of an answer, server-sent events, and refusals."""

import asyncio
import json
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from unisono.serve.errors import ClientLeft, Refused, refusal_of
from unisono.serve.served import Stream


def refusal(error: Refused) -> JSONResponse:
    """Return a refusal as an answer."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


def event(name: str | None, data: Any) -> bytes:
    """Return a server-sent event; without a name, of data alone."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


class StreamReply(Response):
    """An answer whose body is a stream's items (bytes), made one after the other as they are sent.

    The first item is made before the answer begins, by ``await StreamReply.begin(…)``, so that whatever goes wrong with
    it is a status. Later errors are an event where ``events`` holds; else the body is cut, which a client sees.
    """

    def __init__(self, stream: Stream, first: bytes | None, events: bool, media_type: str, headers: dict[str, str]):
        super().__init__(
            media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers}
        )
        del self.headers["content-length"]
        self.stream, self.first, self.events = stream, first, events

    @classmethod
    async def begin(
        cls, stream: Stream, media_type: str, events: bool = False, headers: dict[str, str] | None = None
    ) -> "StreamReply":
        """Make the first item and return the answer, which watches the client from now on."""
        try:
            first = await stream.next()
        except BaseException:
            stream.leave()
            raise
        stream.client.keep()
        return cls(stream, first, events, media_type, headers or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits, sent = self.stream.served.limits, 0
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            item = self.first
            while item is not None:
                sent += len(item)
                if sent > limits.output:
                    raise Refused(413, f"the output has more than {limits.output} bytes: ask for less", code="limit")
                if item:
                    body = {"type": "http.response.body", "body": item, "more_body": True}
                    await asyncio.wait_for(send(body), limits.seconds)  # who reads nothing holds no place for ever
                item = await self.stream.next()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (ClientLeft, asyncio.TimeoutError):
            return
        except Exception as error:
            if not self.events:
                return  # without the last chunk: the client sees that it is cut
            told = event("error", refusal_of(error).body)
            await send({"type": "http.response.body", "body": told, "more_body": False})
        finally:
            self.stream.leave()
            await asyncio.shield(self.stream.client.close())
