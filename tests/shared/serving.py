"""Serving: a real server on a free port, in a thread; and a model that does as it is told."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field
from unisono import Model, Request, Synthesizer, Text
from unisono.errors import RequestError
from unisono.serve import Limits, Server, app
from unisono.serve.running import bound, server_of

SOON = 20.0
"""Seconds in which whatever is awaited must have happened; no measure of speed."""


class Echo(Model):
    """Says what it is told in capitals, in steps that wait for ``gate``; word by word where it streams.

    ``calls`` has the texts of each batch, ``steps`` how often ``on_step`` was called, ``pieces`` counts those streamed.
    """

    class Request(Request):
        """What to say, and how to fail."""

        text: str = Field(default="", description="what to say")
        fail: Literal["no", "request", "crash", "exit"] = Field(default="no", description="how to fail")
        file: str | None = Field(default=None, description="a file", json_schema_extra={"format": "file-path"})
        number: float = Field(default=0.0, ge=0, le=4, description="a number")

    Media: ClassVar[type[Text]] = Text
    requests_at_once: ClassVar[int] = 4

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[list[str]] = []
        self.steps = self.pieces = 0

    def synthesize(self, requests: Sequence[Any], generator: Any = None, on_step: Any = None) -> list[Text]:
        self.calls.append([request.text for request in requests])
        while True:
            go = self.gate.wait(0.01)
            self.steps += 1
            if on_step is not None:
                on_step(int(go), 1)
            if go:
                break
        return [self.say(request) for request in requests]

    def say(self, request: Any) -> Text:
        if request.fail == "request":
            raise RequestError("this cannot be said: say another word", code="value", path="text")
        if request.fail == "crash":
            raise RuntimeError(f"secret {request.text}")
        if request.fail == "exit":
            raise SystemExit(3)
        content = "" if request.file is None else Path(request.file).read_text(encoding="utf-8")
        return Text(request.text.upper() + content)


class Words(Echo):
    """As ``Echo``, and streams."""

    def stream(self, request: Any, generator: Any = None) -> Iterator[Text]:
        for word in request.text.split():
            self.gate.wait(SOON)
            self.pieces += 1
            if word == "crash":
                raise RuntimeError("secret")
            yield Text(word.upper() + " ")


class Running:
    """A running server: ``url``, ``http`` (a client), ``server`` and its ``model``, and its ``loop``."""

    def __init__(self, url: str, server: Server, stop: Callable[[], None], loop: asyncio.AbstractEventLoop):
        self.url, self.server, self.stop, self.loop = url, server, stop, loop
        self.http = httpx.Client(base_url=url, timeout=SOON)
        self.port = int(url.rpartition(":")[2])

    @property
    def model(self) -> Any:
        return next(iter(self.server.models.values())).model

    @property
    def batcher(self) -> Any:
        return next(iter(self.server.models.values())).batcher

    def post(self, name: str = "echo", query: str = "", **fields: Any) -> httpx.Response:
        """Send a request to the native route."""
        return self.http.post(f"/v1/models/{name}{query}", json=fields)


@contextlib.contextmanager
def running(models: Mapping[str, Any], limits: Limits | None = None, **options: Any) -> Iterator[Running]:
    """Serve models (``Model`` or ``Synthesizer``) as long as the ``with`` lasts."""
    loaded = {name: m if isinstance(m, Synthesizer) else Synthesizer(m) for name, m in models.items()}
    limits = limits or Limits(seconds=SOON)
    made = app(loaded, limits=limits, **options)
    socket = bound("127.0.0.1", 0)
    started = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def begun() -> None:
        loops.append(asyncio.get_running_loop())
        started.set()

    server = server_of(made, limits, begun)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[socket])))
    thread.start()

    def stop() -> None:
        server.should_exit = True

    try:
        assert started.wait(SOON)
        going = Running(f"http://127.0.0.1:{socket.getsockname()[1]}", made.state.server, stop, loops[0])
        until(lambda: made.state.server.why_not_ready() is None)
        with going.http:
            yield going
    finally:
        for model in loaded.values():
            getattr(model.model, "gate", threading.Event()).set()
        stop()
        thread.join(SOON)
        assert not thread.is_alive()


def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer in the one form that all have."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


def events_of(text: str) -> list[tuple[str | None, str]]:
    """The server-sent events of an answer: name and data."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event"), lines["data"]))
    return found
