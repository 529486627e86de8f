"""Served: one loaded model with its queue and thread; a server is several of them by name."""

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from unisono.errors import RequestError, did_you_mean
from unisono.model import Model
from unisono.serve.batcher import Batcher, Job, Place
from unisono.serve.client import Client
from unisono.serve.errors import ClientLeft, Refused, Stopped
from unisono.serve.limits import Limits, characters_in
from unisono.serve.metrics import Metrics
from unisono.serve.uploads import file_fields
from unisono.serve.worker import Worker
from unisono.stopping import stopped_by
from unisono.synthesis import Synthesizer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
T = TypeVar("T")


class Waiting(Protocol):
    """Who waits for an output: a `Client`, or another one that may leave."""

    async def wait(self, awaited: Awaitable[T], seconds: float) -> T:
        """Return what is awaited; raises ``ClientLeft``, or ``Refused`` (504) where it takes too long."""
        ...


class Served:
    """A model as routes use it: ``make`` for whole outputs, ``stream`` for pieces.

    Both are called with a ``Client``, and end where that leaves.
    """

    def __init__(self, name: str, synthesizer: Synthesizer, limits: Limits, metrics: Metrics, at_once: int | None):
        self.name, self.synthesizer, self.limits = name, synthesizer, limits
        self.model: Any = synthesizer.model
        self.files = file_fields(self.model.Request)
        self.batcher = Batcher(limits, at_once or self.model.requests_at_once)
        self.ready = threading.Event()
        self.worker = Worker(name, self.batcher, synthesizer, lambda number, s: metrics.ran(name, number, s))
        metrics.watch(self)

    @property
    def streams(self) -> bool:
        """Whether the model makes its output piece by piece."""
        return type(self.model).stream is not Model.stream

    @property
    def stuck(self) -> bool:
        """Whether the thread is busy with what nobody can get any more: its time is over."""
        return any(time.monotonic() > job.expires for job in self.worker.running)

    def request(self, fields: Mapping[str, Any], client: Client) -> Any:
        """Return the model's request of fields; raises ``RequestError``. Files are sent in it, never named."""
        return self.synthesizer.request(client.uploads.placed(dict(fields), self.files))

    def start(self) -> None:
        """Start the thread; its first work is one request of the model's own, after which the model is ready."""
        self.worker.start()

        def warm_up() -> None:
            try:
                first = self.model.preview_requests()[:1]
                if first:
                    with contextlib.suppress(RequestError):
                        self.synthesizer(first)
            finally:
                self.ready.set()

        place = Place(self.batcher, 0, held=False)
        self.batcher.put(Job(place, time.monotonic() + self.limits.seconds, turn=warm_up))

    async def make(
        self, client: Waiting, requests: Sequence[Any], finish: Callable[[Any], Any] = lambda medium: medium
    ) -> list[Any]:
        """Make requests, in batches with those of others, and return what ``finish`` makes of each medium.

        ``finish`` runs in the model's thread: encoding belongs there. Raises what the model raises, ``Refused`` where
        there is no room or it takes too long, and ``ClientLeft``.
        """
        expires = time.monotonic() + self.limits.seconds
        places = self.batcher.admit([characters_in(request.model_dump()) for request in requests])
        jobs = [Job(p, expires, r, finish) for p, r in zip(places, requests, strict=True)]
        for job in jobs:
            self.batcher.put(job)
        try:
            awaited = asyncio.gather(*(asyncio.wrap_future(job.done) for job in jobs))
            return await client.wait(awaited, self.limits.seconds)
        except Stopped:
            raise self._late() from None
        finally:
            for job in jobs:
                self.batcher.leave(job)

    def stream(
        self,
        client: Client,
        request: Any,
        make: Callable[[Iterator[Any]], Iterator[Any]] = lambda pieces: pieces,
        snapshots: bool = False,
    ) -> "Stream":
        """Admit a stream: each item that ``make`` makes of the model's pieces is a turn in the queue.

        Raises ``Refused`` where there is no room. Whoever calls this calls ``leave`` at the end.
        """
        (place,) = self.batcher.admit([characters_in(request.model_dump())])
        return Stream(self, client, place, request, make, snapshots)

    def _late(self) -> Refused:
        seconds = self.limits.seconds
        return Refused(504, f"this took longer than {seconds:g} s and was given up: ask for less", code="limit")


class Stream:
    """Pieces of one output, made one turn at a time, none ahead of its reader."""

    def __init__(
        self,
        served: Served,
        client: Client,
        place: Place,
        request: Any,
        make: Callable[[Iterator[Any]], Iterator[Any]],
        snapshots: bool,
    ):
        self.served, self.client, self.place, self.request = served, client, place, request
        self._snapshots = snapshots
        self._items = make(self._pieces())
        self._job: Job | None = None

    async def next(self) -> Any:
        """Return the next item, or None at the end."""
        seconds = self.served.limits.seconds
        job = self._job = Job(self.place, time.monotonic() + seconds, turn=self._turn)
        self.served.batcher.put(job)
        try:
            return await self.client.wait(asyncio.wrap_future(job.done), seconds)
        except Stopped:
            raise self.served._late() from None

    def leave(self) -> None:
        """End it: a piece that has not begun never will, and the place is free."""
        if self._job is not None:
            self.served.batcher.leave(self._job)
        self.place.release()

    def _turn(self) -> Any:
        assert self._job is not None
        if self._job.over():
            raise ClientLeft
        with stopped_by(self._check):
            return next(self._items, None)

    def _pieces(self) -> Iterator[Any]:
        synthesizer = self.served.synthesizer
        if self._snapshots and type(self.served.model).snapshots is not Model.snapshots:
            yield from synthesizer.snapshots(self.request)
        elif not self._snapshots and self.served.streams:
            yield from synthesizer.stream(self.request)
        else:
            yield synthesizer(self.request, on_step=lambda done, total: self._check())

    def _check(self) -> None:
        """End the turn in progress where nobody waits for it; called between its steps."""
        assert self._job is not None
        if self._job.over():
            raise Stopped


class Server:
    """Loaded models by name, and what they share."""

    def __init__(self, models: Mapping[str, Synthesizer], limits: Limits | None = None, at_once: int | None = None):
        if not models:
            raise RequestError("there is no model to serve: name one", code="empty", path="models")
        for name in models:
            if not NAME.fullmatch(name):
                raise RequestError(
                    f"{name!r:.120} is no name to serve a model under: use letters, digits, dots and dashes",
                    code="format",
                    path="models",
                    value=name,
                )
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.begun = int(time.time())
        self.models = {name: Served(name, s, self.limits, self.metrics, at_once) for name, s in models.items()}

    def get(self, name: Any) -> Served:
        """Return a model; raises ``Refused`` (404) with near names."""
        if not isinstance(name, str) or name not in self.models:
            message = f"no model {name!r:.120} is served here{did_you_mean(str(name)[:80], self.models)}"
            raise Refused(404, message, code="unknown", path="model")
        return self.models[name]

    def one_of(self, able: Collection[str], name: Any, lacks: str) -> Served:
        """Return one of the models that a route serves; raises ``Refused``: 404 for no model, 400 for another one."""
        served = self.get(name)
        if name not in able:
            raise Refused(400, f"{name} {lacks}; ask {', '.join(able)}", code="unsupported", path="model")
        return served

    def making(self, kind: type) -> dict[str, Served]:
        """Return the models whose output is of a kind of ``Media``."""
        return {name: served for name, served in self.models.items() if issubclass(served.model.Media, kind)}

    def start(self) -> None:
        """Start every model's thread."""
        for served in self.models.values():
            served.start()

    def close(self) -> None:
        """Admit nothing more, and wait for what was admitted."""
        for served in self.models.values():
            served.batcher.close()
        for served in self.models.values():
            if served.worker.is_alive():
                served.worker.join(timeout=5)

    def why_not_ready(self) -> str | None:
        """Return what keeps the server from serving; None where nothing does."""
        for name, served in self.models.items():
            if not served.worker.is_alive():
                return f"the thread of {name} is not running"
            if not served.ready.is_set():
                return f"{name} is warming up"
            if served.stuck:
                return f"{name} is busy with a request whose time is over"
        return None
