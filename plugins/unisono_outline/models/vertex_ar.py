"""``outline/vertex-ar``: outlines one vertex after the other: what parallel diffusion is measured against.

The reader of picture and phrase is that of ``outline/pvd``, and the decoder has as many layers of the same size.
Vertices are sequences of quantised coordinates as in SeqTR (Zhu et al., arXiv:2203.16265). Differences: a vertex is one
evaluation instead of two, its y being read under its x by a head of its own; the number of vertices is fixed, so that
nothing ends a sequence; bins are those of the picture's side; the likeliest bin is taken.

Shapes: b batch, n vertices, s pixels a side.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono.batching import Progress, chunks
from unisono.errors import RecipeError
from unisono.model import OnStep
from unisono.verify import KVCache

from unisono_outline.media import Outline
from unisono_outline.models.base import AT_ONCE, OutlineModel
from unisono_outline.models.causal import CausalDecoder, Held
from unisono_outline.models.sizes import NetworkSizes
from unisono_outline.request import OutlineRequest, Task, read_request

FEWEST_SHOWN = 3
"""Vertices from which on an outline under way is shown."""


class VertexDecoder(OutlineModel):
    """See this module.

    Args:
        network: sizes of encoder and decoder.
        bins: of each coordinate, over the picture's side.
    """

    Request: ClassVar[type[OutlineRequest]] = OutlineRequest
    salt: ClassVar[str] = "outline/vertex-ar"
    deterministic: ClassVar[bool] = True

    def __init__(self, *, network: NetworkSizes = NetworkSizes(), bins: int = 128):  # noqa: B008
        super().__init__(network=network)
        if not 8 <= bins <= 4096:
            message = f"model.bins={bins} must be from 8 to 4096"
            raise RecipeError(message, code="range", path="model.bins", value=bins)
        self.bins = bins

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.decoder = CausalDecoder(self.sizes, self.bins)

    # ---- training ----------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        spell = self.sizes.spell_share if self.training else 0.0
        seen = self.reader(batch["picture"], batch["phrase"], spell, self.row_seeds(batch))
        wanted = self.quantised(batch["outline"])
        parts = {}
        for name, logits, own in zip("xy", self.decoder(wanted, seen), wanted.unbind(-1), strict=True):
            each = F.cross_entropy(logits.mT, own, reduction="none")
            parts[name] = self.global_mean(each, torch.ones_like(each, dtype=torch.bool))
        return {"loss": parts["x"] + parts["y"], **parts}

    def quantised(self, vertices: Float[Tensor, "b n 2"]) -> Int[Tensor, "b n 2"]:
        """Return the bins of vertices in sides; what lies outside the picture is in the bins at its border."""
        return (vertices * self.bins).floor().long().clamp(0, self.bins - 1)

    # ---- decoding ----------------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[OutlineRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Outline]:
        """Decode each outline, many side by side."""
        tasks = [read_request(request, self.facts) for request in requests]
        progress = Progress(on_step, self.facts.num_vertices * len(tasks))
        made: list[Outline] = []
        for own in chunks(tasks, AT_ONCE):
            views = []
            for vertices in self.decoded(own):
                views.append(vertices)
                progress.advance(len(own))
            made += self.outlines_of(own, views[-1])
        progress.finish()
        return made

    def decoded(self, tasks: Sequence[Task]) -> Iterator[Float[Tensor, "b t 2"]]:
        """Yield the vertices so far, in sides, after each evaluation of the decoder."""
        n = self.facts.num_vertices
        with torch.no_grad():
            seen = self.reader(self.pictures_of(tasks), [task.phrase for task in tasks])
            held = Held(KVCache(len(tasks), self.device))
            before = self.decoder.start.to(seen.tokens.dtype).expand(len(tasks), 1, -1)
            made: list[Tensor] = []
            for place in range(n):
                hidden = self.decoder.hidden(before, seen, n, place, held)
                held.vertices.advance(1)
                x = self.decoder.to_x(hidden).argmax(-1)
                vertex = torch.stack([x, self.decoder.y_logits(hidden, x).argmax(-1)], dim=-1)
                before = self.decoder.embedded(vertex)
                made.append((vertex + 0.5) / self.bins)
                self.evaluations += 1
                self.rounds += 1
                yield torch.cat(made, dim=1)

    def snapshots(self, request: OutlineRequest, generator: torch.Generator | None = None) -> Iterator[Outline]:
        """Yield the vertices so far; all of them are the outline."""
        task = read_request(request, self.facts)
        for vertices in self.decoded([task]):
            if vertices.shape[1] >= min(FEWEST_SHOWN, self.facts.num_vertices):
                yield from self.outlines_of([task], vertices)
