"""Draft process: a network in processes of its own, started when it is asked for, lent, and kept for the next batch.

Batches that are made at the same time have a process each. It ends with what owns it, and with this process.
"""

import pickle
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from torch import nn
from unisono.errors import UnisonoError
from unisono.verify import Network

from unisono_text.lossless.draft_process.line import Line


class DraftProcess:
    """A network in processes of its own.

    Args:
        network: returns it; called when a process is started, to which it goes as a copy. What it consists of must be
            importable there: a class of the script that is run is not.
        threads: of PyTorch, in each process.
    """

    def __init__(self, network: Callable[[], Network], threads: int = 1):
        self._network, self._threads = network, threads
        self._idle: list[Line] = []  # without a lock, which a finalizer could find taken by its own thread

    def lend(self, deadline: float) -> Line:
        """Return a process that answers; ``give_back`` it.

        Raises:
            LostError: for a process that does not start; one in use before that gives no answer within `deadline`
                seconds is ended, and another started.
            UnisonoError: for a network that cannot be sent, and on Windows.
        """
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                line = self._idle.pop()
                if line.answers(deadline):
                    return line
                line.end()  # it died while nobody used it
        network = self._pickled()
        line = Line(self._threads)
        try:
            line.load(network)
        except BaseException:
            line.end()
            raise
        return line

    def give_back(self, line: Line) -> None:
        """Take a process back for the next batch."""
        self._idle.append(line)

    def _pickled(self) -> bytes:
        network = self._network()
        try:
            return pickle.dumps(network)
        except Exception as error:
            raise UnisonoError(
                f"the draft, a {type(network).__name__}, cannot be sent to a process of its own "
                f"({type(error).__name__}: {error}): take decoding='coupled', which drafts in this one",
                code="unsupported",
                path="draft",
                value=type(network).__name__,
            ) from error


def process_of(model: nn.Module, read: Callable[[Any], Any]) -> DraftProcess:
    """Return the draft process of a model, which lives as long as the model; `read` makes a network of it."""
    with _LOCK:
        process = _PROCESSES.get(model)
        if process is None:
            process = _PROCESSES[model] = DraftProcess(partial(_alive, weakref.ref(model), read))
        return process


_PROCESSES: "weakref.WeakKeyDictionary[nn.Module, DraftProcess]" = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def _alive(model: Callable[[], Any], read: Callable[[Any], Any]) -> Any:
    found = model()
    assert found is not None  # whoever asks holds it
    return read(found)
