"""``unisono curves RUN …``: what runs logged while they trained, drawn beside each other."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono curves` takes."""
    parser.add_argument("runs", nargs="+", metavar="run", help="a run folder; one of numbered runs is its newest")
    parser.add_argument("-o", "--output", metavar="FILE", default="curves.png", help="where to draw (curves.png)")
    parser.add_argument("--tag", action="append", metavar="TAG", help="what to draw; default train/loss and val/loss")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Draw the curves, and say where each ends."""
    from unisono.cli.output import check_drawable, draw
    from unisono.train.curves import draw_curves, read_curves, select_curves

    check_drawable(args.output)
    chosen = select_curves([read_curves(run) for run in args.runs], args.tag)
    for tag, curves in chosen.items():
        for curve in curves:
            print(f"{curve.run}  {tag}  {curve.values[-1]:.4f} at step {curve.steps[-1]}")
    draw(draw_curves(chosen), args.output)
    print(f"picture: {args.output}")
    return 0
