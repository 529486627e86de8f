"""Line: one draft process as the process that started it sees it: messages, death and silence."""

import os
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from unisono.errors import UnisonoError
from unisono.stopping import may_stop

from unisono_text.lossless.draft_process.messages import LostError

START = 600.0
"""Seconds in which a process must be ready: it imports PyTorch, which takes seconds, and minutes where all is busy."""
GLANCE = 0.05
"""Seconds between two looks at whether anybody still waits for the text."""


class Line:
    """One running worker, and the connection to it. ``end()`` kills it, and so does the end of this object.

    The worker reads all the time, so that sending waits for nothing but a process that is stopped.
    """

    def __init__(self, threads: int):
        if sys.platform == "win32":
            raise UnisonoError(
                "a draft process of its own needs Linux or macOS: take decoding='coupled', which drafts in this one",
                code="unsupported",
                path="decoding",
                value=sys.platform,
            )
        here, there = Pipe()
        # Not by multiprocessing, which would run the user's script again.
        code = f"import sys; sys.path[:] = {sys.path!r}; import torch; torch.set_num_threads({threads}); "
        code += f"from unisono_text.lossless.draft_process.worker import work; work({there.fileno()}, {os.getpid()})"
        command = [sys.executable, "-c", code]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=quiet, stdout=quiet, pass_fds=[there.fileno()])
        there.close()
        self._line, self._pings = here, 0
        self.sessions = 0
        self.end = weakref.finalize(self, _end, self.process, here, os.getpid())

    def load(self, network: bytes) -> None:
        """Give it its network, once it reads; raises LostError."""
        until = time.monotonic() + START
        self.await_("up", until, START)
        self.send("load", network)
        self.await_("ready", until, START)

    def answers(self, deadline: float) -> bool:
        """Whether it answers within `deadline` seconds."""
        self._pings += 1
        until = time.monotonic() + deadline
        try:
            self.send("ping", self._pings)
            while self.await_("pong", until, deadline)[1] != self._pings:
                pass
        except LostError:
            return False
        return True

    def send(self, *message: Any) -> None:
        """Write a message; raises LostError."""
        try:
            self._line.send(message)
        except OSError:
            raise LostError(self._ending()) from None

    def await_(self, name: str, until: float, deadline: float) -> tuple[Any, ...]:
        """Return the next message of a name; older ones are dropped. Raises LostError at the time `until`."""
        while True:
            message = self.receive(until - time.monotonic())
            if message is None:
                raise LostError(f"gave no answer for {deadline:g} seconds")
            if message[0] == name:
                return message

    def receive(self, seconds: float = 0.0) -> tuple[Any, ...] | None:
        """Return the next message, or None where there is none for that long; raises LostError."""
        until = time.monotonic() + seconds
        try:
            while not self._line.poll(max(0.0, min(GLANCE, until - time.monotonic()))):
                if time.monotonic() >= until:
                    return None
                may_stop()
            message = self._line.recv()
        except (EOFError, OSError):
            raise LostError(self._ending()) from None
        if message[0] == "error":
            raise LostError(f"failed with {message[2]}")
        return message

    def _ending(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code = self.process.returncode
        return f"ended with signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


def _end(process: "subprocess.Popen[bytes]", line: Connection, owner: int) -> None:
    if os.getpid() != owner:  # a fork of the process that started it
        return
    line.close()
    process.kill()
    process.wait()
