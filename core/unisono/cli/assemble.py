"""Assemble: ``unisono assemble RECIPE DEST``: an export of a model that learns nothing."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono assemble` takes."""
    parser.add_argument("recipe", help="a recipe's name (unisono recipes) or a YAML file")
    parser.add_argument("dest", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace DEST")
    parser.epilog = "any value of the recipe can be given: --components.prior=checkpoints/cifar10"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Make the model and its components, and write them."""
    from unisono.assemble import assemble
    from unisono.export import save_export
    from unisono.recipe import Recipe

    model, _ = assemble(Recipe.read(args.recipe, rest))
    print(f"export: {save_export(model, args.dest, overwrite=args.overwrite)}")
    return 0
