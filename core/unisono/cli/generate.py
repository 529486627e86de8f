"""Generate: ``unisono generate CHECKPOINT [TEXT] -o FILE``, or ``--input FILE --output-dir DIR`` for many.

``-o -`` writes the bytes to the standard output and nothing else there, with ``--stream`` while they are made.

The flags beside these are the fields of the model's request: ``unisono generate CHECKPOINT --help`` lists
them with their ranges, ``--schema`` prints them as JSON schema. With ``--input`` every line is one request:
plain text, or a JSON object of request fields. Lines are batched by length; outputs that were made from the same line
by the same model are kept, so an interrupted run goes on where it stopped; a bad line is reported and the rest goes on
(exit code 1).
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from unisono.cli.fields import as_text, describe_fields, flag_value, request_flags, times_options
from unisono.errors import RequestError, UnisonoError


class _Help(argparse.Action):
    """``--help``; after a checkpoint, with the fields of its request."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Print it and end."""
        parser.print_help()
        if getattr(namespace, "checkpoint", None):
            from unisono import plugin
            from unisono.export import find, read_info

            try:
                info = read_info(find(namespace.checkpoint))
                model = plugin.resolve(info["model"], "models")
            except UnisonoError as error:
                print(f"unisono: {error}", file=sys.stderr)
                parser.exit(2)
            print(f"\nfields of {info['model']}'s request:")
            from unisono.model import choices_of

            for line in describe_fields(model.Request, choices_of(model, info["facts"])):
                print(f"  {line}")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono generate` takes."""
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show this; after CHECKPOINT, its fields too")
    parser.add_argument("checkpoint", help="an export: a folder, the name of a model, or a hub id")
    parser.add_argument("text", nargs="?", help="the text (or other main input) of one request")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write one output; - is the standard output")
    parser.add_argument("--format", help="format of -o -, such as flac; the first of the model's formats without it")
    parser.add_argument("--stream", action="store_true", help="write to -o - while it is made, where a model can")
    parser.add_argument("--input", metavar="FILE", help="one request per line: text, or JSON with request fields; or -")
    parser.add_argument("--output-dir", metavar="DIR", help="where --input writes, one file per line")
    parser.add_argument("--suffix", help="format of --output-dir files, such as .flac; without --input a field's value")
    parser.add_argument("--batch-size", type=int, default=8, help="requests per batch with --input (default 8)")
    parser.add_argument("--times", metavar="FILE", help="also write what of it is when; with --input only a suffix")
    parser.add_argument(
        "--times-option", action="append", default=[], metavar="NAME=VALUE", help="of --times, such as line_length=30"
    )
    parser.add_argument("--plot", metavar="FILE", help="also write a figure of the output")
    parser.add_argument("--live", action="store_true", help="show in the terminal how it is made, where a model can")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--component", action="append", default=[], metavar="ROLE=WHERE", help="replace a component")
    parser.add_argument("--schema", action="store_true", help="print the request's JSON schema and stop")
    parser.epilog = "further flags are the fields of the model's request: unisono generate CHECKPOINT --help"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Synthesize one request, or one per line of a file."""
    out = sys.stdout
    quiet = args.output == "-" and not args.schema
    # What a model or a library prints must not stand in the output.
    with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
        return _run(args, rest, out)


def _run(args: argparse.Namespace, rest: list[str], out: TextIO) -> int:
    from unisono.export import load, parse_components

    synthesizer = load(args.checkpoint, device=args.device, components=parse_components(args.component))
    kind = synthesizer.model.Request
    if args.schema:
        print(json.dumps(kind.model_json_schema(), indent=1, ensure_ascii=False))
        return 0
    fields, texts = request_flags(kind, rest)
    texts = [*([] if args.text is None else [as_text(args.text)]), *texts]
    if len(texts) > 1:
        raise RequestError(
            f"{texts[1]!r:.120} is one text too many: put a text with spaces in quotes",
            code="conflict",
            path="text",
            value=texts[1],
        )
    if args.batch_size < 1:
        raise RequestError(
            f"--batch-size {args.batch_size} must be at least 1",
            code="range",
            path="--batch-size",
            value=args.batch_size,
        )
    if args.input is not None:
        return _many(args, synthesizer, fields, texts)
    if args.output_dir is not None:
        raise RequestError(
            "--output-dir is where --input writes: give --input FILE, or -o FILE for one output",
            code="missing",
            path="--input",
        )
    if args.suffix is not None:  # without --input it is no format, and a field where the model has one
        if "suffix" not in kind.model_fields:
            raise RequestError(
                "--suffix is the format of what --input makes: end -o FILE in it",
                code="unsupported",
                path="--suffix",
                value=args.suffix,
            )
        fields["suffix"] = flag_value("suffix", as_text(args.suffix), kind.model_fields["suffix"].annotation)
    if args.output is None:
        raise RequestError("where should the output go? add -o FILE, such as -o out.wav", code="missing", path="-o")
    from unisono.cli.destination import Destination

    destination = Destination(args, synthesizer.model.Media, out)
    if texts:
        fields[synthesizer.model.text_field] = texts[0]
    if args.stream:
        destination.write_pieces(synthesizer.stream(fields))
    else:
        destination.write(_live(synthesizer, fields) if args.live else synthesizer(fields))
    return 0


def _many(args: argparse.Namespace, synthesizer: Any, fields: dict[str, Any], texts: list[str]) -> int:
    """Synthesize one request per line of a file."""
    from unisono.batch.numbered import generate_numbered
    from unisono.batch.run import check_suffix
    from unisono.media import TimesWriter

    if args.output_dir is None:
        raise RequestError("--input needs --output-dir DIR", code="missing", path="--output-dir")
    flags = {"-o": args.output, "--plot": args.plot, "--format": args.format, "--stream": args.stream}
    given = [flag for flag, value in flags.items() if value] or texts or ["--live"] * args.live
    if given:
        named = given[0] if given[0] in flags or given[0] == "--live" else f"{given[0]!r:.120}"
        raise RequestError(
            f"{named} does not go with --input, which writes to --output-dir",
            code="conflict",
            path="text" if named[:1] != "-" else named,
            value=named,
        )
    media = synthesizer.model.Media
    suffix = check_suffix(args.suffix, media)
    ending = args.times and f".{args.times.removeprefix('.')}"
    times = TimesWriter.asked(media, ending, times_options(args.times_option))
    folder = Path(args.output_dir)
    return generate_numbered(synthesizer, args.input, folder, suffix, fields, args.batch_size, times)


def _live(synthesizer: Any, fields: dict[str, Any]) -> Any:
    """Synthesize one request and show it while it is made, on the terminal and not in the output."""
    from rich.console import Console
    from rich.live import Live

    made = None
    with Live(console=Console(stderr=True), vertical_overflow="visible") as live:
        for made in synthesizer.snapshots(fields):
            live.update(made)
    return made
