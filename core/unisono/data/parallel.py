"""Parallel work: many items in several processes, with a progress bar; results come back in order."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

FEW = 48
CHUNK = 8


def map_processes(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    num_processes: int | None = None,
    progress: bool = True,
    description: str = "preparing",
    *,
    few: int = FEW,
    chunk: int = CHUNK,
) -> list[Any]:
    """Return ``[function(item) for item in items]``, worked out in ``num_processes`` (default:
    cores).

    ``function`` and the items must be picklable. Few items are not worth starting processes
    (seconds, for the imports) and are done here. Each process uses one torch thread; none is a bare
    fork of this one, whose threads may hold locks. An exception of the function is raised here.

    Args:
        few: so many items are done here.
        chunk: items that a process is given at once.
    """
    results: list[Any] = [None] * len(items)
    done: set[int] = set()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress or not items,
    )
    with bar:
        task = bar.add_task(description, total=len(items))

        def finish(index: int, result: Any) -> None:
            results[index] = result
            done.add(index)
            bar.advance(task)

        num_processes = num_processes or num_cores()
        if num_processes > 1 and len(items) > few:
            try:
                _run_pool(function, items, num_processes, finish, chunk)
            except BrokenProcessPool:
                logging.getLogger("unisono").warning(
                    "worker processes died (a script needs `if __name__ == '__main__':` around its "
                    "calls); going on in one process"
                )
        for index in range(len(items)):
            if index not in done:
                finish(index, function(items[index]))
    return results


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_pool(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    num_processes: int,
    finish: Callable[[int, Any], None],
    chunk: int,
) -> None:
    context = multiprocessing.get_context("spawn")
    if "forkserver" in multiprocessing.get_all_start_methods():
        # one clean process imports what is needed, and workers are forked from that one
        context = multiprocessing.get_context("forkserver")
        plain = function.func if isinstance(function, partial) else function
        context.set_forkserver_preload(["torch", __name__, plain.__module__])
    chunks = [range(i, min(i + chunk, len(items))) for i in range(0, len(items), chunk)]
    workers = min(num_processes, len(chunks))
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        futures = {pool.submit(_run_chunk, function, [items[i] for i in part]): part for part in chunks}
        try:
            for future in as_completed(futures):
                for index, result in zip(futures[future], future.result(), strict=True):
                    finish(index, result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_chunk(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [function(item) for item in items]
