"""Killing: trainings that are killed again and again, by SIGKILL, and must end as one that was not.

``python tests/shared/killing.py FOLDER --kills 50 --processes 2``

Half of the kills come at a random moment of the run's life, half at a random line of what writes a state: that process
counts the lines that its writing executes, and kills its whole group at the one that was drawn. A file is written in
twenty parts there, so that a kill leaves a cut one. Everything is imported once, and each run is a fork of that.
"""

import argparse
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from unisono.export.training_state import has_training_state, newest_state, read_training_state
from unisono.recipe import Recipe
from unisono.train import train
from unisono.train.states import folder, saver, shelf

STEPS = 8
COMPARED = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
WRITING = {module.__file__ for module in (folder, saver, shelf)} | {__file__}
VARIANTS = [(layout, beside) for layout in ("file", "sharded") for beside in ("true", "false")]


def recipe(where: Path, layout: str, beside: str, processes: int) -> Recipe:
    """The smallest vocoder, which keeps a state of each step."""
    given = {
        "run.dir": where,
        "run.preview_seconds": 0,
        "run.checkpoint.every": 1,
        "run.checkpoint.layout": layout,
        "run.checkpoint.asynchronous": beside,
        "trainer.max_steps": STEPS,
        "trainer.enable_model_summary": "false",
        "trainer.limit_val_batches": 0,
        "trainer.num_sanity_val_steps": 0,
        "trainer.accelerator": "cpu",
    }
    if processes > 1:
        given["trainer.strategy"] = "ddp"
    return Recipe.read("codec/vocos-tiny", [f"--{key}={value}" for key, value in given.items()])


def run_once(made: Recipe, processes: int, resume: bool, log: Path, at_line: int | None, after: float | None) -> str:
    """Run a training in processes of its own; return "killed", "done" or what went wrong."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children: list[int] = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            os.setpgid(0, children[0] if children else 0)
            _be(made, processes, rank, port, resume, log, at_line)
        os.setpgid(child, children[0] if children else child)  # here too: a kill may come before the child has done so
        children.append(child)
    begun, left, codes = time.monotonic(), set(children), []
    while left:
        for child in list(left):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                left.discard(child)
                codes.append(os.waitstatus_to_exitcode(status))
        if after is not None and time.monotonic() - begun > after and left:
            os.killpg(children[0], signal.SIGKILL)
            after = None
        time.sleep(0.005)
    if -signal.SIGKILL in codes:
        return "killed"
    return "done" if not any(codes) else f"exit codes {codes}: {log.read_text()[-3000:]}"


def _be(made: Recipe, processes: int, rank: int, port: int, resume: bool, log: Path, at_line: int | None) -> None:
    """Train in this fork, and end it."""
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if processes > 1:
            os.environ |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        torch.save = _save_in_parts
        if at_line is not None and rank == 0:
            _kill_at(at_line)
        train(made, resume="last" if resume else None, progress=False)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_save = torch.save


def _save_in_parts(value: Any, place: Any, *args: Any, **kwargs: Any) -> None:
    if not isinstance(place, str | os.PathLike):
        return _save(value, place, *args, **kwargs)
    _save(value, f"{place}.whole", *args, **kwargs)
    data = Path(f"{place}.whole").read_bytes()
    Path(f"{place}.whole").unlink()
    part = len(data) // 20 + 1
    with open(place, "wb", buffering=0) as file:
        for begin in range(0, len(data), part):
            file.write(data[begin : begin + part])
    return None


def _kill_at(line: int) -> None:
    """Kill this group at the given one of the lines that are executed to write states."""
    count = [0]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in WRITING:
            return None
        if event == "line":
            count[0] += 1
            if count[0] == line:
                os.killpg(0, signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def difference(one: Any, other: Any) -> float:
    """The largest difference of two states; infinity where they differ in anything else."""
    if isinstance(one, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return float("inf")
        return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
    if isinstance(one, dict):
        return (
            max((difference(one[k], other[k]) for k in one), default=0.0)
            if one.keys() == other.keys()
            else float("inf")
        )
    if isinstance(one, list | tuple):
        return max(map(difference, one, other), default=0.0) if len(one) == len(other) else float("inf")
    return 0.0 if one == other else float("inf")


def kill_trainings(where: Path, kills: int, processes: int, seed: int = 0, each: int = 5) -> dict[str, Any]:
    """Kill trainings ``kills`` times, each one ``each`` times at most, and compare what they end with.

    Returns how many kills there were of both kinds, how many runs ended, and their largest difference from an
    uninterrupted run.
    """
    draw = random.Random(seed)
    told: dict[str, Any] = {"in time": 0, "in writing": 0, "runs": 0, "largest difference": 0.0, "states lost": 0}
    straight = recipe(where / "straight", "file", "false", processes)
    begun = time.monotonic()
    ended = run_once(straight, processes, False, where / "straight.log", None, None)
    life = time.monotonic() - begun
    assert ended == "done", ended
    right = read_training_state(newest_state(where / "straight/codec-vocos-tiny/0001"))
    while told["in time"] + told["in writing"] < kills:
        number = told["runs"]
        layout, beside = VARIANTS[number % len(VARIANTS)]
        made = recipe(where / f"run-{number}", layout, beside, processes)
        parent, before = where / f"run-{number}" / "codec-vocos-tiny", -1
        for attempt in range(100):
            folders = sorted(parent.glob("0*")) if parent.is_dir() else []
            resume = bool(folders) and has_training_state(folders[-1])
            if before >= 0 and not resume:
                told["states lost"] += 1
            if resume:
                step = int(read_training_state(newest_state(folders[-1]))["global_step"])
                told["states lost"] += step < before
                before = step
            more = attempt < each and told["in time"] + told["in writing"] < kills
            in_writing = (told["in time"] + told["in writing"]) % 2 == 0
            line = draw.randrange(1, 900) if more and in_writing else None
            after = draw.uniform(0, life) if more and not in_writing else None
            log = where / f"run-{number}.log"
            ended = run_once(made, processes, resume, log, line, after)
            if ended == "killed":
                told["in writing" if in_writing else "in time"] += 1
                print(f"run {number} ({layout}, beside={beside}): killed, was at step {before}", file=sys.stderr)
                continue
            assert ended == "done", ended
            if more:  # it ended before the moment that was drawn
                print(f"run {number}: ended before it could be killed", file=sys.stderr)
            break
        folders = sorted(parent.glob("0*"))
        last = newest_state(folders[-1])
        mine = read_training_state(last)
        assert mine["global_step"] == STEPS, mine["global_step"]
        far = max(difference(right[key], mine[key]) for key in COMPARED)
        told["largest difference"] = max(told["largest difference"], far)
        told["runs"] += 1
        stray = [path.name for path in last.parent.iterdir() if path.name.startswith(".")]
        assert not stray, stray
        print(f"run {number}: ended, difference {far:g}", file=sys.stderr, flush=True)
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=5)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warm = recipe(given.folder, "file", "false", 1)
    warm.build_data()
    print(json.dumps(kill_trainings(given.folder, given.kills, given.processes, given.seed, given.each)))
