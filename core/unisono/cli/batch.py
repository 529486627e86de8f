"""Batch: ``unisono batch NAME INPUT DEST``: a corpus, row by row, into shards and a manifest.

The flags beside these are the fields of the model's request, and apply to every row that does not give them.
"""

import argparse
import dataclasses
import sys
from functools import partial
from typing import Any

from unisono.cli.fields import request_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono batch` takes."""
    parser.add_argument("checkpoint", metavar="NAME", help="an export: a folder, the name of a model, or a hub id")
    parser.add_argument(
        "input",
        metavar="INPUT",
        help=".txt, .csv, .tsv, .jsonl, .parquet, a pattern of these, or -; a folder, a pattern or .tars of files",
    )
    parser.add_argument("dest", metavar="DEST", help="the folder of shards; one that was begun goes on")
    parser.add_argument("--shards", default="tar", help="tar (WebDataset), parquet or files (default tar)")
    parser.add_argument("--suffix", help="format of each output, such as .flac")
    parser.add_argument("--times", metavar="SUFFIX", help="also write what of each output is when, such as .srt")
    parser.add_argument(
        "--times-option",
        dest="times_options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of --times, such as line_length=30",
    )
    parser.add_argument("--shard-size", type=int, default=256, help="rows of a shard (default 256)")
    parser.add_argument("--batch-size", type=int, default=1, help="requests made together (default 1)")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a model (default 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (default 1)")
    parser.add_argument("--engine", default="local", help="local, or ray for several machines (default local)")
    parser.add_argument("--columns", metavar="NAME[=FIELD],…", help="columns of a table, and the fields that they are")
    parser.add_argument("--verify", action="store_true", help="also read every finished shard and compare its hash")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--component", action="append", default=[], metavar="ROLE=WHERE", help="replace a component")
    parser.epilog = "further flags are the fields of the model's request: unisono generate NAME --help"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Make a batch; 1 where a row failed, else 0."""
    from unisono.batch import MOST_LISTED, Options, run_batch
    from unisono.cli.fields import times_options
    from unisono.errors import RequestError
    from unisono.export import load, parse_components

    def fields(kind: Any) -> dict[str, Any]:
        given, texts = request_flags(kind, rest)
        if texts:
            raise RequestError(
                f"{texts[0]!r:.120} is one argument too many: give NAME, INPUT and DEST",
                code="conflict",
                path="text",
                value=texts[0],
            )
        return given

    args.times_options = times_options(args.times_options)
    options = Options(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Options)})
    components = parse_components(args.component)
    open_model = partial(load, args.checkpoint, device=args.device, components=components)
    with _Rate() as rate:
        outcome = run_batch(open_model, args.input, args.dest, options, fields=fields, on_made=rate.add)
    for told in outcome.told:
        print(told, file=sys.stderr)
    print(f"{outcome.made} made, {outcome.kept} kept from before, {outcome.failed} failed: {args.dest}")
    if outcome.repeated:
        print(f"{outcome.repeated} rows ask for what another row asks for, which is made once")
    if outcome.left_over:
        print(f"{outcome.left_over} rows of the shards are of lines that the input has no longer: no line of it")
    for row in outcome.failures:
        place = f"{row.file}, line {row.line}" if row.line else row.file
        print(f"{place}: {row.reason}", file=sys.stderr)
    if outcome.failed > MOST_LISTED:
        print(f"and {outcome.failed - MOST_LISTED} more: see manifest.jsonl", file=sys.stderr)
    return 1 if outcome.failed else 0


class _Rate:
    """Shows on a terminal how many rows are made, and how fast."""

    def __enter__(self) -> "_Rate":
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.completed} rows, {task.speed} a second"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._bar.start()
        self._task = self._bar.add_task("rows", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def add(self, made: int) -> None:
        self._bar.advance(self._task, made)
