"""``unisono check PLUGIN``: the conformance kit on one plugin, and how many of its checks ran."""

import argparse


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
    from rich.table import Table

    from unisono.testing import all_checks
    from unisono.testing import run as run_checks

    console = Console(file=sys.stdout)  # before the noise of training is held back
    total = len(all_checks(args.plugin))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    table = Table("check", "of", "state", "seconds", "what is not kept")
    table.columns[0].no_wrap = True
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    outcomes = run_checks(args.plugin)
    with console.status("checking") as status:
        while True:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                outcome = next(outcomes, None)
            if outcome is None:
                break
            counts[outcome.state] += 1
            row = outcome.check.name, outcome.check.of, outcome.state, f"{outcome.seconds:.1f}", outcome.reason
            table.add_row(*row, style={"failed": "red", "skipped": "yellow"}.get(outcome.state))
            status.update(f"{sum(counts.values())} of {total} checks")
    console.print(table)
    ran = counts["passed"] + counts["failed"]
    console.print(f"{args.plugin}: {ran} run, {counts['skipped']} skipped, {total} in total; {counts['failed']} failed")
    return int(ran < total or counts["failed"] > 0)
