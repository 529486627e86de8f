"""Text networks as graphs: one step, tokens to logits; what decodes stays outside.

Shapes: b rows, t tokens, v vocabulary. No padding: all rows of a batch have one length.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.graphs import Graph, Graphs, Port, for_graph


class Step(nn.Module):
    """``predict`` of whole rows, without a cache."""

    def __init__(self, model: Any):
        super().__init__()
        self.net = for_graph(model)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        return self.net.predict(tokens)


def step_graphs(model: Any) -> Graphs:
    """Return the graph ``step`` of a language model."""
    generator = torch.Generator().manual_seed(0)
    most = model.context
    sizes = ((2, min(most, 24)), (3, min(most, 37)))
    examples = tuple((torch.randint(0, model.last_id + 1, size, generator=generator),) for size in sizes)
    told = "what stands at each position" if model.block_size != 1 else "what follows each position"

    def reference(tokens: Tensor) -> tuple[Tensor, ...]:
        return (model.predict(tokens),)

    graph = Graph(
        Step(model).eval(),
        inputs=(Port("tokens", ("rows", "tokens"), "token ids; facts.mask_id where nothing is known"),),
        outputs=(Port("logits", ("rows", "tokens", model.vocabulary), f"of {told}", 1e-4, 0.1),),
        examples=examples,
        reference=reference,
        limits={"rows": (1, 1024), "tokens": (2, most)},
        quantised=("net.net.layers", "net.net.anchor.layers", "net.net.denoiser.layers"),
    )
    facts = {
        "vocabulary": model.vocabulary,
        "mask_id": model.mask_id,
        "start_id": model.start_id,
        "special": model.special,
        "context": model.context,
        "block_size": model.block_size,
        "tokenizer": model.facts["tokenizer"],
    }
    return Graphs({"step": graph}, facts)
