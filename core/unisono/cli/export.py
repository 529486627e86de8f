"""``unisono export RUN DEST``: weights and text only, ready to load, move and publish; or graphs for small runtimes."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono export` takes."""
    parser.add_argument("run", help="a run folder or a .ckpt; with --format also an export or a hub id")
    parser.add_argument("dest", help="the folder to write")
    dtypes = ("float32", "float16", "bfloat16")
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="weights on disk")
    parser.add_argument(
        "--component",
        action="append",
        default=[],
        metavar="ROLE=WHERE",
        help="a component that travels inside, such as vocoder=checkpoints/vocoder",
    )
    parser.add_argument(
        "--adapters",
        choices=("merge", "keep", "alone"),
        default="merge",
        help="of a run with adapters: merge them into a plain model (default), keep both, or write them alone",
    )
    parser.add_argument("--base", metavar="WHERE", help="RUN holds adapters alone: the export to merge them with")
    parser.add_argument("--best", action="store_true", help="the best state that run.keep_best kept, not the newest")
    parser.add_argument(
        "--format",
        choices=("onnx", "torch"),
        help="write graphs for ONNX runtimes or torch.export instead of an export",
    )
    parser.add_argument("--int8", action="store_true", help="with --format onnx: weights of large layers in 8 bits")
    parser.add_argument("--overwrite", action="store_true", help="replace DEST")
    for name in ("title", "data", "licence", "command", "hardware", "time", "notes"):
        parser.add_argument(f"--{name}", default="", help=f"the card's {name}")
    parser.add_argument(
        "--headline", default="", metavar="METRIC", help="the metric that listings show (default: first)"
    )
    parser.add_argument("--metrics", metavar="FILE", help="a JSON file of measured numbers for the card")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Turn a run's checkpoint into a folder that can be shared."""
    from unisono.errors import CheckpointError, DataError, RequestError, did_you_mean
    from unisono.export import Card, export_run, parse_components
    from unisono.files import read_json

    if args.format:
        return _write_graphs(args)
    if args.int8:
        message = "--int8 is for graphs: add --format onnx"
        raise RequestError(message, code="conflict", path="--int8", value=True)
    metrics = {}
    if args.metrics:
        try:
            metrics = read_json(args.metrics)
            if not isinstance(metrics, dict):
                raise DataError("it holds no object", code="format", path=args.metrics)
        except DataError as error:
            raise CheckpointError(
                f"--metrics {args.metrics!r:.200} is not a readable JSON file: {error}",
                code=error.code,
                path="--metrics",
                value=args.metrics,
            ) from None
    if args.headline and args.headline not in metrics:
        raise CheckpointError(
            f"--headline {args.headline!r:.100} is none of the metrics{did_you_mean(args.headline[:100], metrics)}",
            code="unknown",
            path="--headline",
            value=args.headline,
        )
    told = (args.title, args.data, args.licence, args.command, args.hardware, args.time)
    card = Card(*told, metrics, args.notes, args.headline)
    source = args.run
    if args.best:
        from unisono.export.best import find_best_state

        source, kept, monitor = find_best_state(args.run)
        print(f"best: step {kept.step}, {monitor} {kept.value:.6g}")
    folder = export_run(
        source,
        args.dest,
        card=card,
        dtype=args.dtype,
        components=parse_components(args.component),
        overwrite=args.overwrite,
        adapters=args.adapters,
        base=args.base,
    )
    print(f"export: {folder}")
    return 0


OF_EXPORTS = ("overwrite", "headline", "title", "data", "licence", "command", "hardware", "time", "notes", "metrics")
"""Flags that say something of an export, and nothing of graphs."""
OF_RUNS = ("adapters", "base", "best")
"""Flags that choose what of a run is taken."""


def _write_graphs(args: argparse.Namespace) -> int:
    """Write the graphs of a run or an export."""
    from tempfile import TemporaryDirectory

    from unisono.errors import RequestError
    from unisono.export import INFO, export_run, find, load, parse_components
    from unisono.export.read import STATES
    from unisono.files import is_file
    from unisono.graphs import MANIFEST, write_graphs

    where = find(args.run)
    is_run = where.is_file() or (not is_file(where / INFO) and any(any(where.glob(state)) for state in STATES))
    defaults = {"adapters": "merge", "dtype": "float32"}
    for name in (*OF_EXPORTS, "dtype", *(() if is_run else OF_RUNS)):
        value = getattr(args, name)
        if value and value != defaults.get(name):
            what = "a run" if name in OF_RUNS else "an export"
            message = f"--{name} is for {what}, and {args.run!r:.80} becomes graphs here: leave it out"
            raise RequestError(message, code="conflict", path=f"--{name}", value=value)
    components = parse_components(args.component)
    with TemporaryDirectory(prefix="unisono-") as folder:
        source: Any = where
        if is_run:
            source = where
            if args.best:
                from unisono.export.best import find_best_state

                source, _, _ = find_best_state(args.run)
            source = export_run(
                source, f"{folder}/export", components=components, adapters=args.adapters, base=args.base
            )
            components = {}
        model = load(source, components=components).model
        manifest = write_graphs(model, args.dest, args.format, int8=args.int8)
    for name, graph in manifest["graphs"].items():
        layers = f", {graph['int8_layers']} layers in int8" if args.int8 else ""
        print(f"{name}: {graph['file']}, {graph['bytes'] / 1e6:.1f} MB{layers}")
    print(f"graphs: {args.dest}/{MANIFEST}")
    return 0
