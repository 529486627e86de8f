"""Zipformer layer: the published one as ZipVoice has it, the time added three times (arXiv:2310.11230, §3.1).

::

    x ─┬─ weights ──┬───────────────┬────────────────────────────────────┐
       │  + time    │               │     + time                         │     + time
       └─ feed ¾ ─ nonlinear sum ─ sum 1 ─ conv 1 ─ feed ─ bypass of x ─ sum 2 ─ conv 2 ─ feed 5/4 ─ norm ─ bypass of x

Each is added to what went in. Left out, since they are tools of the published optimiser (ScaledAdam) or of very deep
stacks: Balancer and Whiten, which change gradients alone; layers, sums and convolutions dropped at random in the first
steps; limits on the bypass' shares. Dropout is constant, where it falls from 0.3 to 0.1 in the first 20,000 steps.

Shapes: b batch, t frames, d channels. Masks are True where a frame is kept.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono_tts.zipvoice.attention import AttentionWeights, NonlinearSum, WeightedSum
from unisono_tts.zipvoice.parts import BiasNorm, Bypass, scaled_linear, swoosh_l, swoosh_r
from unisono_tts.zipvoice.sizes import LayerSizes


class FeedForward(nn.Module):
    """Linear ─ swoosh L ─ dropout of channels ─ linear."""

    def __init__(self, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.feed_in = nn.Linear(dim, hidden)
        self.feed_out = scaled_linear(hidden, dim, 0.1)
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        hidden = swoosh_l(self.feed_in(x))
        if self.training and self.dropout:
            hidden = hidden * F.dropout(torch.ones_like(hidden[:, :1]), self.dropout)
        return self.feed_out(hidden)


class Convolution(nn.Module):
    """Gated linear ─ convolution of each channel ─ swoosh R ─ linear."""

    def __init__(self, dim: int, kernel_size: int):
        super().__init__()
        self.gate = nn.Linear(dim, 2 * dim)
        self.conv = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.out = scaled_linear(dim, dim, 0.05)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        hidden = rearrange(F.glu(self.gate(x), -1) * mask[..., None], "b t d -> b d t")
        return self.out(swoosh_r(rearrange(self.conv(hidden), "b d t -> b t d")))


class Layer(nn.Module):
    """One layer; ``time`` is None in a stack that has none."""

    def __init__(self, sizes: LayerSizes, kernel_size: int):
        super().__init__()
        dim, feed, dropout = sizes.dim, sizes.feed_dim, sizes.dropout
        self.weights = AttentionWeights(sizes)
        self.feeds = nn.ModuleList(FeedForward(dim, feed * part // 4, dropout) for part in (3, 4, 5))
        self.nonlinear = NonlinearSum(sizes)
        self.sums = nn.ModuleList(WeightedSum(sizes) for _ in range(2))
        self.convs = nn.ModuleList(Convolution(dim, kernel_size) for _ in range(2))
        self.middle, self.end = Bypass(dim), Bypass(dim)
        self.norm = BiasNorm(dim)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], time: Float[Tensor, "b d"] | None
    ) -> Float[Tensor, "b t d"]:
        before, weights = x, self.weights(x, mask)
        added = 0.0 if time is None else time[:, None]
        x = x + added
        x = x + self.feeds[0](x)
        x = x + self.nonlinear(x, weights)
        x = x + self.sums[0](x, weights) + added
        x = x + self.convs[0](x, mask)
        x = x + self.feeds[1](x)
        x = self.middle(before, x)
        x = x + self.sums[1](x, weights) + added
        x = x + self.convs[1](x, mask)
        x = x + self.feeds[2](x)
        return self.end(before, self.norm(x))
