"""Process: peak memory, and programs that run in a fresh process, where nothing is warm or loaded yet."""

import inspect
import json
import os
import subprocess
import sys
from typing import Any


def peak_memory() -> float | None:
    """Return the most memory in MiB that this process had at once; None where the system does not say."""
    import sys

    try:  # of this program alone: what getrusage counts begins with its parent's
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**10
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def in_fresh_process(program: str, asked: dict[str, Any], timeout: float = 1200) -> dict[str, Any]:
    """Run a program in a Python of its own and return what it leaves in its dictionary ``result``.

    It finds ``asked`` (plain values) and the function ``peak_memory``, and imports what else it needs, from where
    this process does. Raises ``RuntimeError`` with the last line of its complaint if it fails, and
    ``subprocess.TimeoutExpired`` after ``timeout`` seconds.
    """
    source = "\n".join(
        [
            "import json, sys",
            "asked, result = json.load(sys.stdin), {}",
            inspect.getsource(peak_memory),  # not imported: what is measured decides what is loaded
            program,
            "print(json.dumps(result))",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", source],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
    )
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"exit code {done.returncode}: {last_line}")
    return json.loads(done.stdout.strip().splitlines()[-1])
