"""Tune: ``unisono tune RECIPE --optim.lr=1e-4..1e-2:log … [--ranges FILE] [--trials N] [--monitor val/loss]``."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono tune` takes."""
    parser.add_argument("recipe", help="a recipe's name (unisono recipes) or a YAML file")
    parser.add_argument("--ranges", metavar="FILE", help="a YAML file of lines such as  optim.lr: 1e-4..1e-2:log")
    parser.add_argument("--trials", type=int, default=20, help="of the study in all, earlier ones counted (default 20)")
    parser.add_argument("--monitor", default="val/loss", metavar="TAG", help="a logged value (default val/loss)")
    parser.add_argument("--mode", choices=("min", "max"), default="min", help="whether it should be low or high")
    parser.add_argument("--study", metavar="FOLDER", help="where it is kept, and goes on (default runs/tune/RECIPE)")
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe", help="how values are chosen")
    parser.add_argument("--prune", choices=("median", "none"), default="median", help="which trials end early")
    parser.add_argument("--no-progress", action="store_true", help="lines instead of progress bars")
    parser.epilog = (
        "ranges: --optim.lr=1e-4..1e-2:log --model.network.num_layers=2..6 '--optim.schedule=cosine|linear'; "
        "other values of the recipe can be given, too: --trainer.max_steps=500"
    )


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Search, print the table, and say where the best recipe is."""
    from unisono.cli.output import console
    from unisono.recipe import Recipe
    from unisono.tune import tune

    ranges, overrides = split_ranges(rest)
    if args.ranges:
        from unisono.errors import RecipeError
        from unisono.tune import read_ranges

        for path, given in read_ranges(args.ranges).items():
            if path in ranges:
                raise RecipeError(
                    f"{path} is in --ranges {args.ranges!r:.200} and on the command line: remove one",
                    code="conflict",
                    path=path,
                )
            ranges[path] = given
    study = tune(
        Recipe.read(args.recipe, overrides),
        ranges,
        trials=args.trials,
        monitor=args.monitor,
        mode=args.mode,
        folder=args.study,
        sampler=args.sampler,
        prune=args.prune,
        progress=not args.no_progress,
    )
    console().print(study.table())
    print(f"study: {study.folder}")
    if study.best is not None:
        print(f"next: unisono train {study.folder / 'best.yaml'}")
    return 0


def split_ranges(rest: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Tell ``--key=RANGE`` from other values of the recipe, which are returned as they are."""
    from unisono.tune import looks_like_range, read_range

    ranges: dict[str, Any] = {}
    others: list[str] = []
    rest = list(rest)
    while rest:
        item = rest.pop(0)
        key, equals, value = item.partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if key.startswith("--") and looks_like_range(value):
            ranges[key[2:]] = read_range(key[2:], value)
        else:
            others += [f"{key}={value}"] if equals or value else [item]
    return ranges, others
