"""``unisono check PLUGIN``: the conformance kit on one plugin, how many of its checks ran, and what failed where."""

import argparse
from collections.abc import Sequence
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono check` takes."""
    parser.add_argument("plugin", help="a plugin's name (unisono plugins)")
    parser.epilog = "exit code 1 if a check fails or cannot run; trains every <model>-tiny recipe a few times"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Run a plugin's promises and print how each ended; 1 if one was broken."""
    import contextlib
    import io
    import logging
    import sys

    from rich.console import Console

    from unisono.testing import all_checks
    from unisono.testing import run as run_checks

    out, console = sys.stdout, Console(file=sys.stderr)  # before the noise of training is held back
    total = len(all_checks(args.plugin))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    ended = []
    outcomes = run_checks(args.plugin)
    with console.status("checking") as status:
        while True:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                outcome = next(outcomes, None)
            if outcome is None:
                break
            ended.append(outcome)
            print(f"{outcome.state:<8}{outcome.seconds:6.1f} s  {outcome.check.id}", file=out, flush=True)
            status.update(f"{len(ended)} of {total} checks")
    for line in report(ended):
        print(line, file=out)
    counts = {state: sum(outcome.state == state for outcome in ended) for state in ("passed", "failed", "skipped")}
    ran = counts["passed"] + counts["failed"]
    last = f"{args.plugin}: {ran} run, {counts['skipped']} skipped, {total} in total; {counts['failed']} failed"
    print(last, file=out)
    return int(ran < total or counts["failed"] > 0)


def report(outcomes: Sequence[Any]) -> list[str]:
    """Return what is not kept and what could not run, each cause once: where, why, and the checks that it stopped.

    Lines are not wrapped, so that nothing is cut at any width of a terminal and a path can be clicked on.
    """
    causes: dict[tuple[str, str, str], list[Any]] = {}
    for outcome in outcomes:
        if outcome.state != "passed":
            causes.setdefault((outcome.state, outcome.where, outcome.reason), []).append(outcome.check)
    lines = []
    for (state, place, reason), checks in causes.items():
        code = f"{place}: " if place else ""
        lines += ["", f"{state} {', '.join(check.id for check in checks)}", f"  {code}{reason}"]
        lines += [f"  promised: {check.promise}" for check in checks[:1]]
    return [*lines, ""] if lines else lines
