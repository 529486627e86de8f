"""The Conformer: attention for what is far, convolution for what is near, between two halves of a feed-forward.

Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition" (arXiv:2005.08100), with rotary
positions (Su et al., arXiv:2104.09864), as SoundStorm has it (arXiv:2305.09636, section 3.2). Differences: LayerNorm in
place of BatchNorm inside the convolution module, so that an item does not depend on its batch; padding is zeroed
before the convolution; attention itself has no dropout.

Shapes: b batch, t time, d channels, h heads. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError


class ConformerBlock(nn.Module):
    """One block.

    ::

        x ─ + ½ feed-forward ─ + attention ─ + convolution ─ + ½ feed-forward ─ LayerNorm ─

        feed-forward   LayerNorm ─ Linear ─ SiLU ─ Linear
        attention      LayerNorm ─ q, k, v ─ rotate q and k ─ softmax ─ Linear
        convolution    LayerNorm ─ Linear ─ GLU ─ depthwise conv k ─ LayerNorm ─ SiLU ─ Linear
    """

    def __init__(self, dim: int, num_heads: int, filter_dim: int, kernel_size: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
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

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], angles: Float[Tensor, "t a"]
    ) -> Float[Tensor, "b t d"]:
        x = x + 0.5 * self.before(x)
        x = self.convolve(self.attend(x, mask, angles), mask)
        return self.norm(x + 0.5 * self.after(x))

    def attend(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], angles: Float[Tensor, "t a"]
    ) -> Float[Tensor, "b t d"]:
        """Add what attention sees."""
        q, k, v = self.heads(self.qkv(self.attention_norm(x)), 3)
        # no dropout here: with it, a CPU has no fast kernel, and a training step takes half as long again
        seen = F.scaled_dot_product_attention(rotate(q, angles), rotate(k, angles), v, attn_mask=mask[:, None, None])
        return x + self.dropout(self.attention_out(seen.transpose(1, 2).flatten(2)))

    def convolve(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Add what the convolution makes of the frames nearby."""
        near = self.gated(x) * mask[..., None]
        return x + self.mixed(self.depthwise(near.mT).mT)

    def heads(self, x: Float[Tensor, "b t c"], count: int) -> Float[Tensor, "n b h t a"]:
        """Return ``count`` tensors of channels, each cut into heads."""
        return x.unflatten(-1, (count, self.num_heads, -1)).permute(2, 0, 3, 1, 4)

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

    def __init__(
        self, dim: int, num_layers: int, num_heads: int, filter_dim: int, kernel_size: int = 5, dropout: float = 0.1
    ):
        super().__init__()
        if dim % (2 * num_heads):
            raise RecipeError(f"model.dim={dim} must be a multiple of twice num_heads={num_heads}")
        if kernel_size % 2 == 0:
            raise RecipeError(f"model.kernel_size={kernel_size} must be odd, or frames move")
        self.head_dim = dim // num_heads
        self.blocks = nn.ModuleList(
            ConformerBlock(dim, num_heads, filter_dim, kernel_size, dropout) for _ in range(num_layers)
        )

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        angles = rotary_angles(x.shape[1], self.head_dim, x.device)
        for block in self.blocks:
            x = block(x, mask, angles)
        return x


def rotary_angles(length: int, head_dim: int, device: torch.device | None = None) -> Float[Tensor, "t a"]:
    """Return position times rate, for half as many rates as a head has channels: 1 down to 1/10000 (RoFormer)."""
    rates = 10000.0 ** (-torch.arange(head_dim // 2, device=device, dtype=torch.float32) / (head_dim // 2))
    return torch.arange(length, device=device, dtype=torch.float32)[:, None] * rates


def rotate(x: Float[Tensor, "b h t c"], angles: Float[Tensor, "t a"]) -> Float[Tensor, "b h t c"]:
    """Turn each pair of channels (i, i + c/2) by the position's angle: products then depend on distances alone."""
    cosine, sine = angles.cos(), angles.sin()
    with torch.autocast(x.device.type, enabled=False):
        one, other = x.float().chunk(2, -1)
        return torch.cat([one * cosine - other * sine, one * sine + other * cosine], -1).to(x.dtype)
