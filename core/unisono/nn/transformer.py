"""Transformer block: normalises first, with attention to a memory where there is one.

Vaswani et al. 2017 (arXiv:1706.03762), with the norms in front as by Xiong et al. (arXiv:2002.04745).

Shapes: b batch, t positions, w positions of the memory, d channels. Masks are True where kept.
"""

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.nn.attention import attend, split_heads
from unisono.nn.tensor_plan import TensorPlan


class Block(nn.Module):
    """Self-attention, attention to a memory where there is one, feed-forward; each added to what went in.

    ::

        x ─┬─ norm ─ self-attention ─(+)─┬─ norm ─ attention to memory ─(+)─┬─ norm ─ GELU ─(+)─
           └─────────────────────────┘   └──────────────────────────────┘   └────────────┘
    """

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(
        columns={"qkv": 3, "cross_q": 1, "cross_kv": 2, "feed_in": 1}, rows=("self_out", "cross_out", "feed_out")
    )

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.1, cross: bool = False, expansion: int = 4):
        super().__init__()
        self.num_heads = num_heads
        self.self_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.self_out = nn.Linear(dim, dim)
        if cross:
            self.cross_norm = nn.LayerNorm(dim)
            self.cross_q = nn.Linear(dim, dim)
            self.cross_kv = nn.Linear(dim, 2 * dim)
            self.cross_out = nn.Linear(dim, dim)
        self.cross = cross
        self.feed_norm = nn.LayerNorm(dim)
        self.feed_in = nn.Linear(dim, expansion * dim)
        self.feed_out = nn.Linear(expansion * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"],
        memory: Float[Tensor, "b w d"] | None = None,
        memory_mask: Bool[Tensor, "b w"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        q, k, v = self.qkv(self.self_norm(x)).chunk(3, dim=-1)
        x = x + self.dropout(self.self_out(self.attend(q, k, v, mask)))
        if self.cross:
            assert memory is not None and memory_mask is not None
            k, v = self.cross_kv(memory).chunk(2, dim=-1)
            x = x + self.dropout(self.cross_out(self.attend(self.cross_q(self.cross_norm(x)), k, v, memory_mask)))
        return x + self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(x)))))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Bool[Tensor, "b w"]) -> Tensor:
        q, k, v = (split_heads(part, self.num_heads) for part in (q, k, v))
        return attend(q, k, v, mask[:, None, None], dropout=self.dropout.p if self.training else 0.0)
