"""``unisono branches``: write problems for branches and lists for workers, and check tagged texts."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    sums = actions.add_parser("sums", help="problems of several sums, with their solutions, as JSON lines")
    sums.add_argument("file", help="the file to write")
    sums.add_argument("--count", type=int, default=200, help="problems to write (default 200)")
    sums.add_argument("--first-seed", type=int, default=10**9, help="of the first; the others follow (default 10⁹)")
    sums.add_argument("--branches", type=int, nargs=2, default=(2, 6), metavar=("LEAST", "MOST"), help="sums of each")
    sums.add_argument("--terms", type=int, nargs=2, default=(2, 6), metavar=("LEAST", "MOST"), help="terms of a sum")

    lists = actions.add_parser("lists", help="lists of letters to sort, one a line")
    lists.add_argument("file", help="the file to write")
    lists.add_argument("--count", type=int, default=200, help="lists to write (default 200)")
    lists.add_argument("--first-seed", type=int, default=10**9, help="of the first; the others follow (default 10⁹)")
    lists.add_argument("--max-items", type=int, default=12, help="letters of a list at most (default 12)")

    check = actions.add_parser("check", help="what a file of tagged texts holds, and why lines of it cannot be used")
    check.add_argument("file", help="JSON lines of prompt and text")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Carry the chosen action out."""
    return {"sums": _sums, "lists": _lists, "check": _check}[args.action](args)


def _sums(args: argparse.Namespace) -> int:
    from unisono_branches.corpus.sums import SumSizes, make_problem

    branches, terms = args.branches, args.terms
    sizes = SumSizes(min_branches=branches[0], max_branches=branches[1], min_terms=terms[0], max_terms=terms[1])
    problems = {}
    for seed in _seeds(args):
        problem = make_problem(seed, sizes)
        problems[problem.prompt] = json.dumps(problem.model_dump())
    return _write(args.file, list(problems.values()), "problems", args.count)


def _lists(args: argparse.Namespace) -> int:
    from unisono.errors import UnisonoError

    from unisono_branches.corpus.sorting import LETTERS, make_list

    if not 2 <= args.max_items <= len(LETTERS):
        raise UnisonoError(
            f"--max-items {args.max_items} must be from 2 to {len(LETTERS)}",
            code="range",
            path="--max-items",
            value=args.max_items,
        )
    lists = dict.fromkeys(make_list(seed, args.max_items) for seed in _seeds(args))
    return _write(args.file, list(lists), "lists", args.count)


def _check(args: argparse.Namespace) -> int:
    from rich.console import Console

    from unisono_branches.corpus.tagged import TaggedData

    module = TaggedData(root=args.file, context=2**20, val_size=0, batch_size=1)
    Console().print(module.prepare(progress=False).table())
    return 0


def _seeds(args: argparse.Namespace) -> range:
    from unisono.errors import UnisonoError

    for name, value, least in (("--count", args.count, 1), ("--first-seed", args.first_seed, 0)):
        if value < least:
            raise UnisonoError(f"{name} {value} must be at least {least}", code="range", path=name, value=value)
    return range(args.first_seed, args.first_seed + args.count)


def _write(file: str, lines: list[str], what: str, asked: int) -> int:
    from unisono.errors import UnisonoError
    from unisono.files import written_aside

    with written_aside(file, UnisonoError) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    twice = f", {asked - len(lines)} came twice" if len(lines) < asked else ""
    print(f"{file}: {len(lines)} {what}{twice}")
    return 0
