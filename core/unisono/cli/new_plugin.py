"""New plugin: ``unisono new-plugin NAME`` writes a package to begin a plugin with."""

import argparse

from unisono.scaffold.write import KINDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono new-plugin` takes."""
    parser.add_argument("name", help="of the plugin: small letters and digits, with dashes between, such as note-rows")
    parser.add_argument("--kind", metavar="KIND", default="masked", help=f"{', '.join(KINDS)} (default masked)")
    parser.add_argument("--dest", metavar="DIR", default=".", help="the folder to put unisono-NAME in (default here)")
    parser.epilog = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Write the package, and say what to do next."""
    from unisono.scaffold import new_plugin

    folder = new_plugin(args.name, args.kind, args.dest)
    print(f"{folder}\nnext: pip install -e {folder}")
    print(f"      unisono train {args.name}/{args.name}-tiny")
    print(f"      unisono check {args.name}")
    return 0
