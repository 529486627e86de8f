"""``unisono evaluate CHECKPOINT DATA``: one table, and the same as JSON."""

import argparse
import inspect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono evaluate` takes."""
    parser.add_argument("checkpoint", help="an export: a folder, the name of a model, or a hub id")
    parser.add_argument("data", help="a corpus: a folder or manifest that the plugin reads")
    parser.add_argument("--limit", type=int, default=40, help="items to measure (default 40)")
    parser.add_argument("--json", metavar="FILE", default="evaluation.json", help="where to write the numbers")
    parser.add_argument(
        "--against",
        metavar="CHECKPOINT",
        action="append",
        help="another export to measure on the same items; may be repeated, where the plugin compares models",
    )
    parser.add_argument(
        "--judge",
        metavar="NAME[=WHERE]",
        action="append",
        help="what marks the outputs beside the plugin's own measures, such as NAME=CHECKPOINT; may be repeated, where "
        "the plugin has judges",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        action="append",
        help="what is measured on the same items without the model, instead of the plugin's own choice; may be "
        "repeated, where the plugin has baselines",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--component", action="append", default=[], metavar="ROLE=WHERE", help="replace a component")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Measure an export on a corpus; print the report and write it if asked."""
    from unisono import plugin
    from unisono.cli.output import check_writable, console
    from unisono.errors import UnisonoError
    from unisono.export import load, parse_components

    if args.limit < 1:
        raise UnisonoError(f"--limit {args.limit} must be at least 1", code="range", path="--limit", value=args.limit)
    check_writable(args.json)
    synthesizer = load(args.checkpoint, device=args.device, components=parse_components(args.component))
    evaluate = plugin.resolve(synthesizer.info["model"], "evaluators")
    given = {"against": args.against, "judges": args.judge, "baselines": args.baseline}
    chosen = {name: values for name, values in given.items() if values}
    for name in chosen:
        if name not in inspect.signature(evaluate).parameters:
            flag, what = {
                "against": ("--against", "is measured beside"),
                "judges": ("--judge", "is marked by"),
                "baselines": ("--baseline", "is held against"),
            }[name]
            raise UnisonoError(
                f"{flag}: what a {synthesizer.info['model']} {what} is its plugin's choice; leave it out",
                code="unsupported",
                path=flag,
                value=chosen[name],
            )
    report = evaluate(synthesizer, args.data, limit=args.limit, checkpoint=args.checkpoint, **chosen)
    console().print(report.table())
    report.to_json(args.json)
    print(f"numbers: {args.json}")
    return 0
