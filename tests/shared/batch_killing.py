"""Batch killing: batches that are killed again and again, by SIGKILL, and must end as one that was not.

``python tests/shared/batch_killing.py FOLDER --kills 50 --workers 1``

Each run is a fork of one process that has imported everything, and is killed at a line, drawn at random, of those that
the package executes, or, each second time, of those that put a shard in its place; with several workers at a random
moment, so that they are left alone with what they make. After each kill every shard that counts must be whole; at the
end folders must be equal byte for byte. Every other batch has a line of its input changed after each kill, and must end
with exactly what its last input asks for. With ``--stored`` the rows are files in a tar shard.
"""

import argparse
import io
import json
import os
import random
import signal
import sys
import tarfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from toy import open_file_toy, open_toy, rows_of
from unisono import batch
from unisono.batch import Options, folder, run_batch
from unisono.files import aside

ROWS = 30
OPTIONS = Options(shard_size=4, batch_size=2)
WRITING = (str(folder.__file__), str(aside.__file__))
TRACED = (str(Path(batch.__file__).parent), str(aside.__file__), str(tarfile.__file__))


Line = tuple[int, int] | None
"""Which of the lines of a kind kills: (0 for any, 1 for those that write, number)."""


def run_once(
    lines: list[str], dest: Path, workers: int, at_line: Line, after: float | None, stored: bool = False
) -> tuple[str, list[int]]:
    """Make a batch in a process of its own; return "killed", "done" or what went wrong, and the lines it executed."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    source, count, log = (dest.with_name(name) for name in ("lines.tar" if stored else "lines.txt", "count", "log"))
    if stored:
        write_shard(source, lines)
    else:
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    child = os.fork()
    if child == 0:
        _be(source, dest, workers, at_line, count, log)
    begun = time.monotonic()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if after is not None and time.monotonic() - begun > after:
            os.kill(child, signal.SIGKILL)
            after = None
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(ended[1])
    if code == -signal.SIGKILL:
        return "killed", []
    return ("done" if code == 0 else f"exit code {code}: {log.read_text()[-3000:]}"), json.loads(count.read_text())


def write_shard(path: Path, contents: list[str]) -> None:
    """Write a tar shard of files with these contents, in their order."""
    with tarfile.open(path, "w") as archive:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"file{number}.md")
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))


def _be(source: Path, dest: Path, workers: int, at_line: Line, count: Path, log: Path) -> None:
    """Make a batch in this fork, and end it."""
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        seen = _kill_at(at_line) if workers == 1 else [0, 0]
        options = Options(shard_size=OPTIONS.shard_size, batch_size=OPTIONS.batch_size, workers=workers)
        os.chdir(dest.parent)  # names in the manifest are then the same for all
        run_batch(open_file_toy if source.suffix == ".tar" else open_toy, source.name, dest.name, options)
        sys.settrace(None)
        count.write_text(json.dumps(seen))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _kill_at(line: Line) -> list[int]:
    """Kill this process at the given one of the lines that the package executes; return their counts so far."""
    count = [0, 0]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        if event == "line":
            count[0] += 1
            count[1] += frame.f_code.co_filename.startswith(WRITING)
            if line is not None and count[line[0]] == line[1]:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    return count


def content(place: Path) -> dict[str, bytes]:
    """Everything that lies in a folder, by its path there."""
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def check_shards(place: Path) -> int:
    """Every shard is noted and whole, or is none yet; return how many there are."""
    parts = {path.stem: path for path in (place / "manifest").glob("0*.jsonl")} if place.is_dir() else {}
    shards = sorted(place.glob("0*.tar")) if place.is_dir() else []
    for shard in shards:
        about, *rows = [json.loads(line) for line in parts[shard.stem].read_text().splitlines()]
        assert shard.stat().st_size == about["bytes"] and len(rows) == about["rows"], shard
        with tarfile.open(shard) as archive:
            assert len(archive.getnames()) == 2 * len(rows), shard
    rows_of(place) if shards else None  # none is there twice
    return len(shards)


def check_end(lines: list[str], dest: Path, stored: bool) -> None:
    """The manifest has a row for each line, and each row is what a call makes."""
    rows, toy = rows_of(dest), open_toy()
    told = [json.loads(line) for line in (dest / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(told) == len(lines)
    for line, row in zip(lines, told, strict=True):
        made = rows[row["name"]].decode()
        assert made.rpartition(" ")[0] == line if stored else made == toy(line, seed=row["seed"]).text
    stray = [path.name for path in dest.rglob(".*") if path.name != ".lock"]
    assert not stray, stray


def kill_batches(
    where: Path, kills: int, workers: int = 1, seed: int = 0, each: int = 6, stored: bool = False
) -> dict[str, int]:
    """Kill batches ``kills`` times, each one ``each`` times at most; return what happened."""
    draw = random.Random(seed)
    lines = [f"Row {n} of many." for n in range(ROWS)]
    begun = time.monotonic()
    ended, total = run_once(lines, where / "straight" / "out", workers, None, None, stored)
    life = time.monotonic() - begun
    assert ended == "done", ended
    right = content(where / "straight" / "out")
    told = {"kills": 0, "batches": 0, "with shards": 0, "changed lines": 0}
    while told["kills"] < kills:
        dest, asked = where / f"batch-{told['batches']}" / "out", list(lines)
        changing = told["batches"] % 2 == 1
        for attempt in range(each + 1):
            more = attempt < each and told["kills"] < kills
            kind = told["kills"] % 2
            line = (kind, draw.randrange(1, total[kind])) if more and workers == 1 else None
            after = draw.uniform(0, life) if more and workers > 1 else None
            ended, _ = run_once(asked, dest, workers, line, after, stored)
            told["with shards"] += check_shards(dest) > 0 and ended == "killed"
            if ended != "killed":
                break
            told["kills"] += 1
            if changing:
                asked[draw.randrange(ROWS)] = f"Changed {told['kills']}."
                told["changed lines"] += 1
        assert ended == "done", ended
        check_end(asked, dest, stored)
        assert changing or content(dest) == right, sorted(set(content(dest)) ^ set(right))
        told["batches"] += 1
        print(f"batch {told['batches']}: {told}", file=sys.stderr, flush=True)
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stored", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(kill_batches(given.folder, given.kills, given.workers, given.seed, stored=given.stored)))
