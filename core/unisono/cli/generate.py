"""``unisono generate CHECKPOINT [TEXT] -o FILE``, or ``--input FILE --output-dir DIR`` for many.

The flags beside these are the fields of the model's request: ``unisono generate CHECKPOINT --help`` lists
them with their ranges, ``--schema`` prints them as JSON schema. With ``--input`` every line is one request:
plain text, or a JSON object of request fields. Lines are batched by length; outputs that exist are kept, so an
interrupted run goes on where it stopped; a bad line is reported and the rest goes on (exit code 1).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

from unisono.errors import RequestError, UnisonoError, did_you_mean


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
                kind = plugin.resolve(info["model"], "models").Request
            except UnisonoError as error:
                print(f"unisono: {error}", file=sys.stderr)
                parser.exit(2)
            print(f"\nfields of {info['model']}'s request:")
            for line in describe_fields(kind):
                print(f"  {line}")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono generate` takes."""
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show this; after CHECKPOINT, its fields too")
    parser.add_argument("checkpoint", help="an export folder or hub id")
    parser.add_argument("text", nargs="?", help="the text (or other main input) of one request")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write one output")
    parser.add_argument("--input", metavar="FILE", help="one request per line: text, or JSON with request fields")
    parser.add_argument("--output-dir", metavar="DIR", help="where --input writes, one file per line")
    parser.add_argument("--suffix", help="format of --output-dir files, such as .flac")
    parser.add_argument("--batch-size", type=int, default=8, help="requests per batch with --input (default 8)")
    parser.add_argument("--plot", metavar="FILE", help="also write a figure of the output")
    parser.add_argument("--live", action="store_true", help="show in the terminal how it is made, where a model can")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--component", action="append", default=[], metavar="ROLE=WHERE", help="replace a component")
    parser.add_argument("--schema", action="store_true", help="print the request's JSON schema and stop")
    parser.epilog = "further flags are the fields of the model's request: unisono generate CHECKPOINT --help"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Synthesize one request, or one per line of a file."""
    from unisono.export import load, parse_components

    synthesizer = load(args.checkpoint, device=args.device, components=parse_components(args.component))
    kind, media = synthesizer.model.Request, synthesizer.model.Media
    if args.schema:
        print(json.dumps(kind.model_json_schema(), indent=1, ensure_ascii=False))
        return 0
    fields, texts = request_flags(kind, rest)
    texts = [*([] if args.text is None else [args.text]), *texts]
    if len(texts) > 1:
        raise RequestError(f"{texts[1]!r} is one text too many: put a text with spaces in quotes")
    if args.batch_size < 1:
        raise RequestError(f"--batch-size {args.batch_size} must be at least 1")
    if args.input is not None:
        if args.output_dir is None:
            raise RequestError("--input needs --output-dir DIR")
        if texts or args.output or args.plot or args.live:
            given = "-o" if args.output else "--plot" if args.plot else repr(texts[0]) if texts else "--live"
            raise RequestError(f"{given} does not go with --input, which writes to --output-dir")
        media.check_path(f"0001{args.suffix or media.suffixes[0]}")
        return _many(synthesizer, args, fields)
    if args.output is None:
        raise RequestError("where should the output go? add -o FILE, such as -o out.wav")
    media.check_path(args.output)
    if texts:
        fields[synthesizer.model.text_field] = texts[0]
    made = _live(synthesizer, fields) if args.live else synthesizer(fields)
    print(made.save(args.output))
    if args.plot:
        try:
            made.plot().savefig(args.plot, dpi=120)
        except (ValueError, OSError) as error:
            raise RequestError(f"--plot {args.plot!r} cannot be written: {error}") from None
        print(args.plot)
    return 0


def _live(synthesizer: Any, fields: dict[str, Any]) -> Any:
    """Synthesize one request and show it while it is made, on the terminal and not in the output."""
    from rich.console import Console
    from rich.live import Live

    made = None
    with Live(console=Console(stderr=True), vertical_overflow="visible") as live:
        for made in synthesizer.snapshots(fields):
            live.update(made if hasattr(made, "__rich__") else repr(made))
    return made


def describe_fields(kind: Any) -> list[str]:
    """Return a line per field of a request: its flag, what it means, its range and its default."""
    lines = []
    properties = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        schema = properties[name]
        signs = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
        limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if abs(schema.get(key, 1e18)) < 1e18]
        default = "required" if field.is_required() else f"default {field.default}" if field.default is not None else ""
        notes = ", ".join(note for note in (*limits, default) if note)
        flag = f"--{name.replace('_', '-')}"
        lines.append(f"{flag:<18}{field.description or ''}{f' ({notes})' if notes else ''}")
    return lines


def request_flags(kind: Any, rest: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Parse ``--field value`` and ``--field=value`` into a request's fields; dashes and underscores are one.

    Also return what is no flag: argparse leaves a text here that stands behind a flag it does not know.
    """
    written, texts = written_flags(kind, rest)
    return {name: flag_value(name, value, kind.model_fields[name].annotation) for name, value in written.items()}, texts


def written_flags(kind: Any, rest: list[str]) -> tuple[dict[str, str], list[str]]:
    """As ``request_flags``, with the values as they are written."""
    fields: dict[str, str] = {}
    texts: list[str] = []
    rest = list(rest)
    while rest:
        item = rest.pop(0)
        if not item.startswith("--"):
            texts.append(item)
            continue
        name, equals, value = item[2:].partition("=")
        name = name.replace("-", "_")
        if name not in kind.model_fields:
            raise RequestError(f"unknown flag --{name}{did_you_mean(name, kind.model_fields)}")
        if not equals:
            if not rest:
                raise RequestError(f"--{name} has no value: write --{name}=VALUE")
            value = rest.pop(0)
        fields[name] = value
    return fields, texts


def flag_value(name: str, value: str, annotation: Any) -> Any:
    """Read a flag's value as its field's type asks for."""
    if annotation is str or str in get_args(annotation):
        return value
    import yaml

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise RequestError(f"--{name}={value} is not a number, a word or a list such as [1, 2]") from None


def _many(synthesizer: Any, args: argparse.Namespace, fields: dict[str, Any]) -> int:
    """One request per line of a file, in batches; 1 if any failed."""
    from rich.console import Console
    from rich.progress import track

    source, folder = Path(args.input), Path(args.output_dir)
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--input {str(source)!r} cannot be read as UTF-8 text: {error}") from None
    suffix = args.suffix or synthesizer.model.Media.suffixes[0]
    width = max(4, len(str(len(lines))))
    failed: list[tuple[int, str]] = []
    waiting: list[tuple[int, Any, Path]] = []
    kept = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path = folder / f"{number:0{width}d}{suffix}"
        if path.exists():
            kept += 1
            continue
        try:
            own = json.loads(line) if line.lstrip().startswith("{") else {synthesizer.model.text_field: line}
            waiting.append((number, synthesizer.request({**fields, **own}), path))
        except (UnisonoError, json.JSONDecodeError) as error:
            failed.append((number, _reason(error)))
    text_field = synthesizer.model.text_field
    waiting.sort(key=lambda item: len(str(getattr(item[1], text_field, ""))))
    batches = [waiting[i : i + args.batch_size] for i in range(0, len(waiting), args.batch_size)]
    written = 0
    for batch in track(batches, "generating", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        for _, made, path in _batch(synthesizer, batch, failed):
            stage = path.with_name(f".part-{path.name}")
            made.save(stage).replace(path)
            written += 1
    print(f"{written} written, {kept} kept from before, {len(failed)} failed: {folder}")
    for number, reason in sorted(failed):
        print(f"line {number}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _batch(synthesizer: Any, batch: list[tuple[int, Any, Path]], failed: list[tuple[int, str]]):
    """Synthesize a batch; if one request in it is bad, each is tried alone so that only it fails."""
    try:
        made = synthesizer([request for _, request, _ in batch])
        return [(number, item, path) for (number, _, path), item in zip(batch, made, strict=True)]
    except UnisonoError:
        rows = []
        for number, request, path in batch:
            try:
                rows.append((number, synthesizer(request), path))
            except UnisonoError as error:
                failed.append((number, str(error)))
        return rows


def _reason(error: Exception) -> str:
    """An error in one sentence."""
    if isinstance(error, json.JSONDecodeError):
        return f"not a JSON object ({error.msg} at column {error.colno}); a text must not begin with a brace"
    return str(error)
