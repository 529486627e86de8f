"""Work on many items in parallel processes, with a progress bar; results come back in order."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
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
) -> list[Any]:
    """Return ``[function(item) for item in items]``, worked out in spawned processes.

    ``function`` and the items must be picklable. Few items are not worth a process's start-up
    (seconds, for torch's import) and are done here. Each process uses one torch thread. An
    exception of the function is raised here.
    """
    if num_processes is None:
        num_processes = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    results: list[Any] = [None] * len(items)
    todo = list(range(len(items)))
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
        if num_processes > 1 and len(items) > FEW:
            chunks = [todo[i : i + CHUNK] for i in range(0, len(todo), CHUNK)]
            context = multiprocessing.get_context("spawn")
            done: set[int] = set()
            try:
                with ProcessPoolExecutor(
                    min(num_processes, len(chunks)), context, torch.set_num_threads, (1,)
                ) as pool:
                    futures = {
                        pool.submit(_run_chunk, function, [items[i] for i in chunk]): chunk
                        for chunk in chunks
                    }
                    try:
                        for future in as_completed(futures):
                            for index, result in zip(futures[future], future.result(), strict=True):
                                results[index] = result
                                done.add(index)
                            bar.advance(task, len(futures[future]))
                    except BaseException:
                        pool.shutdown(wait=False, cancel_futures=True)
                        raise
            except BrokenProcessPool:
                logging.getLogger("unisono").warning(
                    "worker processes died (a script needs `if __name__ == '__main__':` around its "
                    "calls); going on in one process"
                )
            todo = [i for i in todo if i not in done]
        for index in todo:
            results[index] = function(items[index])
            bar.advance(task)
    return results


def _run_chunk(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [function(item) for item in items]
