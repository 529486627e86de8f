"""``unisono export RUN DEST``: weights and text only, ready to load, move and publish."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono export` takes."""
    parser.add_argument("run", help="a run folder or a .ckpt")
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
    parser.add_argument("--overwrite", action="store_true", help="replace DEST")
    for name in ("title", "data", "licence", "command", "hardware", "time", "notes"):
        parser.add_argument(f"--{name}", default="", help=f"the card's {name}")
    parser.add_argument(
        "--headline", default="", metavar="METRIC", help="the metric that listings show (default: first)"
    )
    parser.add_argument("--metrics", metavar="FILE", help="a JSON file of measured numbers for the card")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Turn a run's checkpoint into a folder that can be shared."""
    from unisono.errors import CheckpointError, DataError, did_you_mean
    from unisono.export import Card, export_run, parse_components
    from unisono.files import read_json

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
