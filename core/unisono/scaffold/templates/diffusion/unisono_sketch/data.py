"""Outlines: closed lines in the plane, made on the spot or read from a file of JSON lines.

A line of a file is ``{"shape": "square", "points": [[1, 1], [-1, 1], [-1, -1], [1, -1]]}``: at least 3 points [x, y].
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from unisono.data import Audit, DataModule, Facts, collate_items, hold_out
from unisono.errors import DataError
from unisono.files import Fault, read_json_lines

MIN_POINTS, MAX_POINTS = 3, 256
"""Of an outline that is read or made."""

CORNERS = {"triangle": 3, "square": 4, "hexagon": 6}
"""The shapes that are made, beside circles and stars."""

SHAPES = ("circle", "star", *CORNERS)


@dataclass(frozen=True, kw_only=True)
class OutlineFacts(Facts):
    """What a model must know of the outlines: the shapes' names, and how far points lie from 0 (root mean square)."""

    shapes: tuple[str, ...]
    scale: float


class Example(BaseModel):
    """One outline: its shape's name, and its points."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    shape: str = Field(min_length=1)
    points: list[tuple[float, float]] = Field(min_length=MIN_POINTS, max_length=MAX_POINTS)


class Outlines(DataModule):
    """Outlines of a file, or made ones without a file.

    Args:
        path: a file of JSON lines; empty makes outlines.
        num_items: outlines that are made to train on.
        val_size: outlines held out.
        batch_size: outlines per step over all processes.
        num_workers: loading processes per rank.
    """

    def __init__(
        self, path: str = "", num_items: int = 256, val_size: int = 16, batch_size: int = 16, num_workers: int = 0
    ):
        super().__init__(batch_size, num_workers)
        for name, value, least in (("num_items", num_items, 1), ("val_size", val_size, 0)):
            if value < least:
                message = f"data.{name}={value} must be at least {least}"
                raise DataError(message, code="range", path=f"data.{name}", value=value)
        self.path, self.num_items, self.val_size = path, num_items, val_size

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("outlines")
        found = dict(self._read(audit) if self.path else self._made())
        if not found:
            message = f"{self.path!r} has no outline that can be used: unisono data says why each was dropped"
            raise DataError(message, code="empty", path=self.path)
        for name, example in found.items():
            audit.keep(name, len(example.points), "points", example.shape)
        held = hold_out(dict.fromkeys(found, 1), self.val_size)
        train = [example for name, example in found.items() if name not in held]
        points = torch.tensor([point for example in train for point in example.points])
        shapes = tuple(sorted({example.shape for example in train}))  # facts are those of the training part
        for name in sorted(held):
            if found[name].shape not in shapes:
                audit.drop(name, "unknown shape", f"no outline of the training part is a {found[name].shape!r}")
                held.remove(name)
        self.facts = OutlineFacts(shapes=shapes, scale=max(float(points.square().mean().sqrt()), 1e-6))
        self.train_set = OutlineSet(train, shapes)
        self.val_set = OutlineSet([example for name, example in found.items() if name in held], shapes)
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)

    def _made(self) -> Iterator[tuple[str, Example]]:
        for number in range(self.num_items + self.val_size):
            yield f"outline-{number}", make_outline(number)

    def _read(self, audit: Audit) -> Iterator[tuple[str, Example]]:
        for number, line in read_json_lines(self.path):
            name = f"line {number}"
            if isinstance(line, Fault):
                audit.drop(name, line.reason, line.detail)
                continue
            try:
                yield name, Example(**line)
            except ValidationError as error:
                first = error.errors()[0]
                audit.drop(name, "wrong fields", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


class OutlineSet:
    """Items ``points`` [n, 2], their number ``length``, and ``shape``, the number of its name."""

    def __init__(self, examples: list[Example], shapes: tuple[str, ...]):
        self.examples, self.shapes = examples, shapes

    def __len__(self) -> int:
        return len(self.examples)

    def size(self, index: int) -> int:
        return len(self.examples[index].points)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor | int]:
        example = self.examples[index]
        shape = self.shapes.index(example.shape)
        return {"points": torch.tensor(example.points), "length": len(example.points), "shape": shape}


def make_outline(number: int) -> Example:
    """Make the outline of a number: 16 to 32 points, turned and scaled at random."""
    generator = torch.Generator().manual_seed(number)
    count = int(torch.randint(16, 33, (), generator=generator))
    turn, size = torch.rand(2, generator=generator).tolist()
    shape = SHAPES[number % len(SHAPES)]
    angle = torch.arange(count) * (2 * math.pi / count)
    radius = (0.8 + 0.4 * size) * radius_at(shape, angle)
    angle = angle + 2 * math.pi * turn
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return Example(shape=shape, points=points.tolist())


def radius_at(shape: str, angle: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return how far a shape's line is from its middle, by the angle in radians; 1 at its corners."""
    if shape == "circle":
        return torch.ones_like(angle)
    if shape == "star":
        return 0.7 + 0.3 * (5 * angle).cos()
    half = math.pi / CORNERS[shape]
    return math.cos(half) / (angle.remainder(2 * half) - half).cos()
