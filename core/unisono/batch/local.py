"""Local engine: blocks are made in this process, or in several of this machine with a model each.

Processes are fresh ones and are given one block at a time, the next one the moment that they are done. Where one dies,
its block is made anew by another; a row in whose making processes die twice is left out, and told. Processes end with
this one, however it ends, and put nothing in its place themselves.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from unisono.batch.making import Block, Done, Maker, Plan
from unisono.errors import UnisonoError

OnMade = Callable[[int], None]
"""Called with the number of rows that were made since the last call."""
MOST_DEATHS = 20
"""Processes that may die one after the other without a block made between them."""


def make_here(blocks: Iterator[Block], plan: Plan, synthesizer: Any, on_made: OnMade) -> Generator[Done]:
    """Make blocks one after the other with a model that is loaded already."""
    maker = Maker(plan, synthesizer)
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        for block in blocks:
            seen = 0

            def told(places: list[int], made: int) -> None:
                nonlocal seen
                on_made(made - seen)
                seen = made

            done = maker(block, told)
            on_made(len(block.rows) - seen)
            yield done
    finally:
        torch.set_num_threads(threads)


def make_in_processes(blocks: Iterator[Block], plan: Plan, workers: int, on_made: OnMade) -> Generator[Done]:
    """Make blocks in ``workers`` processes; what comes out is in the order in which it is done."""
    crew: list[_Worker] = []
    queue = _Queue(blocks)
    quiet = 0
    try:
        while True:
            for worker in crew:
                if worker.block is None and (block := queue.take()):
                    worker.give(block)
            while len(crew) < workers and (block := queue.take()):
                crew.append(_Worker(plan, block))
            busy: dict[Any, _Worker] = {worker.answers: worker for worker in crew if worker.block is not None}
            if not busy:
                return
            queue.prepare()
            for answers in wait(list(busy)):
                worker = busy[answers]
                kind, value = worker.answer()
                if kind == "died":
                    quiet += 1
                    _check_deaths(worker, quiet, workers)
                    queue.again(worker)
                    worker.end()
                    crew.remove(worker)
                elif kind == "error":
                    raise value
                elif kind == "batch":
                    worker.places, made = value
                    on_made(made - worker.made)
                    worker.made = made
                elif kind == "done":
                    rest, quiet = len(worker.block.rows) - worker.made, 0
                    worker.block = None
                    if block := queue.take():
                        worker.give(block)  # before its shard is put in its place: it need not wait for the disk
                    on_made(rest)
                    yield value
    finally:
        for worker in crew:
            worker.end()


class _Queue:
    """The blocks that are still to be made; one is kept at hand, so that nobody waits for the input to be read."""

    def __init__(self, blocks: Iterator[Block]):
        self._blocks = blocks
        self._first: deque[Block] = deque()
        self._deaths: Counter[tuple[int, tuple[int, ...]]] = Counter()

    def prepare(self) -> None:
        """Read on to the next block."""
        if not self._first:
            self._first.extend([block] if (block := next(self._blocks, None)) else [])

    def take(self) -> Block | None:
        """Return the next block; None where all are given out."""
        self.prepare()
        return self._first.popleft() if self._first else None

    def again(self, worker: "_Worker") -> None:
        """Have the block of a process that died made again; of a row that it died in twice, without it."""
        block = worker.block
        places = tuple(worker.places)
        self._deaths[block.number, places] += 1
        if places and self._deaths[block.number, places] > 1:
            if len(places) > 1:
                block = replace(block, alone=block.alone.union(places))
            else:
                why = f"the process that made it ended twice ({worker.ended()})"
                block = replace(block, skipped={**block.skipped, worker.places[0]: why})
        self._first.appendleft(block)


def _check_deaths(worker: "_Worker", quiet: int, workers: int) -> None:
    if not worker.loaded:
        why = f"a process ended while it loaded the model ({worker.ended()}): "
        why += "run with fewer --workers, or with more memory"
    elif quiet > max(MOST_DEATHS, 2 * workers):
        why = f"{quiet} processes ended one after the other ({worker.ended()}): run with fewer --workers, or look "
        why += "for what ends them"
    else:
        return
    raise UnisonoError(why, code="failed", path="--workers", value=worker.ended())


class _Worker:
    """A process that makes blocks: which one it makes, and how far it is. It is given the first once it has a model."""

    def __init__(self, plan: Plan, block: Block):
        self.block: Any = block
        self.places: list[int] = []
        self.made = 0
        self.loaded = False
        context = _context()
        self.answers, far = context.Pipe()
        self.process = context.Process(target=_work, args=(far, plan), daemon=True)
        self.process.start()
        far.close()

    def give(self, block: Block) -> None:
        self.block, self.places, self.made = block, [], 0
        with suppress(OSError):  # it died: its next answer says so
            self.answers.send(block)

    def answer(self) -> tuple[str, Any]:
        """Return what it says: ``ready``, ``batch``, ``done``, ``error``, or ``died``."""
        try:
            kind, value = self.answers.recv()
        except (EOFError, OSError):
            self.process.join(10)
            return "died", None
        if kind == "ready":
            self.loaded = True
            self.give(self.block)
        return kind, value

    def ended(self) -> str:
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def end(self) -> None:
        with suppress(OSError):
            self.answers.close()
        self.process.kill()
        self.process.join()


def _context() -> Any:
    """How processes begin: fresh, where the system can by a fork of one that has only imported what models need."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unisono.model", __name__])
    return context


def _work(far: Connection, plan: Plan) -> None:
    """Make blocks until there are no more; runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        torch.set_num_threads(plan.threads)
        maker = Maker(plan)
        far.send(("ready", None))
        while True:
            block = far.recv()
            far.send(("done", maker(block, lambda places, made: far.send(("batch", (places, made))))))
    except (EOFError, BrokenPipeError):
        return
    except UnisonoError as error:
        far.send(("error", error))
    except BaseException as error:
        message = f"{error!r}\n{traceback.format_exc()}"
        far.send(("error", RuntimeError(f"in a process of the batch: {message}")))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
