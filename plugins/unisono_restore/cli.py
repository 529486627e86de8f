"""``unisono restore``: recordings of any length, or a folder of them, restored into files."""

import argparse
from pathlib import Path

from unisono.errors import RequestError, UnisonoError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono restore` takes."""
    parser.add_argument("checkpoint", help="a restorer's export: a folder, the name of a model, or a hub id")
    parser.add_argument("source", nargs="?", help="a recording, or a folder of them at any depth")
    parser.add_argument(
        "target", nargs="?", help="the restored recording (.wav, .w64, .flac, .ogg, .mp3), or a folder for them"
    )
    parser.add_argument("--suffix", default="", help="format of a folder's copies, such as .flac; each source's own")
    parser.add_argument("--overwrite", action="store_true", help="write over what stands there")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--field",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a field of the model's request, such as strength=0.5 (unisono generate CHECKPOINT --help lists them)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="restore nothing: tell what a million hours take, by a factor measured on a minute of the source",
    )
    parser.add_argument(
        "--assume",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="of --estimate, such as hours=5e4, devices=[8,64] or factor=0.05, which then needs no source; a NAME that "
        "is none lists them",
    )


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Restore a recording, or a folder; 1 where a recording of it could not be."""
    from unisono.cli.fields import request_flags
    from unisono.export import load

    from unisono_restore.estimate import Assumed, measure, table
    from unisono_restore.files import restore_file, restore_folder
    from unisono_restore.restorer import Restorer

    _check_places(args)
    assumed = Assumed.parse(**request_flags(Assumed, [f"--{item}" for item in args.assume])[0])
    synthesizer = load(args.checkpoint, device=args.device)
    model = synthesizer.model
    if not isinstance(model, Restorer):
        name = synthesizer.info["model"]
        raise RequestError(
            f"{args.checkpoint} is a {name}, which restores nothing: give an export of restore/ap-bwe or its kind",
            code="type",
            path=args.checkpoint,
            value=name,
        )
    fields, _ = request_flags(model.Request, [f"--{field}" for field in args.field])
    if given := sorted({"audio", "samples", "sample_rate"} & set(fields)):
        raise RequestError(
            f"--field {given[0]}: the sound is the source's; leave it out", code="conflict", path=f"--field {given[0]}"
        )
    if args.estimate:
        measured = None if args.source is None else measure(synthesizer, args.source, **fields)
        print(table(assumed, measured, model.sample_rate, model.device.type))
        return 0
    if not Path(args.source).is_dir():
        if args.suffix:
            raise RequestError(
                "--suffix is of a folder's copies: end the target in it", code="conflict", path="--suffix"
            )
        made = restore_file(model, args.source, args.target, overwrite=args.overwrite, **fields)
        print(made)
        return 0
    count = failed = 0
    for found in restore_folder(
        model, args.source, args.target, suffix=args.suffix, overwrite=args.overwrite, **fields
    ):
        if isinstance(found, UnisonoError):
            failed += 1
            print(f"not restored: {found}")
        else:
            count += 1
            print(found)
    print(f"{count} restored, {failed} not")
    return int(failed > 0)


def _check_places(args: argparse.Namespace) -> None:
    """Refuse a source or a target that is missing, or one too many."""
    if args.estimate and args.target is not None:
        raise RequestError(
            f"--estimate writes nothing: leave out {args.target}", code="conflict", path="target", value=args.target
        )
    if args.assume and not args.estimate:
        raise RequestError("--assume is of --estimate: give that too", code="conflict", path="--assume")
    if not args.estimate and args.target is None:
        raise RequestError(
            "give a source and a target, each a recording or a folder, or --estimate", code="missing", path="target"
        )
