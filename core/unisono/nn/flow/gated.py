"""Gated net: the network of WaveNet without its causality (van den Oord et al., arXiv:1609.03499; WaveGlow,
arXiv:1811.00002).

Shapes: b batch, t time, i channels that come in, o that go out, d hidden, g of the condition, u 1 or t. Masks are True
at valid places.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from unisono.errors import UnisonoError
from unisono.nn.modules import Modules

__all__ = ["GatedNet", "GatedSizes"]


@dataclass(frozen=True, kw_only=True)
class GatedSizes:
    """Sizes of a gated net, those of Glow-TTS as published.

    dilation_rate: layer number i (from 0) has holes of this to the power of i.
    """

    dim: int = 192
    num_layers: int = 4
    kernel_size: int = 5
    dilation_rate: int = 1
    dropout: float = 0.05

    def __post_init__(self):
        if self.kernel_size % 2 == 0:
            message = f"kernel_size={self.kernel_size} must be odd, so that times stay"
            raise UnisonoError(message, code="value", path="kernel_size", value=self.kernel_size)
        for name in ("num_layers", "dilation_rate"):
            if (value := getattr(self, name)) < 1:
                raise UnisonoError(f"{name}={value} must be at least 1", code="range", path=name, value=value)


class GatedNet(nn.Module):
    """Dilated convolutions with gates; what it says begins as 0.

    ::

        x ─ conv 1 ─ layer ─── layer ─ … layer
                       └─ skips ─ (+) ─ … (+) ─ conv 1, 0 at first ─

        layer: conv k, dilated ─ dropout ─ (+ condition) ─ tanh · σ ─ conv 1 ─┬─ residual
                                                                              └─ skip

    Args:
        in_dim, out_dim: i and o.
        condition_dim: g; 0 for none.
    """

    def __init__(self, in_dim: int, out_dim: int, sizes: GatedSizes, condition_dim: int = 0):
        super().__init__()
        self.condition_dim = condition_dim
        self.first = weight_norm(nn.Conv1d(in_dim, sizes.dim, 1))
        self.layers = Modules(
            _Layer(sizes, sizes.dilation_rate**i, condition_dim, last=i == sizes.num_layers - 1)
            for i in range(sizes.num_layers)
        )
        self.last = nn.Conv1d(sizes.dim, out_dim, 1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(
        self, x: Float[Tensor, "b t i"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Float[Tensor, "b t o"]:
        """``condition`` is one vector for each item, or one for each place. The result at padding means nothing."""
        if (condition is None) != (self.condition_dim == 0):
            told = "none is given" if condition is None else "one is given"
            message = f"condition_dim={self.condition_dim}, and {told}: build the net for what it is given"
            raise UnisonoError(message, code="conflict", path="condition_dim", value=self.condition_dim)
        inside = mask[:, None]
        hidden = self.first(x.to(self.last.weight.dtype).mT) * inside
        skips = torch.zeros_like(hidden)
        for layer in self.layers:
            residual, skip = layer(hidden, condition)
            skips = skips + skip
            if residual is not None:
                hidden = (hidden + residual) * inside
        return self.last(skips).mT


class _Layer(nn.Module):
    """One layer of channels-first maps; the last one has no residual, which nobody would read."""

    def __init__(self, sizes: GatedSizes, dilation: int, condition_dim: int, last: bool):
        super().__init__()
        dim, reach = sizes.dim, sizes.kernel_size // 2 * dilation
        self.conv = weight_norm(nn.Conv1d(dim, 2 * dim, sizes.kernel_size, padding=reach, dilation=dilation))
        self.condition = weight_norm(nn.Linear(condition_dim, 2 * dim)) if condition_dim else None
        self.out = weight_norm(nn.Conv1d(dim, dim if last else 2 * dim, 1))
        self.dropout = nn.Dropout(sizes.dropout)
        self.is_last = last

    def forward(
        self, x: Float[Tensor, "b d t"], condition: Float[Tensor, "b u g"] | None
    ) -> tuple[Float[Tensor, "b d t"] | None, Float[Tensor, "b d t"]]:
        hidden = self.dropout(self.conv(x))
        if self.condition is not None and condition is not None:
            hidden = hidden + self.condition(condition.to(x.dtype)).mT
        wave, gate = hidden.chunk(2, dim=1)
        made = self.out(wave.tanh() * gate.sigmoid())
        return (None, made) if self.is_last else made.chunk(2, dim=1)
