"""Conformer of a voice: the core's block, one after the other, for sequences of any length.

Gulati et al. (arXiv:2005.08100), with rotary positions, as SoundStorm has it (arXiv:2305.09636, section 3.2); see
``unisono.nn.conformer`` for what differs. Difference from there: the weights of the convolution module are the block's
own, by the names of the exports that there are, and its halves are told apart, so that `autoregressive` can read one
position at a time.

Shapes: b batch, t time, d channels. Masks are True where a position is kept.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.nn import conformer
from unisono.nn.rotary import rotation
from unisono.nn.tensor_plan import TensorPlan

from unisono_codec.voices.sizes import ConformerSizes


class ConformerBlock(conformer.ConformerBlock):
    """One block; the convolution is LayerNorm ─ Linear ─ GLU ─ depthwise conv k ─ LayerNorm ─ SiLU ─ Linear."""

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(
        columns={"before.inside": 1, "qkv": 3, "look_query": 1, "look_memory": 2, "after.inside": 1},
        rows=("before.out", "attention_out", "look_out", "after.out"),
    )

    def __init__(self, sizes: ConformerSizes):
        super().__init__(
            dim=sizes.dim,
            num_heads=sizes.num_heads,
            filter_dim=sizes.filter_dim,
            kernel_size=sizes.kernel_size,
            dropout=sizes.dropout,
        )

    def make_convolution(self, dim: int, kernel_size: int, dropout: float) -> None:
        self.conv_norm = nn.LayerNorm(dim)
        self.conv_in = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.conv_out = nn.Linear(dim, dim)

    def convolve(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        near = self.gated(x) * mask[..., None]
        return x + self.convolved(self.depthwise(near.mT).mT)

    def gated(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what the depthwise convolution reads."""
        return F.glu(self.conv_in(self.conv_norm(x)), -1)

    def convolved(self, near: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what is made of the depthwise convolution's output."""
        return self.dropout(self.conv_out(F.silu(self.depthwise_norm(near))))


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
