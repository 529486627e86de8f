"""``unisono generate CHECKPOINT [TEXT] -o FILE``, or ``--input FILE --output-dir DIR`` for many.

The flags beside these are the fields of the model's request, with their ranges: ``unisono generate
CHECKPOINT --help`` lists them. With ``--input`` every line is one request: plain text, or a JSON object of
request fields. Lines are batched by length; outputs that exist are kept, so an interrupted run goes on
where it stopped; a bad line is reported and the rest goes on (exit code 1).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from unisono.errors import RequestError, UnisonoError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="an export folder or hub id")
    parser.add_argument("text", nargs="?", help="the text (or other main input) of one request")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write one output")
    parser.add_argument("--input", metavar="FILE", help="one request per line: text, or JSON with request fields")
    parser.add_argument("--output-dir", metavar="DIR", help="where --input writes, one file per line")
    parser.add_argument("--suffix", help="format of --output-dir files, such as .flac")
    parser.add_argument("--batch-size", type=int, default=8, help="requests per batch with --input (default 8)")
    parser.add_argument("--plot", metavar="FILE", help="also write a figure of the output")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--component", action="append", default=[], metavar="ROLE=WHERE", help="replace a component")
    parser.add_argument("--schema", action="store_true", help="print the request's JSON schema and stop")
    parser.epilog = "further flags are the fields of the model's request: --schema prints them"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    from unisono.checkpoint import load

    components = dict(item.partition("=")[::2] for item in args.component)
    synthesizer = load(args.checkpoint, device=args.device, components=components)
    kind = synthesizer.model.Request
    if args.schema:
        print(json.dumps(kind.model_json_schema(), indent=1, ensure_ascii=False))
        return 0
    fields = request_flags(kind, rest)
    if args.input is not None:
        if args.output_dir is None:
            raise RequestError("--input needs --output-dir DIR")
        return _many(synthesizer, args, fields)
    if args.output is None:
        raise RequestError("where should the output go? add -o FILE, such as -o out.wav")
    if args.text is not None:
        fields[synthesizer.model.text_field] = args.text
    made = synthesizer(fields)
    print(made.save(args.output))
    if args.plot:
        made.plot().savefig(args.plot, dpi=120)
        print(args.plot)
    return 0


def request_flags(kind: Any, rest: list[str]) -> dict[str, Any]:
    """Parse ``--field value`` and ``--field=value`` into a request's fields; dashes and underscores are one."""
    import yaml

    fields: dict[str, Any] = {}
    rest = list(rest)
    while rest:
        item = rest.pop(0)
        if not item.startswith("--"):
            raise RequestError(f"{item!r} is not a flag: put a text with spaces in quotes")
        name, equals, value = item[2:].partition("=")
        name = name.replace("-", "_")
        if name not in kind.model_fields:
            raise RequestError(f"unknown flag --{name}{did_you_mean(name, kind.model_fields)}")
        if not equals:
            if not rest:
                raise RequestError(f"--{name} has no value: write --{name}=VALUE")
            value = rest.pop(0)
        annotation = kind.model_fields[name].annotation
        fields[name] = value if annotation is str else yaml.safe_load(value)
    return fields


def _many(synthesizer: Any, args: argparse.Namespace, fields: dict[str, Any]) -> int:
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
            failed.append((number, str(error)))
    text_field = synthesizer.model.text_field
    waiting.sort(key=lambda item: len(str(getattr(item[1], text_field, ""))))
    batches = [waiting[i : i + args.batch_size] for i in range(0, len(waiting), args.batch_size)]
    written = 0
    for batch in track(batches, "generating", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        for number, made, path in _batch(synthesizer, batch, failed):
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
