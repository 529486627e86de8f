"""Ray engine: blocks are made by actors of Ray Data, on the machines of a cluster that share the folder.

What travels through Ray is the number of a block; its rows lie in the folder, and so does the shard that is written
aside there. The driver alone puts it in its place, as with the other engines. Actors write their shards themselves, so
that no writer waits for a processor that actors hold, and they leave one processor free for Ray's own readers. Ray's
telemetry is off.
"""

import json
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unisono.batch.making import Block, Done, Failure, Maker, Plan
from unisono.batch.requests import Asked
from unisono.batch.shards import ASIDE, Entry
from unisono.errors import UnisonoError
from unisono.extras import optional
from unisono.files import writing_to

TELEMETRY = "RAY_USAGE_STATS_ENABLED"


def make_on_ray(blocks: Iterator[Block], plan: Plan, workers: int, on_made: Callable[[int], None]) -> Generator[Done]:
    """Make blocks by ``workers`` actors; of a running cluster where ``RAY_ADDRESS`` names one, else of this machine.

    The input is read to its end before the first block is made.
    """
    os.environ[TELEMETRY] = "0"
    ray = optional("ray", extra="batch")
    data = optional("ray", "ray.data", extra="batch")
    plan = replace(plan, folder=plan.folder.absolute())
    sizes = {block.number: len(block.rows) for block in blocks if _put(block, plan.folder)}
    if not sizes:
        return
    begun = not ray.is_initialized()
    if begun:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        processors = float(ray.cluster_resources().get("CPU", 1))
        share = max(0.1, min(1.0, (processors - 1) / workers if processors > 1 else 0.5 / workers))
        made = data.from_items([{"number": number} for number in sizes], override_num_blocks=len(sizes)).map_batches(
            _Actor,
            fn_constructor_args=(plan,),
            batch_size=1,
            concurrency=min(workers, len(sizes)),
            num_cpus=share,
        )
        for row in made.iter_rows():
            done = _read_done(row["done"])
            on_made(sizes[done.number])
            yield done
    except ray.exceptions.RayError as error:  # such as a machine without the model's plugin
        why = " ".join(str(error).split())
        raise UnisonoError(
            f"Ray ended the batch ({type(error).__name__}: …{why[-300:]}): mend it and start again, finished shards "
            "are kept",
            code="failed",
            path="--engine",
            value=type(error).__name__,
        ) from error
    finally:
        if begun:
            ray.shutdown()


class _Actor:
    """Makes the blocks whose numbers it is given."""

    def __init__(self, plan: Plan):
        import torch

        torch.set_num_threads(plan.threads)
        self.plan = plan
        self.failed: str | None = None
        try:
            self.maker = Maker(plan)
        except UnisonoError as error:  # told by the first block: an actor whose constructor raises is tried for ever
            self.failed = json.dumps({"error": str(error), "code": error.code})

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Return what became of each block, as JSON."""
        return {"done": [self.failed or self._make(int(number)) for number in batch["number"]]}

    def _make(self, number: int) -> str:
        try:
            done = self.maker(_take(number, self.plan.folder))
        except UnisonoError as error:
            return json.dumps({"error": str(error), "code": error.code})
        return json.dumps({**asdict(done), "aside": done.aside and str(done.aside)})


def _read_done(text: str) -> Done:
    read = json.loads(text)
    if "error" in read:
        raise UnisonoError(read["error"], code=read["code"])
    entries = tuple(Entry(**entry) for entry in read["entries"])
    failures = tuple(Failure(**failure) for failure in read["failures"])
    return Done(read["number"], read["aside"] and Path(read["aside"]), entries, failures)


def _path(number: int, folder: Path) -> Path:
    return folder / f"{ASIDE}{number:06d}.rows.json"


def _put(block: Block, folder: Path) -> bool:
    path = _path(block.number, folder)
    with writing_to(path):
        path.write_text(json.dumps([asdict(asked) for asked in block.rows]), encoding="utf-8")
    return True


def _take(number: int, folder: Path) -> Block:
    rows = json.loads(_path(number, folder).read_text(encoding="utf-8"))
    return Block(number, tuple(Asked.from_plain(row) for row in rows))
