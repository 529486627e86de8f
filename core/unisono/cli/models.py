"""``unisono models``: what can be loaded by name here; ``unisono models show NAME``: what one says of itself."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono models` takes."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="print what a model can be asked, its components, data, licence and figures")
    show.add_argument("name", help="an export: a folder, the name of a model, or a hub id")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """List models, or show one."""
    return show(args.name, args.json) if args.action == "show" else listing(args.json)


def listing(as_json: bool) -> int:
    """Print a row for each model package that is installed and each export in ``./checkpoints``; return 0."""
    from unisono.errors import UnisonoError
    from unisono.export import About
    from unisono.export.names import SHELF, on_the_shelf, packages

    offers = [(p.name, p.name, f"{p.distribution} {p.version}") for p in packages()]
    taken = {name for name, _, _ in offers}
    # An export of the same name as a package is loaded by its path.
    offers += [(str(path) if name in taken else name, path, str(path)) for name, path in on_the_shelf()]
    rows: list[dict[str, Any]] = []
    for name, asked, where in offers:
        row: dict[str, Any] = {"name": name, "where": where}
        try:
            about = About.read(asked)
            row |= about.summary()
        except UnisonoError as error:
            row["error"] = str(error)
        rows.append(row)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    if not rows:
        print(f"no model package is installed, and no export lies in {Path(SHELF).absolute()}")
        return 0
    from rich.markup import escape
    from rich.table import Table

    from unisono.cli.output import console

    table = Table("name", "model", "output", "size", "licence", "headline figure", "where")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        if "error" in row:
            table.add_row(escape(row["name"]), "?", "?", "?", "?", escape(row["error"]), escape(row["where"]))
            continue
        licence, headline = row["licence"] or "not stated", cut(row["headline"])
        cells = (row["name"], row["model"], row["output"], sized(row["bytes"]), licence, headline, row["where"])
        table.add_row(*(escape(cell) for cell in cells))
    console().print(table)
    return 0


def show(name: str, as_json: bool) -> int:
    """Print all that an export says of itself; return 0."""
    from unisono.cli.fields import describe_fields
    from unisono.export import About
    from unisono.model import choices_of

    about = About.read(name)
    if as_json:
        print(json.dumps(about.to_json(), indent=1, ensure_ascii=False))
        return 0
    info, kind = about.info, about.kind
    rows = [
        ("model", f"{about.model}, makes {about.output}"),
        ("from", str(about.source)),
        ("size", f"{info.get('parameters', 0):,} parameters, {sized(about.size)}"),
        ("licence", about.stated("licence") or "not stated"),
        ("data", about.stated("data") or "not stated"),
        ("made with", f"unisono {info.get('unisono')} ({info.get('distribution')}), plugin API {info['api']}"),
    ]
    lines = [about.stated("title") or name, "", *(f"{key:<11}{value}" for key, value in rows)]
    lines += ["", "components:", *(f"  {role:<16}{model}" for role, model in about.components.items())]
    lines += [] if about.components else ["  none"]
    lines += ["", "fields of its request:"]
    lines += [f"  {line}" for line in describe_fields(kind.Request, choices_of(kind, info["facts"]))]
    if about.figures:
        lines += ["", "figures:", *(f"  {key}: {value}" for key, value in about.figures.items())]
    print("\n".join(lines))
    return 0


def cut(text: str, most: int = 60) -> str:
    """Return a text for a column of a table, cut after ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def sized(size: int) -> str:
    """Return a number of bytes as people read it: ``9.8 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"
