"""The transformer of every text model: rotary positions, RMSNorm, SwiGLU, and attention of three kinds.

Vaswani et al. 2017 (arXiv:1706.03762) with norms in front (arXiv:2002.04745), RMSNorm (arXiv:1910.07467), rotary
positions (arXiv:2104.09864) and SwiGLU (arXiv:2002.05202), as in Llama (arXiv:2302.13971): no biases anywhere.
MDLM's own network (arXiv:2406.07524) is a DiT with LayerNorm and GELU; a time, where a model reads one, is added to
the embeddings here and modulates the norms there.

::

    bidirectional   every token sees every token                      mdlm, anchored, seed
    causal          a token sees itself and what is before it         ar
    block:N         a token sees its own block of N and those before  block

What a token sees may also be given (``mask``), and keys and values kept (``cache``): one forward pass then serves
prefixes, blocks, trees of proposals and anything else that a mask can say.

Shapes: b batch, t tokens, m keys (kept ones and new ones), h heads, d channels, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.nn.attention import attend
from unisono.nn.modules import Modules
from unisono.nn.rotary import Rotation, rotate, rotation
from unisono.nn.swiglu import SwiGLULayer, init_layers

from unisono_text.models.sizes import TransformerSizes


class Keep(Protocol):
    """What keeps keys and values; `unisono.verify.KVCache` is one."""

    def append(
        self, layer: int, key: Float[Tensor, "b h t d"], value: Float[Tensor, "b h t d"]
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Take a layer's new keys and values, and return all that it attends to."""
        ...


class Layer(SwiGLULayer):
    """Self-attention and a gated feed-forward, each added to what went in.

    ::

        x ─┬─ norm ─ self-attention ─(+)─┬─ norm ─ SiLU(a)·b ─ linear ─(+)─
           └─────────────────────────┘   └───────────────────────────┘
    """

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        places: Rotation,
        mask: Bool[Tensor, "b 1 t m"] | None,
        causal: bool,
        cache: Keep | None,
        number: int,
    ) -> Float[Tensor, "b t d"]:
        """``number`` is the layer's, by which a cache knows it."""
        x = x + self.dropout(self.attend_to(x, places, mask, causal, cache, number))
        return x + self.dropout(self.feed_forward(x))

    def attend_to(
        self,
        x: Float[Tensor, "b t d"],
        places: Rotation,
        mask: Bool[Tensor, "b 1 t m"] | None,
        causal: bool,
        cache: Keep | None,
        number: int,
    ) -> Float[Tensor, "b t d"]:
        """Return what the attention adds to its input; arguments as in ``forward``."""
        q, k, v = self.parts(x)
        q, k = rotate(q, places), rotate(k, places)
        if cache is not None:
            k, v = cache.append(number, k, v)
        return self.attention_out(attend(q, k, v, mask, dropout=self.attention_dropout, causal=causal))


class LayerStack(nn.Module):
    """Layers one after the other, and what of them sees what: what the plugin's transformers share.

    A subclass has ``layers``, ``norm``, ``attention``, ``block_size`` and ``head_dim``; positions turn at rates down to
    1 / ``rope_base``.
    """

    rope_base: float = 10000.0
    layers: Modules[Any]
    norm: nn.RMSNorm
    attention: str
    block_size: int
    head_dim: int

    def through(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | Bool[Tensor, "b t m"] | None = None,
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"] | None = None,
        cache: Keep | None = None,
        first_layer: int = 0,
    ) -> Float[Tensor, "b t d"]:
        """Return the normalised states of vectors; arguments as in `TextTransformer.forward`."""
        if cache is not None and (x.shape[1] > 1 if mask is None else mask.dim() != 3):
            raise ValueError("with a cache, give what each token sees of all keys: mask [batch, tokens, keys]")
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        causal = mask is None and cache is None and self.attention == "causal"
        if cache is None and (mask is None or mask.dim() == 2):
            mask = None if causal else self.visible(positions, mask)
        places = rotation(positions, self.head_dim, self.rope_base, x.device)
        seen = None if mask is None else mask[:, None]
        for number, layer in enumerate(self.layers):
            x = layer(x, places, seen, causal, cache, first_layer + number)
        return self.norm(x)

    def visible(
        self, positions: Int[Tensor, "b t"] | Int[Tensor, " t"], kept: Bool[Tensor, "b t"] | None = None
    ) -> Bool[Tensor, "b t t"] | None:
        """What each token sees by the network's own attention, padding left out; None where that is everything."""
        own = self.sees(positions, positions)
        if own is None and kept is None:
            return None
        t = positions.shape[-1]
        if own is None:
            own = torch.ones(t, t, dtype=torch.bool, device=positions.device)
        own = own if own.dim() == 3 else own[None]
        if kept is None:
            return own
        # Everyone sees itself, padding too: attention over nothing is NaN.
        return (own & kept[:, None]) | torch.eye(t, dtype=torch.bool, device=kept.device)

    def sees(
        self,
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"],
        keys: Int[Tensor, "b m"] | Int[Tensor, " m"],
    ) -> Bool[Tensor, "*b t m"] | None:
        """Whether a token at one position sees another by the network's own attention; None: always."""
        if self.attention == "bidirectional":
            return None
        return positions[..., :, None] // self.block_size >= keys[..., None, :] // self.block_size


class TextTransformer(LayerStack):
    """Tokens to logits; see this module for what sees what.

    ::

        tokens ─ embedding (+ extra) ─ layer × num_layers ─ norm ─┬─ hidden
                                                                  └─ head ─ logits

    Args:
        vocabulary_in: rows of the embedding; the last one stands for what is masked. 0 for a network that is given
            vectors (`trunk`) and no tokens.
        vocabulary_out: tokens that can be predicted; 0 for a network whose hidden states are all that is wanted.
        sizes: of the layers; a ``filter_dim`` of 0 is 8/3 of ``dim``, to the next multiple of 32.
        attention: ``bidirectional``, ``causal`` or ``block:N``.
    """

    def __init__(
        self,
        vocabulary_in: int,
        vocabulary_out: int,
        sizes: TransformerSizes,
        attention: str = "bidirectional",
    ):
        super().__init__()
        dim, num_layers, num_heads = sizes.dim, sizes.num_layers, sizes.num_heads
        self.attention, self.block_size = attention, block_size_of(attention)
        self.vocabulary_in, self.vocabulary_out = vocabulary_in, vocabulary_out
        self.dim, self.num_layers, self.num_heads, self.head_dim = dim, num_layers, num_heads, dim // num_heads
        self.embedding = nn.Embedding(vocabulary_in, dim) if vocabulary_in else None
        self.dropout = nn.Dropout(sizes.dropout)
        self.layers = Modules(Layer(dim, num_heads, sizes.filter_dim, sizes.dropout) for _ in range(num_layers))
        self.norm = nn.RMSNorm(dim)
        self.head = nn.Linear(dim, vocabulary_out, bias=False) if vocabulary_out else None
        init_layers(self, self.layers)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | Bool[Tensor, "b t m"] | None = None,
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"] | None = None,
        cache: Keep | None = None,
        *,
        extra: Float[Tensor, "b t d"] | None = None,
        hidden: bool = False,
        first_layer: int = 0,
    ) -> Float[Tensor, "b t v"]:
        """Return logits, or with ``hidden`` the normalised states that the head reads.

        ``mask`` [b, t] says which tokens are no padding, and attention is the network's own; [b, t, m] says itself
        what each token sees of all keys, in the order in which a ``cache`` returns them, and is required with one;
        a single new token may be given no mask, and sees all that the cache returns.
        ``positions`` count from 0 unless given. ``extra`` is added to the embeddings. ``first_layer`` is the number
        by which a cache knows the first layer, where several networks share one.

        Raises:
            ValueError: for a cache without a mask of all keys.
        """
        assert self.embedding is not None  # a network of vectors is asked by trunk
        x = self.embedding(tokens)
        return self.trunk(x if extra is None else x + extra, mask, positions, cache, hidden, first_layer)

    def trunk(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | Bool[Tensor, "b t m"] | None = None,
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"] | None = None,
        cache: Keep | None = None,
        hidden: bool = False,
        first_layer: int = 0,
    ) -> Float[Tensor, "b t v"]:
        """What is behind the embedding; arguments as in ``forward``."""
        x = self.through(self.dropout(x), mask, positions, cache, first_layer)
        return x if hidden or self.head is None else self.head(x)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Keys and values of one position: layers, 2, heads, channels."""
        return (self.num_layers, 2, self.num_heads, self.head_dim)


def block_size_of(attention: Any) -> int:
    """Return the block size that an attention's name gives (1 for causal, 0 for bidirectional)."""
    if attention in ("bidirectional", "causal"):
        return int(attention == "causal")
    kind, _, size = str(attention).partition(":")
    if kind == "block" and size.isdigit() and int(size) > 0:
        return int(size)
    raise RecipeError(
        f"attention={attention!r} must be bidirectional, causal or block:N, N at least 1",
        code="value",
        path="attention",
        value=attention,
    )
