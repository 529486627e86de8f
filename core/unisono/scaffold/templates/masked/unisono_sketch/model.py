"""Sketch: a transformer that fills rows of tokens in a few passes.

Chang et al., "MaskGIT" (arXiv:2202.04200), on rows: a share of the tokens is hidden, the network predicts them, and
decoding fills the surest first. Any other sampler of ``unisono.masked`` serves the same network.

Shapes: b batch, n positions, v tokens, d channels. Masks are True where a token is known.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError, RequestError, did_you_mean
from unisono.masked import Canvas, Layout, Strategy, make_strategy, maskgit
from unisono.masked.model import MaskedModel, StreamNetwork
from unisono.masked.training.corrupt import corruption_for
from unisono.masked.training.losses import masked_cross_entropy
from unisono.nn.fft import sinusoids
from unisono.nn.modules import Modules
from unisono.nn.transformer import Block

from unisono_sketch.data import RowFacts
from unisono_sketch.filling import Filling
from unisono_sketch.media import TokenRow
from unisono_sketch.request import SketchRequest

CORRUPTION = corruption_for(maskgit(8))
"""Hides tokens in training as decoding leaves them open."""


class Sketch(MaskedModel):
    """::

        tokens ─ embedding ─┐
        positions ──────────┼─ (+) ─ blocks ─ norm ─ logits
        pattern ─ embedding ┘

    Args:
        dim: channels, a multiple of ``num_heads``.
        num_layers: blocks.
        num_heads: of their attention.
        dropout: in [0, 1).
    """

    Media: ClassVar[type[TokenRow]] = TokenRow
    Facts: ClassVar[type[RowFacts]] = RowFacts
    facts: RowFacts
    Request: ClassVar[type[SketchRequest]] = SketchRequest
    text_field: ClassVar[str] = "pattern"
    choices: ClassVar[dict[str, str]] = {"pattern": "patterns"}
    salt: ClassVar[str] = "sketch"
    decoding_fields: ClassVar[tuple[str, ...]] = ("sampler", "num_steps", "temperature")

    def __init__(self, *, dim: int = 64, num_layers: int = 2, num_heads: int = 4, dropout: float = 0.1):
        super().__init__()
        for name, value in (("dim", dim), ("num_layers", num_layers), ("num_heads", num_heads)):
            if value < 1:
                message = f"model.{name}={value} must be at least 1"
                raise RecipeError(message, code="range", path=f"model.{name}", value=value)
        if dim % num_heads:
            message = f"model.dim={dim} must be a multiple of num_heads={num_heads}"
            raise RecipeError(message, code="shape", path="model.dim", value=dim)
        if not 0 <= dropout < 1:
            message = f"model.dropout={dropout} must be in [0, 1)"
            raise RecipeError(message, code="range", path="model.dropout", value=dropout)
        self.dim, self.num_layers, self.num_heads, self.dropout = dim, num_layers, num_heads, dropout

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the patterns and tokens of the rows."""
        super().build(facts)
        self.tokens = nn.Embedding(self.facts.num_tokens + 1, self.dim)  # the last one stands for what is not known
        self.patterns = nn.Embedding(len(self.facts.patterns), self.dim)
        self.blocks = Modules(Block(self.dim, self.num_heads, self.dropout) for _ in range(self.num_layers))
        self.norm = nn.LayerNorm(self.dim)
        self.logits = nn.Linear(self.dim, self.facts.num_tokens)

    def predict(
        self,
        tokens: Int[Tensor, "b n 1"],
        known: Bool[Tensor, "b n 1"],
        pattern: Int[Tensor, " b"],
        length: Int[Tensor, " b"],
    ) -> Float[Tensor, "b n 1 v"]:
        """Return the logits of every token; padding, from ``length`` on, changes none of the others."""
        read = torch.where(known, tokens, self.facts.num_tokens)[..., 0]
        x = self.tokens(read) + self.patterns(pattern)[:, None]
        x = x + sinusoids(x.shape[1], self.dim, x.device)
        there = torch.arange(x.shape[1], device=x.device) < length[:, None]
        for block in self.blocks:
            x = block(x, there)
        return self.logits(self.norm(x))[:, :, None]

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        tokens, lengths = batch["tokens"], batch["length"]
        canvas = Canvas.blank(self.layout(tokens.shape[1]), self.row_seeds(batch), lengths, self.device)
        corrupted = CORRUPTION(canvas, tokens)
        seen = corrupted.canvas
        logits = self.predict(seen.tokens[..., None], seen.known[..., None], batch["pattern"], lengths)
        each = masked_cross_entropy(logits[:, :, 0].float(), corrupted, reduction="none")
        return {"loss": self.global_mean(each, corrupted.weights > 0)}  # over all processes, so not its own mean

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"tokens": int(batch["length"].sum())}

    # ---- how a request is met; `unisono.masked.model` does the rest --------------------------------

    def task(self, request: SketchRequest, seed: int, streaming: bool = False) -> Filling:
        for token in request.given:
            if not 0 <= token < self.facts.num_tokens:
                message = f"given holds {token}: tokens are in [0, {self.facts.num_tokens})"
                raise RequestError(message, code="range", path="given", value=token)
        return Filling(self, request, seed)

    def layout(self, num_positions: int, request: SketchRequest | None = None) -> Layout:
        return Layout.sequence(num_positions, self.facts.num_tokens)

    def denoiser(self, windows: Sequence[Filling], canvas: Canvas) -> StreamNetwork:
        pattern = torch.tensor([window.pattern for window in windows], device=self.device)
        return StreamNetwork(self.predict, 1, pattern, canvas.length)

    def strategy(self, request: SketchRequest, canvas: Canvas, network: Any) -> Strategy:
        knobs = {"num_steps": request.num_steps, "temperature": request.temperature}
        return make_strategy(request.sampler, canvas.layout, **knobs)

    def pattern_number(self, name: str) -> int:
        """Return the number of a pattern; raises ``RequestError`` for one that the data had not."""
        if name not in self.facts.patterns:
            message = f"unknown pattern {name!r}{did_you_mean(name, self.facts.patterns)}"
            raise RequestError(message, code="unknown", path="pattern", value=name)
        return self.facts.patterns.index(name)

    # ---- what is tried: by previews in training, and by the conformance kit ------------------------

    def preview_requests(self) -> list[SketchRequest]:
        return [self.Request(pattern=name, length=12 + 4 * i) for i, name in enumerate(self.facts.patterns[:3])]

    def check_requests(self) -> list[SketchRequest]:
        first = self.facts.patterns[0]
        given = [{"given": [1, 0]}, {"given": [1, 0], "length": 2}, {"given": [1], "sampler": "left_to_right"}]
        return [*super().check_requests(), *(self.Request(pattern=first, **fields) for fields in given)]

    def given_parts(self, request: SketchRequest, made: TokenRow) -> list[tuple[Any, Any]]:
        return [(request.given, list(made.tokens[: len(request.given)]))]
