"""Train: ``unisono train NAME_OR_PATH [--section.key=value …] [--resume [WHERE]] [--dry-run]``."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono train` takes."""
    parser.add_argument("recipe", help="a recipe's name (unisono recipes) or a YAML file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="WHERE",
        help="go on with the newest run of this recipe, or with a run folder or .ckpt",
    )
    parser.add_argument("--dry-run", action="store_true", help="prepare the data, build the model, train nothing")
    parser.add_argument("--no-progress", action="store_true", help="lines instead of progress bars")
    parser.epilog = "any value of the recipe can be given: --data.root=DIR --trainer.max_steps=1000"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Train by a recipe; print where the run is and how to export it."""
    from unisono.recipe import Recipe

    recipe = Recipe.read(args.recipe, rest)
    from unisono.train import train

    result = train(recipe, resume=args.resume, dry_run=args.dry_run, progress=not args.no_progress)
    if result is not None:
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        rank_zero_only(print)(f"run: {result.folder}\nnext: unisono export {result.folder} DEST")
    return 0
