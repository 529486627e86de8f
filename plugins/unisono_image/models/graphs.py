"""The diffusion transformer as a graph: one evaluation, noisy pictures, a time and a condition's vectors to an answer.

What encodes captions, and the sampler, stay outside. Height and width are those of the training pictures.

Shapes: n rows, c channels, h w height and width, t words, e channels of the condition.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.graphs import Graph, Graphs, Port, for_graph
from unisono.nn.condition import Condition


class Step(nn.Module):
    """``DiT.denoise`` with the condition as tensors; ``words`` and ``mask`` only where captions are read."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = for_graph(net)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        time: Float[Tensor, " n"],
        vector: Float[Tensor, "n e"],
        words: Float[Tensor, "n t e"] | None = None,
        mask: Bool[Tensor, "n t"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        return self.net(x, time, _condition(vector, words, mask))


def _condition(vector: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Condition:
    if words is None or mask is None:
        words, mask = vector.new_zeros(len(vector), 0, vector.shape[1]), torch.zeros(len(vector), 0, dtype=torch.bool)
    return Condition(vector, words, mask)


def step_graphs(model: Any) -> Graphs:
    """Return the graph ``step`` of a diffusion transformer."""
    side, dim = model.facts.size // model.downsampling, model.condition_dim
    captions = model.conditioner.text is not None
    shape = ("rows", model.channels, side, side)

    def reference(x: Tensor, time: Tensor, *condition: Tensor) -> tuple[Tensor, ...]:
        return (model.denoise(x, time, _condition(*condition)),)

    def example(rows: int, words: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(rows)
        x = torch.randn(rows, model.channels, side, side, generator=generator)
        vector = torch.randn(rows, dim, generator=generator)
        told = torch.randn(rows, words, dim, generator=generator), torch.ones(rows, words, dtype=torch.bool)
        told[1][-1, -1] = False
        return x, torch.rand(rows, generator=generator) * 1000, vector, *(told if captions else ())

    inputs = [
        Port("x", shape, "noisy pictures, or latents"),
        Port("time", ("rows",), "the objective's time"),
        Port("vector", ("rows", dim), "vector of the class and the caption"),
    ]
    if captions:
        inputs += [
            Port("words", ("rows", "words", dim), "vectors of the caption's words"),
            Port("mask", ("rows", "words"), "whether a word is one, not padding"),
        ]
    graph = Graph(
        Step(model.net).eval(),
        inputs=tuple(inputs),
        outputs=(Port("answer", shape, f"as the objective {type(model.objective).__name__} defines it", 1e-4, 0.1),),
        examples=(example(2, 3), example(3, 5)),
        reference=reference,
        limits={"rows": (1, 1024)} | ({"words": (1, 1024)} if captions else {}),
        quantised=("net.blocks",),
    )
    return Graphs({"step": graph}, {"size": side, "channels": model.channels, "classes": list(model.facts.classes)})
