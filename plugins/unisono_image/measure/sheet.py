"""Sheets of samples: what a picture generator makes of a few requests, in one picture, for cards and previews."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from unisono import Image
from unisono.data import derive_seed
from unisono.errors import RequestError

LINE = 12
"""Pixels of a line of writing, in Pillow's own small font."""
AT_ONCE = 32


def sheet(images: Sequence[Image], columns: int, labels: Sequence[str] = (), times: int = 2, gap: int = 4) -> Image:
    """Lay pictures of one size out in rows, each enlarged ``times`` and with its label beneath, cut to its width.

    Raises ``RequestError`` where there is not one label for each picture (or none at all).
    """
    if labels and len(labels) != len(images):
        raise RequestError(
            f"{len(labels)} labels do not go with {len(images)} images: give one each, or none",
            code="shape",
            path="labels",
            value=len(labels),
        )
    enlarged = [image.enlarged(times) for image in images]
    if labels:
        enlarged = [_labelled(image, label) for image, label in zip(enlarged, labels, strict=True)]
    return Image.grid(enlarged, columns, gap)


def class_sheet(synthesizer: Any, per_class: int = 8, times: int = 2, seed: int = 0, **fields: Any) -> Image:
    """Return a row of pictures for each class that a model knows; ``fields`` are those of the request."""
    classes = synthesizer.model.facts.classes
    if not classes:
        raise RequestError(
            "this model knows no classes: give prompts to prompt_sheet", code="unsupported", path="classes"
        )
    asked = [
        {"label": name, "seed": derive_seed("sheet", seed, name, number), **fields}
        for name in classes
        for number in range(per_class)
    ]
    return sheet(_made(synthesizer, asked), per_class, times=times)


def prompt_sheet(
    synthesizer: Any, prompts: Sequence[str], columns: int = 6, times: int = 4, seed: int = 0, **fields: Any
) -> Image:
    """Return a picture for each prompt, the prompt beneath it; ``fields`` are those of the request."""
    asked = [{"prompt": prompt, "seed": derive_seed("sheet", seed, prompt), **fields} for prompt in prompts]
    return sheet(_made(synthesizer, asked), columns, list(prompts), times)


def _made(synthesizer: Any, asked: list[dict[str, Any]]) -> list[Image]:
    return [image for first in range(0, len(asked), AT_ONCE) for image in synthesizer(asked[first : first + AT_ONCE])]


def _labelled(image: Image, label: str) -> Image:
    """Return a picture with up to two lines of writing beneath it."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default_imagefont()
    lines, words = [""], label.split()
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > image.width:
            lines.append(word)
        else:
            lines[-1] = longer
    strip = Pillow.new("RGB", (image.width, 2 * LINE), "white")
    ImageDraw.Draw(strip).multiline_text((0, 0), "\n".join(lines[:2]), "black", font, spacing=0)
    below = np.asarray(strip).transpose(2, 0, 1)
    return Image(np.concatenate([image.bytes.transpose(2, 0, 1), below], axis=1))
