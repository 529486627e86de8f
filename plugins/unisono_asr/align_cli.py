"""``unisono align``: when each word and phone of a text that is known is said, of one recording or of a corpus."""

import argparse
from pathlib import Path

from unisono.errors import RequestError, UnisonoError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono align` takes."""
    parser.add_argument("checkpoint", help="a recogniser's export: a folder, the name of a model, or a hub id")
    parser.add_argument(
        "audio", help="a recording; or a corpus (a folder with metadata.csv, a table) with --output-dir"
    )
    parser.add_argument("text", nargs="?", help="what is said in the recording")
    parser.add_argument("--text-file", metavar="FILE", help="a file of what is said in the recording")
    parser.add_argument(
        "-o", "--output", metavar="FILE", action="append", default=[],
        help=".TextGrid, .srt, .vtt, or .json; may be repeated",
    )  # fmt: skip
    parser.add_argument("--output-dir", metavar="DIR", help="where a corpus' durations.jsonl and files go")
    parser.add_argument("--suffix", action="append", default=[], help="with --output-dir: a file of each recording too")
    parser.add_argument("--min-fit", type=float, help="how well a text must fit its sound at least, from 0 to 1")
    parser.add_argument("--as-written", action="store_true", help="read numbers as the front end does, not in words")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Align a recording, or a corpus."""
    from unisono.export import load

    from unisono_asr.align import MIN_FIT
    from unisono_asr.aligner import Aligner
    from unisono_asr.hearing import Hearing
    from unisono_asr.reading import reader_of

    _check(args)
    synthesizer = load(args.checkpoint, device=args.device)
    model = synthesizer.model
    if not isinstance(model, Hearing):
        name = synthesizer.info["model"]
        raise RequestError(
            f"{args.checkpoint} is a {name}, which hears nothing: give an export of asr/ctc or its kind",
            code="type",
            path=args.checkpoint,
            value=name,
        )
    # A corpus is read as a voice that is trained on it reads it.
    reader = reader_of(model.facts, normalise=not args.as_written and args.output_dir is None)
    aligner = Aligner(model, MIN_FIT if args.min_fit is None else args.min_fit, reader)
    return _corpus(args, aligner) if args.output_dir is not None else _one(args, aligner)


def _check(args: argparse.Namespace) -> None:
    """Raise for flags that exclude each other, and for places that cannot be written, before anything is loaded."""
    from unisono.cli.output import check_writable
    from unisono.media import TimesWriter

    for suffix in (*(Path(path).suffix for path in args.output), *args.suffix):
        TimesWriter.of(suffix, path="-o")
    if args.output_dir is None:
        if (args.text is None) == (args.text_file is None):
            raise RequestError(
                "what is said? give TEXT or --text-file FILE; a corpus has its own texts, and --output-dir",
                code="missing" if args.text is None else "conflict",
                path="text",
            )
        if not args.output:
            raise RequestError(
                "where should the times go? add -o FILE, such as -o out.TextGrid", code="missing", path="-o"
            )
        for path in args.output:
            check_writable(path)
        return
    given = {"TEXT": args.text, "--text-file": args.text_file, "-o": args.output or None}
    for flag, value in given.items():
        if value is not None:
            raise RequestError(
                f"{flag} is of one recording, --output-dir of a corpus: leave one of them out",
                code="conflict",
                path=flag,
                value=value,
            )


def _one(args: argparse.Namespace, aligner) -> int:
    from unisono.files import read_text

    from unisono_asr.request import sound_of_file

    text = args.text if args.text is not None else read_text(Path(args.text_file))
    found = aligner.align(sound_of_file(args.audio), text)
    for note in found.transcript.notes:
        print(f"note: {note}")
    print(f"fit: {found.fit:.3f} of 1, {len(found.transcript.words)} words in {found.transcript.seconds:.2f} s")
    for path in args.output:
        print(found.transcript.save(path))
    return 0


def _corpus(args: argparse.Namespace, aligner) -> int:
    from rich.console import Console
    from rich.progress import track
    from unisono_sound.corpus import read_manifest

    from unisono_asr.alignments import align_corpus

    manifest = read_manifest(args.audio)
    folder = Path(args.output_dir)
    rows = align_corpus(aligner, manifest, folder, args.suffix)
    kept, left_out = 0, []
    for row in track(rows, "aligning", total=len(manifest), console=Console(stderr=True)):
        kept += row.reason is None
        left_out += [] if row.reason is None else [row]
    left_out += [fault for fault in manifest.failures()]
    print(f"{folder / 'durations.jsonl'}: {kept} of {len(manifest) + len(manifest.faults)} recordings")
    for row in left_out[:20]:
        named = (row["id"], row["reason"]) if isinstance(row, dict) else (row.id, row.reason)
        print(f"left out: {named[0]}: {named[1]}")
    if len(left_out) > 20:
        print(f"and {len(left_out) - 20} more: {folder / 'left_out.jsonl'}")
    if not kept:
        raise UnisonoError(
            f"none of {args.audio}'s recordings could be aligned", code="empty", path="audio", value=args.audio
        )
    return 1 if left_out else 0
