"""A small image classifier: says which class an image shows, and lends its features to measures.

FID, precision, recall and the accuracy of generated images are taken with it where Inception's weights are not at
hand. *Such figures compare systems on one classifier and one data set*; they are no published FID, and every report
names the network that its features come from.

::

    image [b, 3, s, s] ─ conv 3 ─ residual block × num_blocks at each width, halved before each
        ─ GroupNorm ─ SiLU ─ mean over pixels ─ features [b, d] ─ linear ─ logits [b, k]

Residual blocks are those of He et al., "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027), figure 1(b).
Differences: group norm (Wu and He, arXiv:1803.08494) for batch norm, so that an image alone is the image in any
batch and N processes are one; SiLU for ReLU; the first width is halved too.

Shapes: b batch, s size in pixels, h, w height and width, d features, k classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from unisono import Media, Model, Request
from unisono.data import Drop
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.model import OnStep
from unisono.request import FILE

from unisono_image.corpus.facts import ImageFacts
from unisono_image.corpus.files import code_of, fitted, read_image

GROUPS = 8
AT_ONCE = 250


@dataclass(frozen=True, eq=False)
class Judged(Media):
    """What an image was taken for: how likely each class is, and the features [d] that say so."""

    chances: dict[str, float]
    features: np.ndarray

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    @property
    def label(self) -> str:
        """The likeliest class."""
        return max(self.chances, key=self.chances.__getitem__)

    def _write(self, path: Path) -> None:
        content = {"chances": self.chances, "features": self.features.tolist()}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def plot(self):
        """Draw how likely each class is, as bars."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 2.5), layout="constrained")
        axes = figure.subplots()
        axes.bar(list(self.chances), list(self.chances.values()))
        axes.tick_params(axis="x", rotation=60)
        return figure


class Residual(nn.Module):
    """Two convolutions beside a short cut; ``stride`` 2 halves the picture."""

    def __init__(self, width: int, out: int, stride: int = 1):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.norm_out = nn.GroupNorm(GROUPS, out)
        self.conv_out = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        changes = stride > 1 or width != out
        self.short = nn.Conv2d(width, out, 1, stride, bias=False) if changes else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o i j"]:
        h = F.silu(self.norm(x))
        short = self.short(h if isinstance(self.short, nn.Conv2d) else x)
        return short + self.conv_out(F.silu(self.norm_out(self.conv(h))))


class ImageClassifier(Model):
    """A residual network over the classes of its data.

    Args:
        widths: channels of the first convolution, then of each stage, which halves the picture; multiples of 8.
        num_blocks: residual blocks of a stage.
        dropout: of features, before the classes.
        label_smoothing: the share of a target that is spread over all classes.
    """

    Media: ClassVar[type[Judged]] = Judged
    Facts: ClassVar[type[ImageFacts]] = ImageFacts
    facts: ImageFacts
    text_field: ClassVar[str] = "image"
    pipeline_tag: ClassVar[str] = "image-classification"
    deterministic: ClassVar[bool] = True

    class Request(Request):
        """An image to judge: a file, or its pixels."""

        image: str | None = Field(default=None, description="path of an image", json_schema_extra=FILE)
        pixels: Annotated[
            list[list[list[int]]] | None,
            BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x),
        ] = Field(default=None, description="red, green and blue rows of an image, 0 to 255: [3][height][width]")

        @model_validator(mode="after")
        def _one_source(self):
            if (self.image is None) == (self.pixels is None):
                raise RequestError(
                    "give either image, a path, or pixels, lists of numbers",
                    code="missing" if self.image is None else "conflict",
                    path="image",
                )
            return self

    def __init__(
        self,
        *,
        widths: list[int] = [32, 64, 128, 192],  # noqa: B006 -- read only; a recipe's key has a plain type
        num_blocks: int = 2,
        dropout: float = 0.1,
        label_smoothing: float = 0.1,
    ):
        super().__init__()
        if len(widths) < 2 or any(width < GROUPS or width % GROUPS for width in widths):
            raise RecipeError(
                f"model.widths={widths} must be two or more multiples of {GROUPS}",
                code="value",
                path="model.widths",
                value=widths,
            )
        if num_blocks < 1:
            raise RecipeError(
                f"model.num_blocks={num_blocks} must be at least 1",
                code="range",
                path="model.num_blocks",
                value=num_blocks,
            )
        if not 0 <= label_smoothing < 1:
            raise RecipeError(
                f"model.label_smoothing={label_smoothing} must be from 0 to below 1",
                code="range",
                path="model.label_smoothing",
                value=label_smoothing,
            )
        self.widths, self.num_blocks, self.label_smoothing = list(widths), num_blocks, label_smoothing
        self.dropout = nn.Dropout(dropout)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the classes of the data."""
        super().build(facts)
        self.classes = list(self.facts.classes)
        if len(self.classes) < 2:
            raise DataError(
                f"a classifier needs two classes or more, the data has {len(self.classes)}: give folders",
                code="empty",
                path="data.classes",
                value=self.classes,
            )
        self.size = self.facts.size
        self.embed = nn.Conv2d(3, self.widths[0], 3, 1, 1)
        stages = zip(self.widths, self.widths[1:], strict=False)
        self.blocks = nn.ModuleList(
            Residual(width if block == 0 else out, out, 2 if block == 0 else 1)
            for width, out in stages
            for block in range(self.num_blocks)
        )
        self.norm = nn.GroupNorm(GROUPS, self.widths[-1])
        self.out = nn.Linear(self.widths[-1], len(self.classes))

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a classifier of other classes."""
        if list(facts.get("classes", [])) != self.classes:
            raise CheckpointError(
                "run.init_from knows other classes than the data: start from one of its kind",
                code="conflict",
                path="run.init_from",
                value=list(facts.get("classes", [])),
            )

    # ---- the network ---------------------------------------------------------------------------

    def features(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Return the features of images from −1 to 1."""
        x = self.embed(image.to(self.embed.weight.dtype).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return F.silu(self.norm(x)).float().mean((2, 3))

    def layers(self, image: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b c h w"]]:
        """Return what every stage makes of images from −1 to 1, finest first: for perceptual losses."""
        x = self.embed(image.to(self.embed.weight.dtype).contiguous(memory_format=torch.channels_last))
        found = [x]
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number % self.num_blocks == 0:
                found.append(x)
        return found

    def logits(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Return the classes' logits of features."""
        return self.out(self.dropout(features).to(self.out.weight.dtype)).float()

    @torch.no_grad()
    def judge(
        self, images: Sequence[UInt8[np.ndarray, "3 s s"]]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"]]:
        """Return features and chances of images of any size, each fitted by its middle."""
        found = []
        for first in range(0, len(images), AT_ONCE):
            try:
                part = np.stack([fitted(np.asarray(image), self.size) for image in images[first : first + AT_ONCE]])
            except Drop as drop:
                raise RequestError(f"this image cannot be judged: {drop}", code=code_of(drop), path="images") from None
            features = self.features(torch.from_numpy(part).to(self.device).float() / 127.5 - 1)
            found.append((features.cpu().numpy(), self.logits(features).softmax(-1).cpu().numpy()))
        return np.concatenate([f for f, _ in found]), np.concatenate([c for _, c in found])

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        label = batch["label"]
        if bool((label < 0).any()):
            row = int(batch["row"][label < 0][0])
            raise DataError(
                f"item {row} has no class: a classifier needs a folder for every image",
                code="missing",
                path="label",
                value=row,
            )
        logits = self.logits(self.features(batch["image"]))
        smoothing = self.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, label, label_smoothing=smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(-1) == label).float().mean()}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"images": len(batch["image"])}

    # ---- synthesis -----------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence["ImageClassifier.Request"],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Judged]:
        """Return what each image is taken for. Deterministic."""
        result = []
        for done, request in enumerate(requests, 1):
            features, chances = self.judge([_pixels(request)])
            named = dict(zip(self.classes, chances[0].tolist(), strict=True))
            result.append(Judged(named, features[0]))
            if on_step is not None:
                on_step(done, len(requests))
        return result

    def preview_requests(self) -> list["ImageClassifier.Request"]:
        """Two plain slopes of grey, which are of no class: what is shown is that something comes out."""
        slope = np.linspace(0, 255, self.size).astype(np.uint8)
        rows = np.broadcast_to(slope, (3, self.size, self.size))
        return [self.Request(pixels=rows.tolist()), self.Request(pixels=rows.transpose(0, 2, 1).tolist())]


def _pixels(request: ImageClassifier.Request) -> UInt8[np.ndarray, "3 h w"]:
    if request.image is not None:
        try:
            return read_image(request.image)
        except Drop as drop:
            raise RequestError(f"image: {drop}", code=code_of(drop), path="image", value=request.image) from None
    try:
        pixels = np.asarray(request.pixels)
    except ValueError:
        raise RequestError("pixels: rows are not equally long", code="shape", path="pixels") from None
    if pixels.ndim != 3 or len(pixels) != 3 or not pixels.size or pixels.min() < 0 or pixels.max() > 255:
        raise RequestError(
            f"pixels of shape {pixels.shape}: give [3][height][width] of whole numbers, 0 to 255",
            code="shape",
            path="pixels",
            value=pixels.shape,
        )
    return pixels.astype(np.uint8)
