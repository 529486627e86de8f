"""Worker: the loop of a process that drafts.

One thread reads, so that the other process never waits when it writes; the other makes one step of the network after
another and tells the whole draft after each. The process ends when the one that started it does, however that ends:
its pipe is closed, or it is no longer the parent.
"""

import os
import pickle
import queue
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from unisono_text.lossless.draft_process.drafting import Drafting

LOOK = 1.0
"""Seconds after which a worker without work looks whether its parent is still there."""


def work(number: int, parent: int) -> None:
    """Draft until the other end of the connection of this number is closed; runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is for the parent
    line, inbox = Connection(number), queue.SimpleQueue()
    threading.Thread(target=_read, args=(line, inbox), daemon=True).start()
    session = 0
    try:
        line.send(("up",))
        network = pickle.loads(_next(inbox, parent)[1])
        line.send(("ready",))
        drafting: Drafting | None = None
        version = left = 0  # steps that are left to make; −1: as many as fit
        while True:
            news = _next_now(inbox, parent) if left else _next(inbox, parent)
            while news is not None:
                match news:
                    case "fault", error:
                        raise error
                    case "ping", count:
                        line.send(("pong", count))
                    case "open", session, opened:
                        drafting, left = Drafting(network, opened), 0
                    case "commit", _, version, commit if drafting is not None:
                        drafting.commit(commit)
                        left = -1 if commit.steps is None else left + commit.steps
                news = _next_now(inbox, parent)
            if drafting is None or not left:
                continue
            going = drafting.step()
            left = 0 if not going else left - 1 if left > 0 else left
            if left <= 0:  # a clocked chain is told when all of its steps are made
                line.send(("chain", session, version, drafting.chain))
    except (BrokenPipeError, ConnectionResetError):
        return
    except BaseException as error:
        with suppress(OSError):
            line.send(("error", session, f"{type(error).__name__}: {error}"))


def _read(line: Connection, inbox: queue.SimpleQueue) -> None:
    try:
        while True:
            inbox.put(line.recv())
    except (EOFError, OSError):
        os._exit(0)  # whoever drafts is in the middle of a step that nobody waits for
    except Exception as error:  # a message of classes that are not importable here
        inbox.put(("fault", error))


def _next(inbox: queue.SimpleQueue, parent: int) -> Any:
    """Wait for a message."""
    while True:
        _look(parent)
        try:
            return inbox.get(timeout=LOOK)
        except queue.Empty:
            continue


def _next_now(inbox: queue.SimpleQueue, parent: int) -> Any:
    """Return a message that is there, or None."""
    _look(parent)
    return None if inbox.empty() else inbox.get()


def _look(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(0)
