"""``unisono codec``: sound and pictures into .uc files and back, and what is in them; codecs of others imported."""

import argparse
import json
from pathlib import Path

from unisono.errors import UnisonoError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    encode = actions.add_parser("encode", help="a sound or picture into a .uc file")
    encode.add_argument(
        "source", help="wav, flac, ogg or mp3 of any rate; for a codec of pictures png, jpg, webp or such"
    )
    encode.add_argument("file", nargs="?", help="the .uc file to write")
    encode.add_argument("-o", "--output", metavar="FILE", help="the same")
    encode.add_argument("--codec", required=True, metavar="CHECKPOINT", help="an export: folder, name or hub id")
    encode.add_argument("--levels", type=int, help="of sound, levels to code with: fewer are smaller (default: all)")
    encode.add_argument("--latents", type=int, help="of a picture, the first so many latents (default: all)")
    encode.add_argument("--mono", action="store_true", help="of sound, average the channels first")
    encode.add_argument("--device", default="cpu")

    decode = actions.add_parser("decode", help="a .uc file into a sound or picture")
    decode.add_argument("source", metavar="file", help="the .uc file")
    decode.add_argument(
        "file", metavar="target", nargs="?", help="to write: .wav, .flac, .ogg, .opus, .mp3; .png, .jpg, .webp"
    )
    decode.add_argument("-o", "--output", metavar="FILE", help="the same")
    decode.add_argument("--codec", required=True, metavar="CHECKPOINT", help="the export that encoded it")
    decode.add_argument("--latents", type=int, help="of a picture, decode the first so many latents (default: all)")
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
    from unisono_codec.pictures.picture_codec import PictureCodec

    codec, target = _load(args), _target(args)
    if isinstance(codec, PictureCodec):
        from unisono_codec.pictures.coder import encode_picture

        _refuse(args, "a picture", "levels", "mono")
        coded = encode_picture(codec, args.source, target, args.latents)
        for note in coded.notes:
            print(note)
        around = len(coded.content) - coded.message_bytes
        print(
            f"{target}: {coded.header.width} × {coded.header.height}, {len(coded.content)} bytes, "
            f"{coded.bits_per_pixel:.3f} bits a pixel ({around} bytes of header, "
            f"{coded.message_bytes} of {coded.estimated_bits / 8:.0f} estimated)"
        )
        return
    from unisono_sound.signal import probe_audio

    from unisono_codec.files.recordings import encode_file

    _refuse(args, "sound", "latents")
    source = probe_audio(args.source)
    made = encode_file(codec, args.source, target, levels=args.levels, mono=args.mono)
    if source.sample_rate != codec.sample_rate:
        print(f"resampled: {source.sample_rate} Hz to the codec's {codec.sample_rate} Hz")
    if args.mono and source.num_channels > 1:
        print(f"averaged: {source.num_channels} channels into one")
    print(
        f"{target}: {made.seconds:.2f} s, {made.num_bytes} bytes, {made.bit_rate / 1000:.2f} kbit/s "
        f"({made.header.nominal_bit_rate / 1000:.2f} before entropy coding)"
    )


def _decode(args: argparse.Namespace) -> None:
    from unisono_codec.pictures.picture_codec import PictureCodec

    codec, target = _load(args), _target(args)
    if isinstance(codec, PictureCodec):
        from unisono_codec.pictures.coder import decode_picture

        decoded = decode_picture(codec, args.source, target, args.latents)
        part = args.latents is not None and args.latents < decoded.header.latents
        exact = f"the first {args.latents} of {decoded.header.latents} latents" if part else (
            "the encoder's picture to the last bit" if decoded.same else
            "NOT the encoder's picture to the last bit: single values differ by 1 of 255, the latents are the same"
        )  # fmt: skip
        print(f"{target}: {decoded.header.width} × {decoded.header.height}, {exact}")
        return
    from unisono_codec.files.recordings import decode_file

    _refuse(args, "sound", "latents")
    made = decode_file(codec, args.source, target)
    channels = made.header.num_channels
    print(f"{target}: {made.seconds:.2f} s, {made.header.sample_rate} Hz, {channels} channel{'s' * (channels > 1)}")


def _target(args: argparse.Namespace) -> str:
    if (args.file is None) == (args.output is None):
        raise UnisonoError(
            "give the file to write once: as the last argument, or after -o",
            code="missing" if args.file is None else "conflict",
            path="file",
        )
    return args.file or args.output


def _refuse(args: argparse.Namespace, what: str, *names: str) -> None:
    """Raise ``UnisonoError`` for options that this kind of codec has no use for."""
    for name in names:
        if getattr(args, name):
            raise UnisonoError(
                f"--{name} does not go with {what}: leave it out",
                code="conflict",
                path=f"--{name}",
                value=getattr(args, name),
            )


def _info(args: argparse.Namespace) -> None:
    from unisono_codec.files.recordings import describe
    from unisono_codec.files.uc import PICTURE
    from unisono_codec.pictures.picture_file import content_of, kind_of, read_picture

    if kind_of(args.file) == PICTURE:
        from dataclasses import asdict

        content = content_of(Path(args.file))
        header, message = read_picture(content, args.file)
        told = {**asdict(header), "num_bytes": len(content), "message_bytes": len(message),
                "bits_per_pixel": 8 * len(content) / (header.width * header.height)}  # fmt: skip
        if args.json:
            print(json.dumps(told, indent=1))
            return
        rows = [
            ("codec", f"{header.codec}, weights {header.fingerprint}"),
            ("written by", f"unisono {header.versions[0]}, torch {header.versions[1]}"),
            ("picture", f"{header.width} × {header.height}, {header.latents} latents"),
            ("size", f"{len(content)} bytes, {len(message)} of codes, {told['bits_per_pixel']:.3f} bits a pixel"),
        ]
        for name, text in rows:
            print(f"{name:<12}{text}")
        return
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
    from unisono.export import Card, save_export

    from unisono_codec.codecs.imported import from_transformers

    codec = from_transformers(args.folder)
    source = Path(args.folder).resolve().name
    card = Card(data=f"imported from {source!r} in transformers' format", licence=args.licence)
    print(f"export: {save_export(codec, args.dest, card=card, dtype=args.dtype, overwrite=args.overwrite)}")


def _load(args: argparse.Namespace):
    from unisono.export import load

    from unisono_codec.codecs.codec import Codec
    from unisono_codec.pictures.picture_codec import PictureCodec

    synthesizer = load(args.codec, device=args.device)
    if not isinstance(synthesizer.model, Codec | PictureCodec):
        name = synthesizer.info["model"]
        message = (
            f"--codec {args.codec} is a {name}, not a codec: give an export of codec/rvq, codec/qres or their kind"
        )
        raise UnisonoError(message, code="type", path=args.codec, value=name)
    return synthesizer.model
