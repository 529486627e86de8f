"""Maps: residual blocks over time and frequency that never read padding, halved and doubled under a mask.

As in StarGAN v2 (Choi et al., arXiv:1912.01865) and StarGANv2-VC (arXiv:2107.10394): pre-activation, averages to halve,
nearest neighbours to double, sums divided by √2. Frames behind a recording's end are 0 before every convolution, and no
statistic counts them, so that a recording alone and in a batch agree.

Shapes: b batch, c, o channels, t, u frames, f, g frequencies, e style. Masks are True where a frame is kept.
"""

import math
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.norm import AdaptiveInstanceNorm, MaskedInstanceNorm

__all__ = ["DownBlock", "Halving", "PlainBlock", "StyleBlock", "doubled", "halved", "kept"]

Halving = Literal["both", "frequency", "none"]
SLOPE = 0.2


def kept(x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b c t f"]:
    """Return zeros on padding."""
    return x * mask[:, None, :, None]


def halved(
    x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"], how: Halving
) -> tuple[Float[Tensor, "b c u g"], Bool[Tensor, "b u"]]:
    """Average pairs of frequencies and, of ``both``, pairs of frames, of which the last may be one alone."""
    if how == "none":
        return x, mask
    x = rearrange(kept(x, mask), "b c t (g two) -> b c t g two", two=2).mean(-1)
    if how == "frequency":
        return x, mask
    odd = x.shape[2] % 2
    pairs = rearrange(F.pad(x, (0, 0, 0, odd)), "b c (u two) g -> b c u two g", two=2).sum(3)
    count = rearrange(F.pad(mask, (0, odd)), "b (u two) -> b u two", two=2).sum(2)
    return pairs / count.clamp(min=1)[:, None, :, None].to(x.dtype), count > 0


def doubled(x: Float[Tensor, "b c u g"], num_frames: int, how: Halving) -> Float[Tensor, "b c t f"]:
    """Undo ``halved``, by repetition, up to ``num_frames``."""
    if how == "none":
        return x
    x = repeat(x, "b c u g -> b c u (g two)", two=2)
    return repeat(x, "b c u f -> b c (u two) f", two=2)[:, :, :num_frames] if how == "both" else x


class PlainBlock(nn.Module):
    """``lrelu ─ conv 3 ─ halve ─ lrelu ─ conv 3``, added to the halved input: without normalisation, as the style
    encoder, the discriminator and the classifier have it."""

    def __init__(self, dim: int, out_dim: int, how: Halving = "both"):
        super().__init__()
        self.how: Halving = how
        self.first = nn.Conv2d(dim, dim, 3, padding=1)
        self.second = nn.Conv2d(dim, out_dim, 3, padding=1)
        self.across = nn.Conv2d(dim, out_dim, 1, bias=False) if dim != out_dim else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b o u g"], Bool[Tensor, "b u"]]:
        y = self.first(kept(F.leaky_relu(x, SLOPE), mask))
        y, after = halved(y, mask, self.how)
        y = self.second(kept(F.leaky_relu(y, SLOPE), after))
        return (halved(self.across(x), mask, self.how)[0] + y) / math.sqrt(2), after


class DownBlock(PlainBlock):
    """The same with instance normalisation before each activation: what stands for the speaker is taken off."""

    def __init__(self, dim: int, out_dim: int, how: Halving):
        super().__init__(dim, out_dim, how)
        self.first_norm, self.second_norm = MaskedInstanceNorm(dim), MaskedInstanceNorm(dim)

    def forward(
        self, x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b o u g"], Bool[Tensor, "b u"]]:
        y = self.first(kept(F.leaky_relu(self.first_norm(x, mask), SLOPE), mask))
        y, after = halved(y, mask, self.how)
        y = self.second(kept(F.leaky_relu(self.second_norm(y, after), SLOPE), after))
        return (halved(self.across(x), mask, self.how)[0] + y) / math.sqrt(2), after


class StyleBlock(nn.Module):
    """``AdaIN ─ lrelu ─ double ─ conv 3 ─ AdaIN ─ lrelu ─ conv 3``, added to the doubled input."""

    def __init__(self, dim: int, out_dim: int, style_dim: int, how: Halving):
        super().__init__()
        self.how: Halving = how
        self.first_norm = AdaptiveInstanceNorm(dim, style_dim)
        self.second_norm = AdaptiveInstanceNorm(out_dim, style_dim)
        self.first = nn.Conv2d(dim, out_dim, 3, padding=1)
        self.second = nn.Conv2d(out_dim, out_dim, 3, padding=1)
        self.across = nn.Conv2d(dim, out_dim, 1, bias=False) if dim != out_dim else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "b c u g"],
        mask: Bool[Tensor, "b u"],
        after: Bool[Tensor, "b t"],
        style: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b o t f"]:
        """``mask`` is that of what comes in, ``after`` that of what goes out."""
        y = doubled(F.leaky_relu(self.first_norm(x, style, mask), SLOPE), after.shape[1], self.how)
        y = self.first(kept(y, after))
        y = self.second(kept(F.leaky_relu(self.second_norm(y, style, after), SLOPE), after))
        return (doubled(self.across(x), after.shape[1], self.how) + y) / math.sqrt(2)


def mean_of(x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b c"]:
    """Return the mean over the valid places."""
    total = kept(x, mask).sum((2, 3))
    return total / (mask.sum(1, keepdim=True).clamp(min=1) * x.shape[3]).to(x.dtype)


def padded_to(mel: Float[Tensor, "b t f"], multiple: int) -> Float[Tensor, "b 1 t g"]:
    """Return a mel as a map whose frequencies can be halved, zeros above its own."""
    return F.pad(mel, (0, -mel.shape[-1] % multiple))[:, None]


def everywhere(x: Tensor) -> Bool[Tensor, "b t"]:
    """Return a mask that keeps all frames of [b, t, …]."""
    return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
