"""``unisono package WHERE … --dest DIR``: exports as wheels, which pip installs and ``unisono.load`` finds by name."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono package` takes."""
    parser.add_argument("export", nargs="+", help="exports: folders, names of models or hub ids")
    parser.add_argument("--dest", metavar="DIR", default="dist", help="the folder to write wheels into (default dist)")
    parser.add_argument("--name", help="of the model; by default that of the folder")
    parser.add_argument("--version", default="1.0.0", help="of the packages (default 1.0.0)")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Write a wheel for each export, and print its path."""
    from unisono.errors import RequestError
    from unisono.export.package import write_package

    if args.name is not None and len(args.export) > 1:
        raise RequestError(
            f"--name {args.name!r:.100} is for one export, {len(args.export)} are given: package them one by one",
            code="conflict",
            path="--name",
            value=args.name,
        )
    for export in args.export:
        print(write_package(export, args.dest, name=args.name, version=args.version))
    return 0
