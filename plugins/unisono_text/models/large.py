"""The transformer of the large open models: Llama's and Qwen2's, in this plugin's calls.

Differences from ``TextTransformer``: fewer key and value heads than query heads (Ainslie et al., 2023,
arXiv:2305.13245), biases on queries, keys and values where Qwen2 has them, a base of the rotary angles and a constant
of the norms of their own, a head that may be the embedding, and weights in half precision.

``LLaDA`` (``text/llada``; Nie et al., 2025, arXiv:2502.09992) is Llama that sees both ways; ``Dream`` (``text/dream``;
Ye et al., 2025, arXiv:2508.15487) began as Qwen2.5, so that what it says of a token stands at the one before;
``FastDLLM`` (``text/fastdllm``; Wu et al., 2025, Fast-dLLM v2, arXiv:2509.26328) as well, and sees blocks of 32 both
ways and the ones before them. ``published`` reads their weights. Objectives are those of ``text/mdlm`` and
``text/block``.

Differs from Fast-dLLM v2: its training hides each token in one of two complementary copies of a text; here each step
hides at random, as in ``text/block``, which has the same expectation. The first token of a block is read from the last
one of the block before: the noised copy in training, as published, the finished one in decoding.

Here the mask is a token of the tokenizer. It is never said, and what reads like it in a text is plain characters.

Shapes: b batch, t tokens, m keys, h heads, g key heads, d channels, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import DataError, RecipeError
from unisono.masked import Corrupted
from unisono.nn.attention import attend, split_heads
from unisono.nn.modules import Modules
from unisono.nn.rotary import Rotation, rotate
from unisono.nn.tensor_plan import TensorPlan

from unisono_text.models.block import BlockModel
from unisono_text.models.masking import MaskedText
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import Keep, LayerStack, block_size_of


@dataclass(frozen=True)
class LargeSizes:
    """What a published config says of its network.

    Args:
        kv_heads: heads of keys and values; they divide ``num_heads``.
        filter_dim: width of the feed-forward.
        rows: of the embedding and the head, which may be more than the tokenizer has tokens; 0 takes these and a mask.
        mask_token: the id that stands for what is masked; None is the row after the last token.
        rope_base: of the rotary angles.
        norm_eps: of the norms.
        biased: whether queries, keys and values have biases.
        tied: whether the head is the embedding.
        kind: of the weights in memory.
    """

    dim: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    kv_heads: int = 32
    filter_dim: int = 12288
    rows: int = 0
    mask_token: int | None = None
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    biased: bool = False
    tied: bool = False
    kind: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self):
        for name in ("dim", "num_layers", "num_heads", "kv_heads", "filter_dim"):
            if getattr(self, name) < 1:
                raise RecipeError(
                    f"model.network.{name}={getattr(self, name)} must be at least 1",
                    code="range",
                    path=f"model.network.{name}",
                    value=getattr(self, name),
                )
        if self.dim % (2 * self.num_heads):
            raise RecipeError(
                f"model.network.dim={self.dim} must be a multiple of twice num_heads={self.num_heads}",
                code="shape",
                path="model.network.dim",
                value=self.dim,
            )
        if self.num_heads % self.kv_heads:
            raise RecipeError(
                f"model.network.num_heads={self.num_heads} must be a multiple of kv_heads={self.kv_heads}",
                code="shape",
                path="model.network.num_heads",
                value=self.num_heads,
            )
        if not (self.rope_base > 1 and self.norm_eps > 0):
            raise RecipeError(
                f"model.network: rope_base={self.rope_base} must be above 1, norm_eps={self.norm_eps} above 0",
                code="range",
                path=f"model.network.{'norm_eps' if self.rope_base > 1 else 'rope_base'}",
                value=self.norm_eps if self.rope_base > 1 else self.rope_base,
            )

    @property
    def transformer(self) -> TransformerSizes:
        """The sizes that every text model knows of its network."""
        return TransformerSizes(
            dim=self.dim, num_layers=self.num_layers, num_heads=self.num_heads, filter_dim=self.filter_dim, dropout=0.0
        )


LLADA_8B = LargeSizes(rope_base=500000.0)
DREAM_7B = LargeSizes(3584, 28, 28, 4, 18944, rope_base=1e6, norm_eps=1e-6, biased=True)
FAST_DLLM_7B = DREAM_7B


class LargeLayer(nn.Module):
    """Self-attention with shared keys and values, and a gated feed-forward, each added to what went in."""

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(
        columns=dict.fromkeys(("query", "key", "value", "gate", "up"), 1),
        rows=("attention_out", "feed_out"),
        heads=("num_heads", "kv_heads"),
    )

    def __init__(self, sizes: LargeSizes):
        super().__init__()
        dim, head_dim = sizes.dim, sizes.dim // sizes.num_heads
        self.num_heads, self.kv_heads = sizes.num_heads, sizes.kv_heads
        self.attention_norm = nn.RMSNorm(dim, sizes.norm_eps)
        self.query = nn.Linear(dim, dim, bias=sizes.biased)
        self.key = nn.Linear(dim, sizes.kv_heads * head_dim, bias=sizes.biased)
        self.value = nn.Linear(dim, sizes.kv_heads * head_dim, bias=sizes.biased)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.feed_norm = nn.RMSNorm(dim, sizes.norm_eps)
        self.gate = nn.Linear(dim, sizes.filter_dim, bias=False)
        self.up = nn.Linear(dim, sizes.filter_dim, bias=False)
        self.feed_out = nn.Linear(sizes.filter_dim, dim, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        places: Rotation,
        mask: Bool[Tensor, "b 1 t m"] | None,
        causal: bool,
        cache: Keep | None,
        number: int,
    ) -> Float[Tensor, "b t d"]:
        y = self.attention_norm(x)
        q = split_heads(self.query(y), self.num_heads)
        k, v = (split_heads(part(y), self.kv_heads) for part in (self.key, self.value))
        q, k = rotate(q, places), rotate(k, places)
        if cache is not None:
            k, v = cache.append(number, k, v)
        x = x + self.attention_out(attend(q, k, v, mask, causal=causal))
        y = self.feed_norm(x)
        return x + self.feed_out(F.silu(self.gate(y)) * self.up(y))


class LargeTransformer(LayerStack):
    """Tokens to logits, called as ``TextTransformer``; see this module."""

    def __init__(self, sizes: LargeSizes, rows: int, attention: str):
        super().__init__()
        self.attention, self.block_size = attention, block_size_of(attention)
        self.dim, self.head_dim, self.rope_base = sizes.dim, sizes.dim // sizes.num_heads, sizes.rope_base
        self.num_layers, self.kv_heads = sizes.num_layers, sizes.kv_heads
        self.embedding = nn.Embedding(rows, sizes.dim)
        self.layers = Modules(LargeLayer(sizes) for _ in range(sizes.num_layers))
        self.norm = nn.RMSNorm(sizes.dim, sizes.norm_eps)
        self.own_head = None if sizes.tied else nn.Linear(sizes.dim, rows, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def head(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t v"]:
        """Return the logits of normalised states."""
        return F.linear(hidden, self.embedding.weight) if self.own_head is None else self.own_head(hidden)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | Bool[Tensor, "b t m"] | None = None,
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"] | None = None,
        cache: Keep | None = None,
        *,
        hidden: bool = False,
    ) -> Float[Tensor, "b t v"]:
        """Return logits, or with ``hidden`` the normalised states; see ``TextTransformer.forward``."""
        return self.trunk(self.embedding(tokens), mask, positions, cache, hidden)

    def trunk(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | Bool[Tensor, "b t m"] | None = None,
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"] | None = None,
        cache: Keep | None = None,
        hidden: bool = False,
    ) -> Float[Tensor, "b t v"]:
        """What is behind the embedding; arguments as in ``forward``."""
        x = self.through(x, mask, positions, cache)
        return x if hidden else self.head(x)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Keys and values of one position: layers, 2, heads, channels."""
        return (self.num_layers, 2, self.kv_heads, self.head_dim)


class Large:
    """What the models share: a network of published sizes, and a mask that may be one of the tokenizer's tokens."""

    network: LargeSizes
    vocabulary: int
    attention: Any

    @property
    def mask_id(self) -> int:
        return self.vocabulary if self.network.mask_token is None else self.network.mask_token

    @property
    def last_id(self) -> int:
        """The last id that is read."""
        return max(self.vocabulary - 1, self.mask_id)

    def make_net(self) -> nn.Module:
        """Return the network once the vocabulary is known; raises ``DataError`` where it has too few rows."""
        sizes = self.network
        rows, least = sizes.rows or self.last_id + 1, self.last_id + 1
        if rows < least:
            raise DataError(
                f"model.network.rows={rows}, but the tokenizer has {self.vocabulary} tokens and ids up to "
                f"{self.last_id} are read: at least {least}; take the tokenizer that the model was trained with",
                code="range",
                path="model.network.rows",
                value=rows,
            )
        return LargeTransformer(sizes, rows, self.attention).to(getattr(torch, sizes.kind))


class LLaDA(Large, MaskedText):
    """Masked diffusion by a Llama that sees both ways.

    Args:
        network: its sizes.
    """

    salt: ClassVar[str] = "llada"
    flat: ClassVar[dict[str, str]] = {}

    def __init__(self, network: LargeSizes = LLADA_8B):
        super().__init__(network=network.transformer)
        self.network = network

    def predict(
        self,
        tokens: Int[Tensor, "b t"],
        sees: Bool[Tensor, "b t m"] | Bool[Tensor, "b t"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return logits of every position; never of the mask."""
        return spoken(self, self.net(tokens, sees, positions, cache))


class Dream(LLaDA):
    """Masked diffusion by a Qwen2 that sees both ways, and says each token one place before.

    The first token has none before it: what stands at itself is read, as published.

    Args:
        network: its sizes.
    """

    salt: ClassVar[str] = "dream"

    def __init__(self, network: LargeSizes = DREAM_7B):
        super().__init__(network)
        self.remembers = False

    def predict(
        self,
        tokens: Int[Tensor, "b t"],
        sees: Bool[Tensor, "b t m"] | Bool[Tensor, "b t"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return logits of every position, of which there must be all: each is read one place before."""
        return spoken(self, shifted(self, self.net, tokens, sees, positions, cache))


class FastDLLM(Large, BlockModel):
    """Block diffusion by a Qwen2 that says each token one place before.

    Args:
        network: its sizes.
        block_size: tokens of a block.
        clip: the interval that training draws times from.
    """

    salt: ClassVar[str] = "fastdllm"
    flat: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        *,
        network: LargeSizes = FAST_DLLM_7B,
        block_size: int = 32,
        clip: tuple[float, float] = (0.0, 1.0),
    ):
        super().__init__(network=network.transformer, block_size=block_size, clip=clip)
        self.network, self.remembers = network, False

    def predict(
        self,
        tokens: Int[Tensor, "b t"],
        sees: Bool[Tensor, "b t m"] | Bool[Tensor, "b t"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return logits of every position, of which there must be all: each is read one place before."""
        return spoken(self, shifted(self, self.net, tokens, sees, positions, cache))

    def read(self, corrupted: Corrupted, batch: dict[str, Any]) -> Float[Tensor, "b t v"]:
        return spoken(self, one_before(super().read(corrupted, batch)))


def spoken(model: Any, logits: Float[Tensor, "b t r"]) -> Float[Tensor, "b t v"]:
    """Return the logits of the tokenizer's tokens, the mask's −∞: rows that no token has are never said."""
    logits = logits[..., : model.vocabulary]
    if model.mask_id >= model.vocabulary:
        return logits
    mask = torch.zeros(model.vocabulary, dtype=torch.bool, device=logits.device)
    mask[model.mask_id] = True
    return logits.masked_fill(mask, -torch.inf)


def shifted(model: Any, net: Any, tokens: Tensor, sees: Any, positions: Any, cache: Any) -> Float[Tensor, "b t r"]:
    """Return a network's logits, each read one place before; raises ``ValueError`` for a cache."""
    if cache is not None:
        raise ValueError(f"{type(model).__name__} reads each token one place before: predict without a cache")
    return one_before(net(tokens, sees, positions))


def one_before(logits: Float[Tensor, "b t r"]) -> Float[Tensor, "b t r"]:
    """Return at each place what was said at the one before; at the first, what was said there."""
    return torch.cat([logits[:, :1], logits[:, :-1]], 1)
