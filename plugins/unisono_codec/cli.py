"""``unisono codec``: encode sound into .uc files, decode them, say what is in them; and import codecs of others."""

import argparse
import json

from unisono.errors import UnisonoError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    encode = actions.add_parser("encode", help="a sound file into a .uc file")
    encode.add_argument("sound", help="wav, flac, ogg or mp3, of any rate; each channel is coded by itself")
    encode.add_argument("file", help="the .uc file to write")
    encode.add_argument("--codec", required=True, metavar="CHECKPOINT", help="an export: folder, name or hub id")
    encode.add_argument("--levels", type=int, help="levels to code with: fewer are smaller and coarser (default: all)")
    encode.add_argument("--mono", action="store_true", help="average the channels first")
    encode.add_argument("--device", default="cpu")

    decode = actions.add_parser("decode", help="a .uc file into a sound file")
    decode.add_argument("file", help="the .uc file")
    decode.add_argument("sound", help="the sound file to write: .wav, .flac, .ogg, .opus or .mp3")
    decode.add_argument("--codec", required=True, metavar="CHECKPOINT", help="the export that encoded it")
    decode.add_argument("--device", default="cpu")

    info = actions.add_parser("info", help="what a .uc file holds; needs no codec")
    info.add_argument("file", help="the .uc file")
    info.add_argument("--json", action="store_true", help="as JSON")

    take = actions.add_parser("import", help="EnCodec or DAC in transformers' format into an export")
    take.add_argument("folder", help="a folder with config.json and model.safetensors")
    take.add_argument("dest", help="the export folder to write")
    take.add_argument("--licence", default="", help="of the weights, for the card")
    take.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    take.add_argument("--overwrite", action="store_true", help="replace an export that is there")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    """Carry the chosen action out."""
    {"encode": _encode, "decode": _decode, "info": _info, "import": _import}[args.action](args)


def _encode(args: argparse.Namespace) -> None:
    from unisono_sound.signal import probe_audio

    from unisono_codec.files.recordings import encode_file

    source = probe_audio(args.sound)
    codec = _load(args)
    made = encode_file(codec, args.sound, args.file, levels=args.levels, mono=args.mono)
    if source.sample_rate != codec.sample_rate:
        print(f"resampled: {source.sample_rate} Hz to the codec's {codec.sample_rate} Hz")
    if args.mono and source.num_channels > 1:
        print(f"averaged: {source.num_channels} channels into one")
    print(
        f"{args.file}: {made.seconds:.2f} s, {made.num_bytes} bytes, {made.bit_rate / 1000:.2f} kbit/s "
        f"({made.header.nominal_bit_rate / 1000:.2f} before entropy coding)"
    )


def _decode(args: argparse.Namespace) -> None:
    from unisono_codec.files.recordings import decode_file

    made = decode_file(_load(args), args.file, args.sound)
    channels = made.header.num_channels
    print(f"{args.sound}: {made.seconds:.2f} s, {made.header.sample_rate} Hz, {channels} channel{'s' * (channels > 1)}")


def _info(args: argparse.Namespace) -> None:
    from unisono_codec.files.recordings import describe

    found = describe(args.file)
    if args.json:
        print(json.dumps(found.to_dict(), indent=1))
        return
    header = found.header
    groups = 1 + max(group for group, _ in header.streams)
    rows = [
        ("codec", f"{header.codec}, weights {header.fingerprint}"),
        ("written by", f"unisono {header.version}"),
        ("sound", f"{found.seconds:.2f} s, {found.num_samples} samples of {header.num_channels} channel(s) "
                  f"at {header.sample_rate} Hz"),
        ("codes", f"{len(header.streams) // groups} levels × {groups} group(s) of {header.codebook_size}, "
                  f"{header.sample_rate / header.hop_length:.2f} frames a second"),
        ("bit rate", f"{found.bit_rate / 1000:.2f} kbit/s in all, {found.payload_bit_rate / 1000:.2f} of codes, "
                     f"{header.nominal_bit_rate / 1000:.2f} before entropy coding"),
        ("size", f"{found.num_bytes} bytes, chunks: "
                 + ", ".join(f"{count} of {name}" for name, count in found.codings.items() if count)),
    ]  # fmt: skip
    for name, text in rows:
        print(f"{name:<12}{text}")


def _import(args: argparse.Namespace) -> None:
    from pathlib import Path

    from unisono.export import Card, save_export

    from unisono_codec.codecs.imported import from_transformers

    codec = from_transformers(args.folder)
    source = Path(args.folder).resolve().name
    card = Card(data=f"imported from {source!r} in transformers' format", licence=args.licence)
    print(f"export: {save_export(codec, args.dest, card=card, dtype=args.dtype, overwrite=args.overwrite)}")


def _load(args: argparse.Namespace):
    from unisono.export import load

    from unisono_codec.codecs.codec import Codec

    synthesizer = load(args.codec, device=args.device)
    if not isinstance(synthesizer.model, Codec):
        name = synthesizer.info["model"]
        message = f"--codec {args.codec} is a {name}, not a codec: give an export of codec/rvq or its kind"
        raise UnisonoError(message, code="type", path=args.codec, value=name)
    return synthesizer.model
