"""Other processes for checks: one that has imported nothing, and several at once, which are forked where one can."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from unisono.testing.check import CheckFailed


@cache
def workspace() -> Path:
    """Return the folder of all that checks write; it is gone when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="unisono-check-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def other_process(code: str, *arguments: str) -> str:
    """Run code in a process that has imported nothing, from an empty folder, and return what it prints.

    Raises ``CheckFailed``, with the end of what it printed, where it fails.
    """
    with tempfile.TemporaryDirectory(dir=workspace()) as folder:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder)
    _check(command, done.returncode, done.stderr.strip() or done.stdout.strip())
    return done.stdout


def other_processes(
    programs: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]] = ({},),
    stdin: str = "",
    modules: Sequence[str] = (),
) -> None:
    """Run ``python -m PROGRAM…`` for each program, all at once, from an empty folder; wait for all.

    Linux forks them from a process that has imported ``modules`` before, elsewhere each starts by itself.

    Raises:
        CheckFailed: where one fails, with the end of what it printed; the others are ended then.
    """
    with tempfile.TemporaryDirectory(dir=workspace()) as name:
        folder = Path(name)
        (folder / "stdin").write_text(stdin, encoding="utf-8")
        run = _forked if sys.platform == "linux" else _started
        codes = run(programs, environments, modules, folder)
        printed = [(folder / f"{i}.out").read_text(encoding="utf-8", errors="replace") for i in range(len(programs))]
    # One that was ended for another's sake says nothing of its own.
    for index in sorted(range(len(codes)), key=lambda i: codes[i] < 0):
        _check(["python", "-m", *programs[index]], codes[index], printed[index].strip())


def _forked(
    programs: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], modules: Sequence[str], folder: Path
) -> list[int]:
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    own = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    job = {
        "path": sys.path,
        "modules": list(modules),
        "programs": list(map(list, programs)),
        "environments": [{**own, **environment} for environment in environments],
        "folder": str(folder),
    }
    reply = ""
    with suppress(BrokenPipeError):
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        reply = server.stdout.readline()
    if not reply:
        _server.cache_clear()
        code = server.wait()
        raise CheckFailed(
            f"the process that forks ended with {code}: what it printed stands above",
            "fork-server-ended",
            returned=code,
        )
    return json.loads(reply)


@cache
def _server() -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [sys.executable, "-m", "unisono.testing.fork_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    atexit.register(_end, server)
    return server


def _end(server: "subprocess.Popen[str]") -> None:
    server.kill()
    with suppress(BrokenPipeError), server:  # what was written to a dead one is still to be flushed
        pass


def _started(
    programs: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], modules: Sequence[str], folder: Path
) -> list[int]:
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    running: list[subprocess.Popen[bytes]] = []
    for number, (program, environment) in enumerate(zip(programs, environments, strict=True)):
        with open(folder / "stdin", "rb") as given, open(folder / f"{number}.out", "wb") as out:
            command, env = [sys.executable, "-m", *program], {**os.environ, **threads, **environment}
            running.append(subprocess.Popen(command, stdin=given, stdout=out, stderr=out, cwd=folder, env=env))
    left = list(running)
    while left:
        for process in left:
            try:
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            left.remove(process)
            if process.returncode:
                for other in left:
                    other.terminate()
            break
    return [process.returncode for process in running]


def _check(command: Sequence[str], code: int, printed: str) -> None:
    if code:
        sentence = f"{' '.join(command)} ended with {code}: {printed[-2000:]}"
        raise CheckFailed(sentence, "process-failed", command=list(command), returned=code)
