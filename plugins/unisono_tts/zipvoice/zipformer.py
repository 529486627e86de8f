"""Zipformer: stacks of layers, some of them on fewer frames, one behind the other (arXiv:2310.11230, §3.1).

::

    x ─ linear ─ stack (1) ─┬─ fewer frames ─ stack (2) ─ back ─ bypass ─ … stack (4) … (2) … (1) ─ linear
                            └───────────────────────────────────┘
                  time ─ MLP ─ each stack ─ linear ─ each layer

ZipVoice uses one for its field and, at one rate and without a time, one that reads the text. An item is computed as if
alone: where a group of frames is not full, the item's own last frame fills it.

Shapes: b batch, t frames, c channels in, e out, d within, k of the time.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.nn.modules import Modules

from unisono_tts.time_code import time_code
from unisono_tts.zipvoice.layer import Layer
from unisono_tts.zipvoice.parts import Bypass, FewerFrames, mask_of, swoosh_r
from unisono_tts.zipvoice.sizes import FieldSizes, LayerSizes, ReaderSizes


class Stack(nn.Module):
    """Layers on every ``rate``-th frame."""

    def __init__(self, sizes: LayerSizes, num_layers: int, kernel_size: int, rate: int, time_dim: int | None):
        super().__init__()
        self.time = None if time_dim is None else nn.Linear(time_dim, sizes.dim)
        self.fewer = FewerFrames(rate) if rate > 1 else None
        self.combine = Bypass(sizes.dim) if rate > 1 else None
        self.layers = Modules(Layer(sizes, kernel_size) for _ in range(num_layers))

    def forward(
        self, x: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"], time: Float[Tensor, "b k"] | None
    ) -> Float[Tensor, "b t d"]:
        before = x
        added = None if time is None or self.time is None else self.time(swoosh_r(time))
        if self.fewer is not None:
            x, lengths = self.fewer(x, lengths)
        mask = mask_of(lengths, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask, added)
        if self.fewer is None or self.combine is None:
            return x
        return self.combine(before, self.fewer.back(x, before.shape[1]))


class Zipformer(nn.Module):
    """Stacks, with a linear layer before and behind them."""

    def __init__(self, dim_in: int, dim_out: int, stacks: list[Stack], dim: int, time_dim: int | None = None):
        super().__init__()
        self.time_dim = time_dim
        if time_dim is not None:
            self.time_in, self.time_out = nn.Linear(time_dim, 2 * time_dim), nn.Linear(2 * time_dim, time_dim)
        self.enter, self.leave = nn.Linear(dim_in, dim), nn.Linear(dim, dim_out)
        self.stacks = Modules(stacks)

    def forward(
        self, x: Float[Tensor, "b t c"], lengths: Int[Tensor, " b"], time: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b t e"]:
        """``time`` in [0, 1], 1 the noise. Returns 0 beyond an item's length."""
        x, coded = self.enter(x), None
        if self.time_dim is not None and time is not None:
            coded = self.time_out(swoosh_r(self.time_in(time_code(time, self.time_dim))))
        for stack in self.stacks:
            x = stack(x, lengths, coded)
        return self.leave(x) * mask_of(lengths, x.shape[1])[..., None]


def make_reader(dim_in: int, dim_out: int, sizes: ReaderSizes) -> Zipformer:
    """Make the text encoder."""
    return Zipformer(dim_in, dim_out, [Stack(sizes, sizes.num_layers, sizes.kernel_size, 1, None)], sizes.dim)


def make_field(dim_in: int, dim_out: int, sizes: FieldSizes) -> Zipformer:
    """Make the field."""
    stacks = [
        Stack(sizes, layers, kernel, rate, sizes.time_dim)
        for layers, kernel, rate in zip(sizes.layers, sizes.kernels, sizes.rates, strict=True)
    ]
    return Zipformer(dim_in, dim_out, stacks, sizes.dim, sizes.time_dim)
