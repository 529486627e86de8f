"""``unisono sweep CHECKPOINT [DATA] --FIELD=VALUE,VALUE,…``: settings of a request against each other.

Any field of the model's request may have a list of values, separated by commas; several lists are combined. With
DATA, the measures that the model's plugin declares are drawn against evaluations and real-time factor; without,
only time is measured, on the model's own preview requests or on a text that is given. One table, and the same as
JSON and as a picture.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from unisono.errors import RequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono sweep` takes."""
    parser.add_argument("checkpoint", help="an export: a folder, the name of a model, or a hub id")
    parser.add_argument("data", nargs="?", help="a corpus that the plugin reads; without it, only time is measured")
    parser.add_argument("--limit", type=int, default=32, help="items of the corpus to measure (default 32)")
    parser.add_argument("--repeats", type=int, default=3, help="of every setting, in turns (default 3)")
    parser.add_argument("--batch-size", type=int, default=1, help="requests made together (default 1)")
    parser.add_argument("--json", metavar="FILE", default="sweep.json", help="where to write the numbers")
    parser.add_argument("--plot", metavar="FILE", default="sweep.png", help="where to draw them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--component", action="append", default=[], metavar="ROLE=WHERE", help="replace a component")
    parser.epilog = "further flags are fields of the model's request, such as --num_steps=1,2,4,8,16,32"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Evaluate every combination of settings; print quality against evaluations and time."""
    from rich.console import Console
    from rich.progress import track

    from unisono import plugin
    from unisono.cli.fields import flag_value, written_flags
    from unisono.cli.output import check_drawable, check_writable, draw
    from unisono.cli.output import console as tables
    from unisono.evaluation import Probe, sweep
    from unisono.export import load, parse_components

    if Path(args.plot).absolute() == Path(args.json).absolute():
        raise RequestError(
            f"--json and --plot are both {args.plot!r:.200}: give one of them another name",
            code="conflict",
            path="--plot",
            value=args.plot,
        )
    check_drawable(args.plot)
    check_writable(args.json)
    synthesizer = load(args.checkpoint, device=args.device, components=parse_components(args.component))
    model = synthesizer.model
    written, texts = written_flags(model.Request, rest)
    texts = [*([] if args.data is None else [args.data]), *texts]
    if len(texts) > 1:
        raise RequestError(
            f"{texts[1]!r} is one corpus too many: give one, and values as --FIELD=VALUE,VALUE",
            code="conflict",
            path="data",
            value=texts[1],
        )
    data = texts[0] if texts else None
    values: dict[str, list[Any]] = {}
    fields: dict[str, Any] = {}
    for name, text in written.items():
        parts = [text] if name == model.text_field else split(name, text)
        read = [flag_value(name, part, model.Request.model_fields[name].annotation) for part in parts]
        if len(read) == 1:
            fields[name] = read[0]
        else:
            values[name] = read
    if data is not None:
        if model.text_field in fields:
            raise RequestError(
                f"--{model.text_field} does not go with a corpus, whose texts are used: leave one out",
                code="conflict",
                path=f"--{model.text_field}",
                value=fields[model.text_field],
            )
        probe = plugin.resolve(synthesizer.info["model"], "sweeps")(synthesizer, data, limit=args.limit)
    elif model.text_field in fields:
        probe = Probe([{model.text_field: fields.pop(model.text_field)}])
    else:
        probe = Probe([request.model_dump(exclude_unset=True) for request in model.preview_requests()])
    console = Console(stderr=True)
    result = sweep(
        synthesizer, probe, values, fields, repeats=args.repeats, batch_size=args.batch_size,
        track=lambda turns: track(turns, "sweeping", console=console, disable=not sys.stderr.isatty()),
    )  # fmt: skip
    tables().print(result.table())
    result.to_json(args.json)
    draw(result.figure(), args.plot)
    print(f"numbers: {args.json}\npicture: {args.plot}")
    return 0


def split(name: str, text: str) -> list[str]:
    """Split at commas that stand outside of brackets; raises ``RequestError`` where a value is empty."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise RequestError(
            f"--{name}={text} has an empty value: write --{name}=VALUE,VALUE,…",
            code="empty",
            path=f"--{name}",
            value=text,
        )
    return parts
