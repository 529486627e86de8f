"""The Conformer: attention for what is far, convolution for what is near, between two halves of a feed-forward.

Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition" (arXiv:2005.08100), with rotary
positions (Su et al., arXiv:2104.09864), as SoundStorm has it (arXiv:2305.09636, section 3.2). Differences: LayerNorm in
place of BatchNorm inside the convolution module, so that an item does not depend on its batch; padding is zeroed
before the convolution; attention itself has no dropout.

Shapes: b batch, t time, d channels, h heads. Masks are True where a position is kept.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.nn.attention import attend, split_parts
from unisono.nn.rotary import Rotation, rotate, rotation
from unisono.nn.tensor_plan import TensorPlan

from unisono_codec.voices.sizes import ConformerSizes


class ConformerBlock(nn.Module):
    """One block.

    ::

        x ─ + ½ feed-forward ─ + attention ─ + convolution ─ + ½ feed-forward ─ LayerNorm ─

        feed-forward   LayerNorm ─ Linear ─ SiLU ─ Linear
        attention      LayerNorm ─ q, k, v ─ rotate q and k ─ softmax ─ Linear
        convolution    LayerNorm ─ Linear ─ GLU ─ depthwise conv k ─ LayerNorm ─ SiLU ─ Linear
    """

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(
        columns={"before.inside": 1, "qkv": 3, "look_query": 1, "look_memory": 2, "after.inside": 1},
        rows=("before.out", "attention_out", "look_out", "after.out"),
    )

    def __init__(self, sizes: ConformerSizes):
        super().__init__()
        dim, filter_dim, kernel_size, dropout = sizes.dim, sizes.filter_dim, sizes.kernel_size, sizes.dropout
        self.num_heads = sizes.num_heads
        self.before = FeedForward(dim, filter_dim, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.conv_norm = nn.LayerNorm(dim)
        self.conv_in = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.conv_out = nn.Linear(dim, dim)
        self.after = FeedForward(dim, filter_dim, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], places: Rotation) -> Float[Tensor, "b t d"]:
        x = x + 0.5 * self.before(x)
        x = self.convolve(self.attend(x, mask, places), mask)
        return self.norm(x + 0.5 * self.after(x))

    def attend(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], places: Rotation) -> Float[Tensor, "b t d"]:
        """Add what attention sees."""
        q, k, v = split_parts(self.qkv(self.attention_norm(x)), self.num_heads)
        # no dropout here: with it, a CPU has no fast kernel, and a training step takes half as long again
        seen = attend(rotate(q, places), rotate(k, places), v, mask[:, None, None])
        return x + self.dropout(self.attention_out(seen))

    def convolve(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Add what the convolution makes of the frames nearby."""
        near = self.gated(x) * mask[..., None]
        return x + self.mixed(self.depthwise(near.mT).mT)

    def gated(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what the depthwise convolution reads."""
        return F.glu(self.conv_in(self.conv_norm(x)), -1)

    def mixed(self, near: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what is made of the depthwise convolution's output."""
        return self.dropout(self.conv_out(F.silu(self.depthwise_norm(near))))


class FeedForward(nn.Module):
    """LayerNorm ─ Linear ─ SiLU ─ dropout ─ Linear ─ dropout."""

    def __init__(self, dim: int, filter_dim: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inside = nn.Linear(dim, filter_dim)
        self.out = nn.Linear(filter_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(self.out(self.dropout(F.silu(self.inside(self.norm(x))))))


class Conformer(nn.Module):
    """Blocks one after the other, for sequences of any length: positions count only relative to each other."""

    def __init__(self, sizes: ConformerSizes):
        super().__init__()
        if sizes.dim % (2 * sizes.num_heads):
            message = f"model.network.dim={sizes.dim} must be a multiple of twice num_heads={sizes.num_heads}"
            raise RecipeError(message, code="value", path="model.network.dim", value=sizes.dim)
        if sizes.kernel_size % 2 == 0:
            message = f"model.network.kernel_size={sizes.kernel_size} must be odd, or frames move"
            raise RecipeError(message, code="value", path="model.network.kernel_size", value=sizes.kernel_size)
        self.head_dim = sizes.dim // sizes.num_heads
        self.blocks = nn.ModuleList(ConformerBlock(sizes) for _ in range(sizes.num_layers))

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        places = rotation(torch.arange(x.shape[1]), self.head_dim, device=x.device)
        for block in self.blocks:
            x = block(x, mask, places)
        return x
