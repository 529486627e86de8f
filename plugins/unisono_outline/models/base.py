"""Base of both models: how requests become batches, and vertices become outlines in a request's own picture.

Shapes: b batch, n vertices, s pixels a side.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono import Model
from unisono.errors import RecipeError

from unisono_outline.corpus.facts import OutlineFacts
from unisono_outline.media import Outline
from unisono_outline.models.encoder import PhraseReader
from unisono_outline.models.sizes import NetworkSizes
from unisono_outline.request import OutlineRequest, Task

AT_ONCE = 64
"""Requests that the network sees at once: what bounds memory."""


class OutlineModel(Model):
    """The base of ``outline/pvd`` and ``outline/vertex-ar``.

    Attributes:
        evaluations: of the decoder so far, per outline; the picture and the phrase are read once beside.
        rounds: batched evaluations so far.
    """

    Media: ClassVar[type[Outline]] = Outline
    Facts: ClassVar[type[OutlineFacts]] = OutlineFacts
    facts: OutlineFacts
    source_facts: ClassVar[tuple[str, ...]] = ("words",)
    text_field: ClassVar[str] = "phrase"
    pipeline_tag: ClassVar[str] = "image-segmentation"

    def __init__(self, *, network: NetworkSizes):
        super().__init__()
        self.sizes = network
        self.evaluations, self.rounds = 0, 0

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the pictures' size and the words of the phrases."""
        super().build(facts)
        if self.facts.size % self.sizes.stride:
            raise RecipeError(
                f"data.size={self.facts.size} must be a multiple of model.network.stride={self.sizes.stride}",
                code="shape",
                path="data.size",
                value=self.facts.size,
            )
        self.reader = PhraseReader(self.facts.words, self.sizes)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"outlines": len(batch["outline"])}

    def pictures_of(self, tasks: Sequence[Task]) -> Float[Tensor, "b 3 s s"]:
        """Return the pictures of tasks as the network sees them."""
        pixels = torch.from_numpy(np.stack([task.square.picture for task in tasks]))
        return pixels.to(self.device).float() / 127.5 - 1

    def outlines_of(self, tasks: Sequence[Task], vertices: Float[Tensor, "b n 2"]) -> list[Outline]:
        """Return outlines of vertices in sides; what lies outside the picture is moved to its border."""
        made = []
        for task, own in zip(tasks, vertices.float().cpu().numpy(), strict=True):
            height, width = task.picture.shape[1:]
            points = task.square.to_file(np.nan_to_num(own)).clip(0, (width, height))
            made.append(Outline(task.picture, points.astype(np.float32), task.phrase))
        return made

    def preview_requests(self) -> list[OutlineRequest]:
        """Made scenes, whatever the model was trained on: they are at hand everywhere."""
        asked: Any = self.Request
        return [asked(scene=number, seed=number) for number in range(6)]

    def check_requests(self) -> list[Any]:
        phrases: list[Any] = [
            self.Request(scene=7, phrase=phrase) for phrase in ("circle", "the red shape on the left")
        ]
        return [*super().check_requests(), *phrases]
