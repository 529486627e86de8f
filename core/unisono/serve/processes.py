"""Processes: workers that share one listening socket, each with models of its own; one that dies is started again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

SOCKET = "_UNISONO_SERVE_SOCKET"
"""In the environment of a worker: the number of the listening socket that it has from its parent."""
SHORTEST = 10.0
"""A worker that lived for less seconds is not started again at once, and after three of them the server ends."""


def supervise(listening: socket.socket, workers: int, address: str) -> int:
    """Run this command in several processes until a signal, and return its exit code."""
    number = listening.fileno()
    command = [sys.executable, "-m", "unisono", *sys.argv[1:]]
    ending = False

    def end(signum: int, frame: object) -> None:
        nonlocal ending
        ending = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, end)

    def start() -> tuple["subprocess.Popen[bytes]", float]:
        # A group of its own, so that an interrupt at the terminal comes once, from here.
        environment = {**os.environ, SOCKET: str(number)}
        child = subprocess.Popen(command, pass_fds=[number], start_new_session=True, env=environment)
        return child, time.monotonic()

    running = [start() for _ in range(workers)]
    print(f"{workers} workers at {address}", flush=True)
    failures = 0
    while not ending:
        time.sleep(0.2)
        for index, (child, begun) in enumerate(running):
            code = child.poll()
            if code is None:
                continue
            short = time.monotonic() - begun < SHORTEST
            failures = failures + 1 if short else 0
            print(f"a worker ended with {code}", file=sys.stderr, flush=True)
            if failures >= 3:
                ending = True
                break
            running[index] = start()
    listening.close()
    for child, _ in running:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
    for child, _ in running:
        child.wait()
    return 1 if failures >= 3 else 0
