"""Recipes: ``unisono recipes`` lists; ``unisono recipes copy NAME DEST`` copies one to edit."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono recipes` takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    copy = actions.add_parser("copy", help="copy a recipe out, to edit and train by path")
    copy.add_argument("name")
    copy.add_argument("dest", help="a folder or a .yaml file")
    show = actions.add_parser("show", help="print a recipe as it lies in the package")
    show.add_argument("name")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """List, show or copy recipes."""
    from pathlib import Path

    from unisono.errors import RecipeError
    from unisono.files import written_aside
    from unisono.recipe import all_recipes, find_recipe

    if args.action is None:
        from rich.table import Table

        from unisono.cli.output import console

        table = Table("recipe", "what")
        for name, resource in all_recipes().items():
            first = resource.read_text(encoding="utf-8").partition("\n")[0]
            table.add_row(name, first.lstrip("# "))
        console().print(table)
        return 0
    resource, name = find_recipe(args.name)
    text = resource.read_text(encoding="utf-8")
    if args.action == "show":
        print(text, end="")
        return 0
    dest = Path(args.dest)
    if dest.suffix not in (".yaml", ".yml"):
        dest = dest / f"{name}.yaml"
    if dest.exists():
        raise RecipeError(f"{str(dest)!r} exists: give another name", code="exists", path=dest)
    with written_aside(dest, RecipeError) as aside:
        aside.write_text(text, encoding="utf-8")
    print(f"{dest}\nnext: unisono train {dest}")
    return 0
