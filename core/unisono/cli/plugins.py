"""``unisono plugins [--strict]``: every plugin with its state; a broken one with its reason."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono plugins` takes."""
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any plugin is not ok")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """List the plugins that were found, and those that cannot be imported."""
    from rich.console import Console
    from rich.table import Table

    from unisono.plugin import states

    rows = states()
    table = Table("plugin", "distribution", "version", "api", "offers", "state")
    for row in rows:
        offers = ""
        if row.plugin is not None:
            verbs = "".join(f", unisono {verb}" for verb in row.plugin.verbs)
            offers = f"{len(row.plugin.models)} models, {len(row.plugin.data)} data sets{verbs}: {row.plugin.summary}"
        api = row.plugin.api if row.plugin else "?"
        table.add_row(row.found.name, row.found.distribution, row.found.version, api, offers, row.reason)
    Console().print(table)
    return int(args.strict and not all(row.ok for row in rows))
