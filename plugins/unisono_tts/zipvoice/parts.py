"""Parts of a Zipformer: swoosh, bias norm, bypass, fewer frames and back (Yao et al., arXiv:2310.11230, §3).

Shapes: b batch, t frames, d channels, r frames that become one.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def swoosh_l(x: Tensor) -> Tensor:
    """log(1 + exp(x − 4)) − 0.08·x − 0.035."""
    return F.softplus(x - 4) - 0.08 * x - 0.035


def swoosh_r(x: Tensor) -> Tensor:
    """log(1 + exp(x − 1)) − 0.08·x − 0.313261687, which is 0 at 0."""
    return F.softplus(x - 1) - 0.08 * x - 0.313261687


class BiasNorm(nn.Module):
    """x · exp(γ) / RMS(x − bias), γ one number: the length of a vector still tells something, unlike LayerNorm's."""

    def __init__(self, dim: int):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(dim) * 1e-4)
        self.log_scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        wide = x.float()
        scale = (wide - self.bias).square().mean(-1, keepdim=True).clamp(min=1e-12).rsqrt() * self.log_scale.exp()
        return (wide * scale).to(x.dtype)


class Bypass(nn.Module):
    """(1 − c)·before + c·behind, c learnt for each channel, a half at first."""

    def __init__(self, dim: int):
        super().__init__()
        self.share = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, before: Float[Tensor, "b t d"], behind: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return before + (behind - before) * self.share


class FewerFrames(nn.Module):
    """Each ``rate`` frames as one, by weights that are learnt; the last frame of an item fills its last group."""

    def __init__(self, rate: int):
        super().__init__()
        self.rate = rate
        self.logits = nn.Parameter(torch.zeros(rate))

    def forward(
        self, x: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b n d"], Int[Tensor, " b"]]:
        """Return them and the lengths in groups; padding means nothing."""
        groups = -(-x.shape[1] // self.rate)
        places = torch.arange(groups * self.rate, device=x.device)
        index = places.minimum((lengths - 1).clamp(min=0)[:, None])
        chosen = x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
        grouped = rearrange(chosen, "b (t r) d -> b t r d", r=self.rate)
        return torch.einsum("btrd,r->btd", grouped, self.logits.softmax(0).to(x.dtype)), -(-lengths // self.rate)

    def back(self, x: Float[Tensor, "b n d"], frames: int) -> Float[Tensor, "b t d"]:
        """Return each group's vector at each of its frames."""
        return repeat(x, "b t d -> b (t r) d", r=self.rate)[:, :frames]


def mask_of(lengths: Int[Tensor, " b"], frames: int) -> Bool[Tensor, "b t"]:
    """Return which frames are an item's own."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def scaled_linear(dim: int, dim_out: int, scale: float, bias: bool = True) -> nn.Linear:
    """Make a linear layer whose weights begin ``scale`` times as large as usual."""
    layer = nn.Linear(dim, dim_out, bias=bias)
    with torch.no_grad():
        layer.weight *= scale
        if layer.bias is not None:
            nn.init.uniform_(layer.bias, -0.1 * scale, 0.1 * scale)
    return layer
