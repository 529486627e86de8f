"""Worker: the one thread in which a model is called."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from unisono.errors import UnisonoError
from unisono.serve.batcher import Batcher, Job
from unisono.serve.errors import ClientLeft, Refused, Stopped
from unisono.serve.memory import Trimmer
from unisono.stopping import stopped_by

LOG = logging.getLogger("unisono.serve")


class Worker(threading.Thread):
    """Takes batches of a ``Batcher`` until that is closed, and answers each job.

    ``call(requests, on_step)`` is a ``Synthesizer``. A batch that fails is made again, each request alone, so that only
    the one at fault fails. ``ran(number, seconds)`` is told of each batch.
    """

    def __init__(self, name: str, batcher: Batcher, call: Callable[..., Any], ran: Callable[[int, float], None]):
        super().__init__(name=f"unisono {name}", daemon=True)
        self.batcher, self.call, self.ran = batcher, call, ran
        self.running: Sequence[Job] = ()
        self.trim = Trimmer()

    def run(self) -> None:
        while batch := self.batcher.take():
            self.running = batch
            begun = time.monotonic()
            if batch[0].turn is not None:
                self.take_turn(batch[0])
            else:
                self.together(batch)
            seconds = time.monotonic() - begun
            if batch[0].turn is None:
                share = seconds / len(batch)
                self.batcher.seconds += 0.2 * (share - self.batcher.seconds)
            self.ran(len(batch), seconds)
            self.running = ()
            self.trim()

    def take_turn(self, job: Job) -> None:
        """One piece of a stream; what is too late has a reason, so that its generator is not left half way."""
        assert job.turn is not None
        job.settle(job.turn)
        tell(job)

    def together(self, jobs: Sequence[Job]) -> None:
        """Make requests in one batch, or each alone where that fails."""
        going = [job for job in jobs if not job.over()]
        for job in jobs:
            if job not in going:
                job.settle(lambda: _raise(ClientLeft()))
        if not going:
            return

        def check() -> None:
            if all(job.over() for job in going):
                raise Stopped

        try:
            with stopped_by(check):
                made = self.call([job.request for job in going], on_step=lambda done, total: check())
        except BaseException as error:  # a model is a stranger's: its thread must outlive whatever it raises
            if len(going) > 1 and not isinstance(error, Stopped):
                for job in going:
                    self.together([job])
                return
            for job in going:
                job.settle(lambda error=error: _raise(error))
                tell(job)
            return
        for index, job in enumerate(going):
            job.settle(lambda job=job, index=index: job.finish(made[index]))
            tell(job)


def tell(job: Job) -> None:
    """Log where a model failed: kinds and places, and no message, which could hold what was asked."""
    error = job.done.exception() if job.done.done() and not job.done.cancelled() else None
    if error is None or isinstance(error, UnisonoError | Refused | ClientLeft | Stopped):
        return
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:]]
    LOG.error("a model raised %s at %s", type(error).__name__, " < ".join(reversed(places)))


def _raise(error: BaseException) -> Any:
    raise error
