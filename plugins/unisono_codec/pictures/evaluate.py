"""Evaluation of picture codecs: real files, beside JPEG, WebP and AVIF at the same PSNR, picture by picture.

::

    picture ─ codec ─ file ─ picture: PSNR                   one point for the codec, and one for each ``--against``
            ─ each format, at the quality with that PSNR ─ bytes

Bytes are of whole files, and without headers beside it: of small pictures these are a large part. Several exports, one
for each ``distortion_weight``, make a rate–distortion curve.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import track
from unisono.data import derive_seed
from unisono.errors import DataError, UnisonoError
from unisono.evaluation import Probe, Report, Row, Section
from unisono.files import is_folder, walk
from unisono.media.pictures import IMAGE_SUFFIXES

from unisono_codec.pictures.coder import PictureCoder
from unisono_codec.pictures.data import folder_of, roots_of
from unisono_codec.pictures.formats import formats, psnr, size_at
from unisono_codec.pictures.picture_codec import PictureCodec
from unisono_codec.pictures.reading import read_picture_file


def evaluate(
    synthesizer: Any,
    data: str | Path,
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    against: Sequence[str] = (),
    progress: bool = True,
) -> Report:
    """Code pictures with a codec, and with those of ``against``, beside formats at equal PSNR; return one report.

    ``data`` is a folder, a file, or ``name=PATH,name=PATH`` as in training; of those the pictures that the codec was
    not trained on are taken. Raises ``DataError`` where nothing could be measured.
    """
    codecs = {str(checkpoint or "codec"): synthesizer.model, **{name: _load(name) for name in against}}
    chosen, seen = held_out(data, synthesizer.model, limit)
    failures: list[dict[str, str]] = []
    items: list[dict[str, Any]] = []
    sections: list[Section] = []
    known = formats()
    for name, codec in codecs.items():
        coder, found = PictureCoder(codec), []
        for id, path in track(chosen, name, console=Console(stderr=True), disable=not progress):
            try:
                picture = read_picture_file(path).pixels
                start = time.perf_counter()
                coded = coder.encode(picture, verify=False)
                between = time.perf_counter()
                decoded = coder.decode(coded.content, id)
                end = time.perf_counter()
            except UnisonoError as error:
                failures.append({"id": id, "system": name, "reason": str(error)})
                continue
            item: dict[str, Any] = {
                "id": id, "system": name, "pixels": picture.shape[1] * picture.shape[2],
                "psnr": psnr(picture, decoded.pixels), "same": decoded.same,
                "file": len(coded.content), "payload": coded.message_bytes, "estimate": coded.estimated_bits / 8,
                "encode_seconds": between - start, "decode_seconds": end - between, "nearest": coded.nearest,
            }  # fmt: skip
            for format in known:
                size = size_at(picture, format, item["psnr"]) if math.isfinite(item["psnr"]) else None
                item[format.name] = None if size is None else {"file": size.file, "payload": size.payload}
            found.append(item)
        if not found:
            reason = failures[-1]["reason"] if failures else "none was chosen"
            raise DataError(f"none of {len(chosen)} pictures could be coded: {reason}", code="empty", path="data")
        items += found
        sections.append(_section(name, found, [format.name for format in known]))
    own = [item for item in items if item["system"] == next(iter(codecs))]
    return Report(
        title=f"{' and '.join(codecs)} on {len(own)} pictures",
        systems=["codec", *(format.name for format in known)],
        sections=sections,
        facts={
            "pictures": len(own),
            "megapixels": round(sum(item["pixels"] for item in own) / 1e6, 3),
            "held out": seen,
            "formats": "at the codec's PSNR of each picture, between two settings interpolated",
            "device": str(synthesizer.model.device),
        },
        items=items,
        failures=failures,
    )


def _section(name: str, found: list[dict[str, Any]], systems: list[str]) -> Section:
    pixels = sum(item["pixels"] for item in found)
    rows = [Row("PSNR, mean", {"codec": fmean(item["psnr"] for item in found)}, "dB", better="higher")]
    for what, key in (("whole files", "file"), ("without headers", "payload")):
        values: dict[str, float | str | None] = {"codec": 8 * sum(item[key] for item in found) / pixels}
        saved: dict[str, float | str | None] = {}
        for system in systems:
            both = [(item[key], item[system][key], item["pixels"]) for item in found if item[system] is not None]
            if both:
                values[system] = 8 * sum(theirs for _, theirs, _ in both) / sum(count for *_, count in both)
                saved[system] = 100 * (1 - sum(own for own, *_ in both) / sum(theirs for _, theirs, _ in both))
        rows.append(Row(what, values, "bits a pixel", 3, "lower"))
        rows.append(Row(f"{what}, saved by the codec", saved, "%", 1))
    matched = {s: f"{sum(item[s] is not None for item in found)} of {len(found)}" for s in systems}
    rows.append(Row("pictures with such a setting", {"codec": str(len(found)), **matched}))
    excess = 100 * (sum(item["payload"] for item in found) / max(sum(item["estimate"] for item in found), 1e-9) - 1)
    rows += [
        Row("codes above the tables' information", {"codec": excess}, "%", 2, "lower"),
        Row("encode", {"codec": fmean(item["encode_seconds"] for item in found)}, "s a picture", 3, "lower"),
        Row("decode", {"codec": fmean(item["decode_seconds"] for item in found)}, "s a picture", 3, "lower"),
        Row("decoded as the encoder said", {"codec": f"{sum(item['same'] for item in found)} of {len(found)}"}),
    ]
    return Section(name, rows)


def probe(synthesizer: Any, data: str | Path, *, limit: int = 32) -> Probe:
    """Say what ``unisono sweep CHECKPOINT DATA --latents=1,2,3`` measures of a picture codec."""
    codec: PictureCodec = synthesizer.model
    chosen, seen = held_out(data, codec, limit)
    pictures = [read_picture_file(path).pixels for _, path in chosen]
    coder, spent = PictureCoder(codec), {}

    def price(setting: dict[str, Any]) -> float:
        latents = setting.get("latents")
        if latents not in spent:
            coded = [coder.encode(picture, latents, verify=False) for picture in pictures]
            pixels = sum(picture.shape[1] * picture.shape[2] for picture in pictures)
            spent[latents] = 8 * sum(len(one.content) for one in coded) / pixels
        return spent[latents]

    def measure(made: list[Any]) -> dict[str, float]:
        found = [psnr(picture, one.pixels) for picture, one in zip(pictures, made, strict=True)]
        return {"PSNR": fmean(found)}

    return Probe(
        [{"image": str(path)} for _, path in chosen],
        measure,
        {"PSNR": "higher"},
        {"held out": seen},
        price=("bits a pixel", price),
    )


def held_out(data: Any, codec: Any, limit: int) -> tuple[list[tuple[str, Path]], str]:
    """Return ids and files of ``limit`` pictures that a codec was not trained on, and how that is known.

    Which of them is settled by their ids alone. Raises ``DataError`` where there is none.
    """
    listed: list[tuple[str, Path]] = []
    if Path(str(data)).expanduser().exists() and not is_folder(Path(str(data)).expanduser()):
        listed = [(Path(str(data)).name, Path(str(data)).expanduser())]
    else:
        for name, root in roots_of(data if isinstance(data, dict) else str(data)).items():
            listed += [
                (f"{name}/{f.id}" if name else f.id, f.path) for f in walk(folder_of(root), IMAGE_SUFFIXES).files
            ]
    if not listed:
        raise DataError(f"{data}: holds no picture", code="empty", path="data", value=str(data))
    ids = set(codec.facts.held_out)
    own = [(id, path) for id, path in listed if id in ids]
    why = "listed by the codec" if own else "the codec lists none of these"
    ranked = sorted(own or listed, key=lambda pair: derive_seed("evaluation", pair[0]))
    return sorted(ranked[:limit]), why


def _load(where: str) -> PictureCodec:
    from unisono.export import load

    synthesizer = load(where)
    if not isinstance(synthesizer.model, PictureCodec):
        name = synthesizer.info["model"]
        raise UnisonoError(
            f"--against {where} is a {name}, no codec of pictures", code="type", path="--against", value=name
        )
    return synthesizer.model
