"""``unisono data audit RECIPE [--data.root=DIR]``: what would be trained on, and what is dropped and why."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono data` takes."""
    parser.add_argument("action", choices=("audit",))
    parser.add_argument("recipe", help="a recipe's name or file; --data.root=DIR and other overrides may follow")
    parser.add_argument("--json", metavar="FILE", help="write the audit as JSON too")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Audit a corpus: print what is kept and what is dropped, with reasons."""
    import json

    from unisono.cli.output import console
    from unisono.files import written_aside
    from unisono.recipe import Recipe

    audit = Recipe.read(args.recipe, rest).build_data().prepare(progress=not args.no_progress)
    console().print(audit.table())
    if args.json:
        with written_aside(args.json) as aside:
            text = json.dumps(audit.to_dict(), indent=1, ensure_ascii=False)
            aside.write_bytes(text.encode("utf-8", "backslashreplace"))
    return 0
