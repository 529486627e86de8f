"""Fork server: ``python -m unisono.testing.fork_server`` reads jobs as JSON, a line each, and forks for each.

It has imported what takes seconds to import, so that a job's process begins at once; it makes no tensor itself. A job
has ``programs``, each the arguments of a ``python -m``, with as many ``environments``, that are run side by side in its
``folder``; they read ``stdin`` there and write ``0.out``, ``1.out``… It also has the search ``path`` of imports, and
``modules`` that are imported before. The reply is a line of exit codes. Where one fails, the others are ended.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what an import prints is no reply
    for line in sys.stdin:
        job = json.loads(line)
        sys.path[:] = job["path"]
        for name in job["modules"]:
            importlib.import_module(name)
        print(json.dumps(_ran(job)), file=replies, flush=True)


def _ran(job: dict[str, Any]) -> list[int]:
    """Fork for each program, and return the codes that they end with."""
    running, codes = {}, [0] * len(job["programs"])
    for number, (program, environment) in enumerate(zip(job["programs"], job["environments"], strict=True)):
        pid = os.fork()
        if not pid:
            _become(program, environment, Path(job["folder"]), number)
        running[pid] = number
    while running:
        pid, status = os.wait()
        codes[running.pop(pid)] = code = os.waitstatus_to_exitcode(status)
        if code:
            for other in running:
                os.kill(other, signal.SIGTERM)
    return codes


def _become(program: list[str], environment: dict[str, str], folder: Path, number: int) -> None:
    """Be the program, from here to the end of this process."""
    code = 1
    try:
        for target, (name, flags) in enumerate((("stdin", os.O_RDONLY), (f"{number}.out", os.O_WRONLY | os.O_CREAT))):
            os.dup2(os.open(folder / name, flags, 0o600), target)
        os.dup2(1, 2)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = sys.stderr = os.fdopen(1, "w", encoding="utf-8", closefd=False, buffering=1)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        if "torch" in sys.modules:  # which reads the variable when it is imported
            sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
        sys.argv = program
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
