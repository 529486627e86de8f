"""Evaluation of a tokenizer of pictures: what its tokens keep, how evenly they are used, and what others do with as
many bytes.

::

    tokens        pictures from their tokens
    JPEG, WebP    the same pictures at the bytes of the tokens, on one sheet
    original      the pictures themselves: the ceiling

Pictures are those that were held out of training. rFID is the Fréchet distance between them and what is made of them,
of the features of the network that the report names: no published rFID. Usage is the share of codes that occur in all
of these pictures, not that of a batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track
from unisono import evaluation
from unisono.errors import DataError
from unisono.evaluation import Report, Row, Section

from unisono_image.corpus.data import ImageData
from unisono_image.measure.evaluate import corpus_of, sides
from unisono_image.measure.features import ClassifierFeatures, Extractor, features_of
from unisono_image.measure.fidelity import WINDOW, compressed, psnr, ssim

TOKENS, ORIGINAL = "tokens", "original"
KINDS = {"JPEG": "JPEG", "WebP": "WEBP"}
SYSTEMS = [TOKENS, *KINDS, ORIGINAL]
AT_ONCE = 64
FEWEST = 2


def evaluate(
    synthesizer: Any,
    data: str | Path | ImageData,
    *,
    limit: int = 1000,
    extractor: Extractor = "classifier",
    device: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> Report:
    """Measure a tokenizer on ``limit`` held-out pictures of a corpus and return one report.

    ``data`` is the corpus that the model's recipe reads, at another place maybe, or a data module. Raises ``DataError``
    where fewer than two pictures are held out.
    """
    if device is not None:
        synthesizer.to(device)
    model = synthesizer.model
    known = extractor == "inception" or "classifier" in model.components
    features = features_of(model, extractor) if known else None
    module = data if isinstance(data, ImageData) else corpus_of(model, str(data))
    module.setup()
    if module.size != model.picture_size:
        raise DataError(
            f"the data has {module.size} pixels a side, the model reads {model.picture_size}",
            code="conflict",
            path="size",
            value=module.size,
        )
    train, held = sides(module, model.facts.held_out)
    chosen = (held or train)[:limit]
    if len(chosen) < FEWEST:
        raise DataError(
            f"{len(chosen)} pictures: at least {FEWEST} are needed; raise the limit or give more data",
            code="limit",
            path="limit",
            value=limit,
        )
    real = np.stack([module.train_set.of(picture) for picture in chosen])
    tokens, made = coded(model, real, progress)
    bits = model.num_tokens * np.log2(model.num_codes)
    size = {TOKENS: bits / 8, ORIGINAL: float(real[0].size)}
    pictures = {TOKENS: made, ORIGINAL: real}
    for name, kind in KINDS.items():
        pictures[name], size[name] = compressed(list(real), kind, bits / 8)
    pixels = real.shape[2] * real.shape[3]
    lossy = [TOKENS, *KINDS]
    near = [Row("PSNR", {s: float(psnr(real, pictures[s]).mean()) for s in lossy}, "dB", 2, "higher")]
    if min(real.shape[2:]) >= WINDOW:
        near.append(Row("SSIM", {s: float(ssim(real, pictures[s]).mean()) for s in lossy}, "", 3, "higher"))
    if features is not None:
        near += _seen(features, pictures, [picture.label for picture in chosen], module.classes)
    counts = np.bincount(tokens.flatten(), minlength=model.num_codes)
    share = counts[counts > 0] / counts.sum()
    entropy = float(-(share * np.log2(share)).sum())
    sections = [
        Section(
            "Size",
            [
                Row("bytes of a picture", size, "", 1),
                Row("bits of a pixel", {s: 8 * value / pixels for s, value in size.items()}, "", 3),
            ],
        ),
        Section("What is kept", near),
        Section(
            "Codes",
            [
                Row("usage over all pictures", {TOKENS: float((counts > 0).mean())}, "", 3, "higher"),
                Row("entropy of a token", {TOKENS: entropy}, f"bits of {np.log2(model.num_codes):g}", 2, "higher"),
                Row("tokens that stay in a second round trip", {TOKENS: again(model, made, tokens)}, "", 3),
            ],
        ),
    ]
    return Report(
        title=f"{synthesizer.info.get('model', 'tokenizer')}: {len(chosen)} pictures",
        systems=SYSTEMS,
        sections=sections,
        facts={
            "tokens": f"{model.grid[0]} × {model.grid[1]} of {model.num_codes}",
            "features": features.name if features is not None else "none: the export holds no classifier",
            "pictures": "held out of training" if held else "of the training part: none is known to be held out",
        },
        items=[{"id": picture.id, "psnr": float(db)} for picture, db in zip(chosen, psnr(real, made), strict=True)],
    )


def _seen(features: Any, pictures: dict[str, np.ndarray], labels: Sequence[int], classes: Sequence[str]) -> list[Row]:
    """Compare pictures by what a network sees in them; a classifier of their classes says what they show, too."""
    judged = isinstance(features, ClassifierFeatures) and min(labels) >= 0 and set(classes) <= set(features.classes)
    vectors, right = {}, {}
    for system, images in pictures.items():
        if judged:
            vectors[system], chances = features.classifier.judge(list(images))
            found = [features.classes[best] for best in chances.argmax(1)]
            right[system] = float(np.mean([classes[label] == name for label, name in zip(labels, found, strict=True)]))
        else:
            vectors[system] = features(list(images))
    apart = {s: evaluation.frechet_distance(vectors[ORIGINAL], vectors[s]) for s in (TOKENS, *KINDS)}
    rows = [Row("rFID (features named below)", apart, "", 3, "lower")]
    return [*rows, Row("classified rightly", right, "", 3, "higher")] if judged else rows


def coded(
    model: Any, real: UInt8[np.ndarray, "n 3 h w"], progress: bool = False
) -> tuple[np.ndarray, UInt8[np.ndarray, "n 3 h w"]]:
    """Return the tokens [n, t] of pictures, and what is made of these, as files would hold it."""
    tokens, made = [], []
    bar = {"console": Console(stderr=True), "disable": not progress}
    for first in track(range(0, len(real), AT_ONCE), "coding", **bar):
        rows = model.tokens(floats(real[first : first + AT_ONCE]).to(model.device))
        tokens.append(rows.cpu().numpy())
        made.append(bytes_of(model.pictures(rows)))
    return np.concatenate(tokens), np.concatenate(made)


def again(model: Any, made: UInt8[np.ndarray, "n 3 h w"], tokens: np.ndarray) -> float:
    """Return the share of tokens that pictures made of tokens have again."""
    return float((coded(model, made)[0] == tokens).mean())


def floats(pictures: UInt8[np.ndarray, "n 3 h w"] | Sequence[np.ndarray]) -> torch.Tensor:
    """Return pictures from −1 to 1."""
    return torch.from_numpy(np.asarray(pictures)).float() / 127.5 - 1


def bytes_of(pictures: torch.Tensor) -> UInt8[np.ndarray, "n 3 h w"]:
    """Return pictures as files hold them."""
    return ((pictures.float().cpu().numpy() + 1) * 127.5).clip(0, 255).round().astype(np.uint8)
