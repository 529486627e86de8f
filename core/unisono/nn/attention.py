"""Attention: heads from vectors, PyTorch's scaled dot-product attention, vectors from heads.

Shapes: b batch, t time, h heads, q queries, k keys, g heads of the keys, c channels of one head. Masks are True where
a key may be seen.
"""

from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def split_heads(x: Float[Tensor, "b t hc"], num_heads: int) -> Float[Tensor, "b h t c"]:
    """Cut each vector into heads."""
    return rearrange(x, "b t (h c) -> b h t c", h=num_heads)


def split_parts(x: Float[Tensor, "b t phc"], num_heads: int, parts: int = 3) -> Float[Tensor, "p b h t c"]:
    """Cut each vector into parts, queries, keys and values if there are three, and each part into heads."""
    return rearrange(x, "b t (p h c) -> p b h t c", p=parts, h=num_heads)


def attend(
    queries: Float[Tensor, "b h q c"],
    keys: Float[Tensor, "b g k c"],
    values: Float[Tensor, "b g k c"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    dropout: float = 0.0,
    causal: bool = False,
) -> Float[Tensor, "b q hc"]:
    """Return what each query sees, the heads joined again.

    ``mask`` is broadcast to [b, h, q, k]. Where keys have fewer heads than queries, each serves a group of them
    (arXiv:2305.13245).
    """
    shared = queries.shape[1] // keys.shape[1]
    if shared > 1:
        keys, values = (repeat(part, "b g k c -> b (g n) k c", n=shared) for part in (keys, values))
    seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=causal)
    return rearrange(seen, "b h q c -> b q (h c)")
