"""``unisono control``: record demonstrations of a scripted expert, say what is in them, and replay them."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    record = actions.add_parser("record", help="demonstrations of an environment's expert, into a folder")
    record.add_argument("environment", help="by name: table, lander, or one that was registered")
    record.add_argument("folder", help="the folder to write")
    record.add_argument("--episodes", type=int, default=1000, help="episodes to record (default 1000)")
    record.add_argument("--first-seed", type=int, default=0, help="seed of the first; the others follow (default 0)")
    record.add_argument("--noise-share", type=float, default=0.3, help="share of episodes with noise (default 0.3)")
    record.add_argument(
        "--noise-scale", type=float, default=0.1, help="its standard deviation, of an action's range (default 0.1)"
    )
    record.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the environment; may be repeated"
    )

    replay = actions.add_parser("replay", help="play demonstrations again: does the environment do the same?")
    replay.add_argument("folder", help="demonstrations")
    replay.add_argument("--limit", type=int, help="episodes to replay (default: all)")

    info = actions.add_parser("info", help="what a folder of demonstrations holds")
    info.add_argument("folder", help="demonstrations")

    actions.add_parser("environments", help="environments that are known")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Carry the chosen action out."""
    return {"record": _record, "replay": _replay, "info": _info, "environments": _environments}[args.action](args)


def _record(args: argparse.Namespace) -> int:
    from unisono.errors import UnisonoError

    from unisono_control.demonstrations.record import NoiseSpec, record

    for name, value, least in (("--episodes", args.episodes, 1), ("--first-seed", args.first_seed, 0)):
        if value < least:
            raise UnisonoError(f"{name} {value} must be at least {least}", code="range", path=name, value=value)
    settings = dict(_setting(pair) for pair in args.set)
    noise = NoiseSpec(share=args.noise_share, scale=args.noise_scale)
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    found, audit = record(args.environment, settings, seeds, noise, progress=True)
    found.save(args.folder)
    for item in audit.dropped[:5]:
        print(f"dropped {item.id}: {item.reason} ({item.detail})")
    print(f"{args.folder}: {audit.kept} episodes, {len(found.states)} steps, {len(audit.dropped)} dropped")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from unisono.errors import UnisonoError

    from unisono_control.demonstrations.record import replay
    from unisono_control.demonstrations.store import Demonstrations

    if args.limit is not None and args.limit < 1:
        raise UnisonoError(f"--limit {args.limit} must be at least 1", code="range", path="--limit", value=args.limit)
    found = Demonstrations.read(args.folder)
    wrong = replay(found, args.limit)
    for sentence in wrong[:5]:
        print(sentence)
    count = len(found.episodes[: args.limit])
    print(f"{count - len(wrong)} of {count} episodes come out as recorded ({found.spec.version})")
    return int(bool(wrong))


def _info(args: argparse.Namespace) -> int:
    from collections import Counter

    from unisono_control.demonstrations.store import Demonstrations

    found = Demonstrations.read(args.folder)
    kinds = Counter(row.kind for row in found.episodes if row.kind)
    steps, noisy = len(found.states), sum(row.noise > 0 for row in found.episodes)
    rows = [
        ("environment", f"{found.spec.name} ({found.spec.version}), settings {json.dumps(found.settings)}"),
        ("episodes", f"{len(found.episodes)}, {noisy} with noise, {steps / len(found.episodes):.1f} steps on average"),
        ("seeds", f"{found.episodes[0].seed} to {found.episodes[-1].seed}"),
        ("state", ", ".join(found.spec.state_names)),
        ("actions", ", ".join(found.spec.action_names)),
        ("kinds", f"{len(kinds)}" if kinds else "one"),
    ]
    for name, text in rows:
        print(f"{name:<13}{text}")
    return 0


def _environments(args: argparse.Namespace) -> int:
    from unisono_control.environments import environment_names

    print("\n".join(environment_names()))
    return 0


def _setting(pair: str) -> tuple[str, object]:
    """Return the name and the value of NAME=VALUE, numbers as numbers."""
    from unisono.errors import UnisonoError

    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise UnisonoError(f"--set {pair!r} is not of the form NAME=VALUE", code="format", path="--set", value=pair)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
