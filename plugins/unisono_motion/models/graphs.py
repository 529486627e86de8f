"""The masked transformer of motion as a graph: one step, motion tokens and a caption's vectors to logits.

What encodes captions, decodes tokens step by step and turns them into motion stays outside.

Shapes: b rows, t frames of tokens, q streams, w words, d channels, v codebook.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.graphs import Graph, Graphs, Port, for_graph

from unisono_motion.models.transformer import Condition


class Step(nn.Module):
    """``MMM.predict`` with the condition as tensors."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = for_graph(net)

    def forward(
        self,
        tokens: Int[Tensor, "b t q"],
        known: Bool[Tensor, "b t q"],
        forget: Bool[Tensor, " b"],
        words: Float[Tensor, "b w d"],
        mask: Bool[Tensor, "b w"],
        sentence: Float[Tensor, "b d"],
        length: Int[Tensor, " b"],
        begins: Bool[Tensor, " b"],
        ends: Bool[Tensor, " b"],
    ) -> Float[Tensor, "b t q v"]:
        return self.net(tokens, known, Condition(words, mask, sentence, length, begins, ends), forget)


def step_graphs(model: Any) -> Graphs:
    """Return the graph ``step`` of a masked transformer."""
    dim, streams, book = model.sizes.dim, model.num_streams, model.codebook_size

    def reference(tokens: Tensor, known: Tensor, forget: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return (model.predict(tokens, known, Condition(*rest), forget),)

    frames = ("rows", "frames", streams)
    graph = Graph(
        Step(model.net).eval(),
        inputs=(
            Port("tokens", frames, f"motion tokens, [0, {book}); read where known"),
            Port("known", frames, "whether a token is known"),
            Port("forget", ("rows",), "whether a row is without its caption, as guidance needs it"),
            Port("words", ("rows", "words", dim), "vectors of the caption's words"),
            Port("mask", ("rows", "words"), "whether a word is one, not padding"),
            Port("sentence", ("rows", dim), "vector of the caption"),
            Port("length", ("rows",), "frames of tokens of each row, [1, frames]"),
            Port("begins", ("rows",), "whether the row has the motion's beginning"),
            Port("ends", ("rows",), "whether the row has its end"),
        ),
        outputs=(Port("logits", ("rows", "frames", streams, book), "of every token", 1e-4, 0.1),),
        examples=tuple(_example(model, rows, t, w) for rows, t, w in ((2, 6, 3), (3, 8, 5))),
        reference=reference,
        limits={"rows": (1, 1024), "frames": (2, model.max_tokens), "words": (1, 1024)},
        quantised=("net.stack.blocks",),
    )
    facts = {"codebook_size": book, "num_streams": streams, "max_tokens": model.max_tokens}
    return Graphs({"step": graph}, facts)


def _example(model: Any, rows: int, frames: int, words: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    shape, dim = (rows, frames, model.num_streams), model.sizes.dim
    length = torch.full((rows,), frames)
    length[-1] = frames - 1
    row = torch.arange(rows)
    return (
        torch.randint(0, model.codebook_size, shape, generator=generator),
        torch.rand(shape, generator=generator) < 0.5,
        row == 0,
        torch.randn(rows, words, dim, generator=generator),
        torch.arange(words) < (words - row % 2)[:, None],
        torch.randn(rows, dim, generator=generator),
        length,
        row % 2 == 0,
        row % 2 == 1,
    )
