"""``unisono plugins [--strict]``: every plugin with its state; a broken one with its reason."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono plugins` takes."""
    parser.add_argument(
        "--strict", action="store_true", help="import all that plugins name; exit with 1 if anything is not ok"
    )


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """List the plugins that were found, and those that cannot be imported."""
    from rich.table import Table

    from unisono.cli.output import console
    from unisono.plugin import states

    rows = states()
    table = Table("plugin", "distribution", "version", "api", "offers", "state")
    for column in table.columns:
        column.overflow = "fold"
    wrong: list[str] = []
    for row in rows:
        offers = ""
        reason = row.reason
        if row.plugin is not None:
            verbs = "".join(f", unisono {verb}" for verb in row.plugin.verbs)
            offers = f"{len(row.plugin.models)} models, {len(row.plugin.data)} data sets{verbs}: {row.plugin.summary}"
            if args.strict and (lost := list(pointing_nowhere(row.plugin))):
                wrong += lost
                reason = f"{len(lost)} of its names point nowhere"
        api = row.plugin.api if row.plugin else "?"
        table.add_row(row.found.name, row.found.distribution, row.found.version, api, offers, reason)
    console().print(table)
    for sentence in wrong:
        print(sentence)
    return int(args.strict and (bool(wrong) or not all(row.ok for row in rows)))


def pointing_nowhere(plugin: Any):
    """Yield a sentence for each name of a manifest that cannot be imported, or stands for something else.

    A package that is not installed is no fault of the plugin's; its extra says how to install it.
    """
    from unisono.errors import UnisonoError
    from unisono.media import TimesFormat
    from unisono.plugin import import_string

    named = [
        (f"{role}: {name!r}", target)
        for role in ("models", "data", "evaluators", "sweeps", "importers", "times")
        for name, target in getattr(plugin, role).items()
    ]
    named += [(f"verbs: {name!r}", f"{verb.module}:run") for name, verb in plugin.verbs.items()]
    named += [("routes", target) for target in plugin.routes]
    for what, target in named:
        try:
            found = import_string(target)
        except ModuleNotFoundError as error:
            own = target.partition(":")[0].partition(".")[0]
            if (error.name or own).partition(".")[0] == own or (error.name or "").startswith("unisono"):
                yield f"{plugin.name}: {what} points at {target}: {error}"
            continue
        except UnisonoError:  # a package that is missing, as its own sentence says
            continue
        except Exception as error:  # whatever a stranger's module raises
            yield f"{plugin.name}: {what} points at {target}: {type(error).__name__}: {error}"
            continue
        if what.startswith("times: "):
            if not isinstance(found, TimesFormat):
                yield f"{plugin.name}: {what} points at {target}, a {type(found).__name__} and no TimesFormat"
        elif not callable(found):
            yield f"{plugin.name}: {what} points at {target}, a {type(found).__name__} that cannot be called"
    for role in ("evaluators", "sweeps"):
        for name in getattr(plugin, role):
            if name not in plugin.models:
                yield f"{plugin.name}: {role}: {name!r} is none of its models"
    if plugin.recipes is not None:
        from unisono.plugin import recipe_names

        try:
            recipe_names(plugin)
        except Exception as error:
            yield f"{plugin.name}: recipes: {plugin.recipes!r} cannot be read: {type(error).__name__}: {error}"
