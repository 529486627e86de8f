"""State space: diagonal linear recurrences as layers, which convolve, scan or step with one result.

S4D (Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models",
arXiv:2206.11893), in blocks of S4 (Gu, Goel, Ré, arXiv:2111.00396). A channel u has n complex modes::

    s_t = ā s_{t−1} + u_t        ā = exp(Δ a),  a = −exp(α) + i ω
    y_t = 2 Re Σ c (ā − 1)/a s_t + D u_t                              zero-order hold, B = 1

The same y in three ways: a convolution with the kernel k_j = 2 Re Σ c (ā − 1)/a ā^j by FFT, which trains fast; a
parallel prefix scan; a step at a time, which needs the state alone. All of them begin with any state and leave one.

Differences:
- The state is that of the input itself; what zero-order hold scales it by is part of the readout. That is the same y.
- S4D-Lin's beginning (α = log ½, ω = π·0, π·1, …); B is 1 and is not learnt, as c can stand for both.
- Dropout is plain; S4 ties it over the length.

Shapes: b batch, l length, d channels, n complex modes of a channel. Masks are True where kept.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.nn.fft import keep
from unisono.nn.modules import Modules
from unisono.nn.scan import prefix_scan

__all__ = ["Method", "StateSpace", "StateSpaceBlock", "StateSpaceStack", "TwoWayBlock", "TwoWayStack"]

Method = Literal["convolution", "scan", "recurrence"]
State = Complex[Tensor, "b d n"]


class StateSpace(nn.Module):
    """A diagonal state space for each channel.

    Args:
        dim: d.
        state_dim: real numbers of a channel's state, 2n: even.
        fastest, slowest: between which the time steps Δ of channels begin, log-uniform; a channel with Δ remembers some
            2/Δ steps.
    """

    def __init__(self, dim: int, state_dim: int = 64, fastest: float = 0.1, slowest: float = 0.001):
        super().__init__()
        if dim < 1 or state_dim < 2 or state_dim % 2:
            raise ValueError(f"dim={dim} must be at least 1, state_dim={state_dim} even and at least 2")
        modes = state_dim // 2
        self.log_step = nn.Parameter(torch.empty(dim).uniform_(math.log(slowest), math.log(fastest)))
        self.log_decay = nn.Parameter(torch.full((dim, modes), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(modes).float().repeat(dim, 1))
        self.readout = nn.Parameter(torch.randn(dim, modes, 2) * 0.5**0.5)
        self.skip = nn.Parameter(torch.randn(dim))

    def begin(self, batch: int) -> State:
        """Return the state of nothing read."""
        like = torch.view_as_complex(self.readout.detach())
        return torch.zeros(batch, *like.shape, dtype=like.dtype, device=like.device)

    def modes(self) -> tuple[Complex[Tensor, "d n"], Complex[Tensor, "d n"]]:
        """Return log ā and the readout of a state, 2c (ā − 1)/a."""
        rate = torch.complex(-self.log_decay.exp(), self.frequency)
        log = rate * self.log_step.exp()[:, None]
        return log, 2 * torch.view_as_complex(self.readout) * torch.expm1(log) / rate

    def kernel(self, length: int) -> Float[Tensor, "d l"]:
        """Return what an impulse gives, D apart."""
        log, out = self.modes()
        places = torch.arange(length, device=log.device)
        size, angle = (log.real[..., None] * places).exp(), log.imag[..., None] * places
        # Re (out · size · e^(i angle)) in real numbers: half the time of complex ones
        return torch.einsum("dn,dnl->dl", out.real, size * angle.cos()) - torch.einsum(
            "dn,dnl->dl", out.imag, size * angle.sin()
        )

    def forward(self, u: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """Convolve from the state of nothing read: what training does."""
        with torch.autocast(u.device.type, enabled=False):
            wide = u.to(self.skip.dtype)
            return (_convolve(wide, self.kernel(u.shape[1])) + wide * self.skip).to(u.dtype)

    def resume(
        self, u: Float[Tensor, "b l d"], state: State, method: Method = "convolution"
    ) -> tuple[Float[Tensor, "b l d"], State]:
        """Read on from a state; the new one is that after the last place, padding included."""
        with torch.autocast(u.device.type, enabled=False):
            wide = u.to(self.skip.dtype)
            y, state = _METHODS[method](self, wide, state)
            return (y + wide * self.skip).to(u.dtype), state

    def step(self, u: Float[Tensor, "b d"], state: State) -> tuple[Float[Tensor, "b d"], State]:
        """Read one place."""
        y, state = self.resume(u[:, None], state, "recurrence")
        return y[:, 0], state

    def by_convolution(self, u: Float[Tensor, "b l d"], state: State) -> tuple[Float[Tensor, "b l d"], State]:
        """All places by FFT, and what the state gives at each; D apart."""
        length = u.shape[1]
        log, out = self.modes()
        powers = self._powers(log, 0, length + 1)
        kernel = torch.einsum("dn,dnl->dl", out, powers[..., :-1]).real
        rest = torch.einsum("dn,bdn,dnl->bld", out, state, powers[..., 1:]).real
        last = state * powers[..., -1] + torch.einsum("bld,dnl->bdn", u.to(state.dtype), powers[..., :-1].flip(-1))
        return _convolve(u, kernel) + rest, last

    def by_scan(self, u: Float[Tensor, "b l d"], state: State) -> tuple[Float[Tensor, "b l d"], State]:
        """All places by a prefix scan; D apart."""
        log, out = self.modes()
        first = u[:, :1, :, None] + (log.exp() * state)[:, None]
        entered = torch.cat([first, u[:, 1:, :, None].expand(-1, -1, -1, state.shape[-1])], 1).transpose(0, 1)
        states = prefix_scan(log.exp().expand_as(entered), entered)
        return torch.einsum("dn,lbdn->bld", out, states).real, states[-1]

    def by_recurrence(self, u: Float[Tensor, "b l d"], state: State) -> tuple[Float[Tensor, "b l d"], State]:
        """A place after the other; D apart."""
        log, out = self.modes()
        move, made = log.exp(), []
        for place in u.unbind(1):
            state = move * state + place[..., None]
            made.append((out * state).sum(-1).real)
        return torch.stack(made, 1), state

    @staticmethod
    def _powers(log: Complex[Tensor, "d n"], first: int, last: int) -> Complex[Tensor, "d n l"]:
        return (log[..., None] * torch.arange(first, last, device=log.device)).exp()


class StateSpaceBlock(nn.Module):
    """::

    x ─┬─ LayerNorm ─ state space ─ GELU ─ linear 2d ─ GLU ─ (+) ─
       └──────────────────────────────────────────────────────┘
    """

    def __init__(self, dim: int, state_dim: int = 64, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.space = StateSpace(dim, state_dim)
        self.mix = nn.Linear(dim, 2 * dim)
        self.dropout = nn.Dropout(dropout)

    def begin(self, batch: int) -> State:
        """Return the state of nothing read."""
        return self.space.begin(batch)

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return x + self._mixed(self.space(self.norm(x)))

    def resume(
        self, x: Float[Tensor, "b l d"], state: State, method: Method = "convolution"
    ) -> tuple[Float[Tensor, "b l d"], State]:
        """Read on from a state."""
        y, state = self.space.resume(self.norm(x), state, method)
        return x + self._mixed(y), state

    def _mixed(self, y: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return self.dropout(F.glu(self.mix(self.dropout(F.gelu(y))), -1))


class StateSpaceStack(nn.Module):
    """Blocks one after the other, and a LayerNorm: place t knows the places up to t.

    Args:
        blocks: each of the kind `StateSpaceBlock`, or another with its ``begin``, ``forward`` and ``resume``.
        dim: d.
    """

    def __init__(self, blocks: Iterable[nn.Module], dim: int):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)

    def begin(self, batch: int) -> list[Tensor]:
        """Return the states of nothing read."""
        return [block.begin(batch) for block in self._all]

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def resume(
        self, x: Float[Tensor, "b l d"], states: Sequence[Tensor], method: Method = "convolution"
    ) -> tuple[Float[Tensor, "b l d"], list[Tensor]]:
        """Read on from states."""
        left = []
        for block, state in zip(self._all, states, strict=True):
            x, state = block.resume(x, state, method)
            left.append(state)
        return self.norm(x), left

    @property
    def _all(self) -> list[Any]:
        return list(self.blocks)


class TwoWayBlock(nn.Module):
    """As `StateSpaceBlock`, of two state spaces, one of them from the end to the beginning.

    Padding is 0 to both, and a state of nothing read stays so: an item alone and in a batch agree.
    """

    def __init__(self, dim: int, state_dim: int = 64, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.onward = StateSpace(dim, state_dim)
        self.back = StateSpace(dim, state_dim)
        self.mix = nn.Linear(2 * dim, 2 * dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"] | None = None) -> Float[Tensor, "b l d"]:
        u = keep(self.norm(x), mask)
        y = torch.cat([self.onward(u), self.back(u.flip(1)).flip(1)], -1)
        return x + self.dropout(F.glu(self.mix(self.dropout(F.gelu(y))), -1))


class TwoWayStack(nn.Module):
    """Blocks that read both ways, one after the other, and a LayerNorm: every place knows all that is kept."""

    def __init__(self, blocks: Iterable[TwoWayBlock], dim: int):
        super().__init__()
        self.blocks = Modules(blocks)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"] | None = None) -> Float[Tensor, "b l d"]:
        for block in self.blocks:
            x = block(x, mask)
        return keep(self.norm(x), mask)


def _convolve(u: Float[Tensor, "b l d"], kernel: Float[Tensor, "d l"]) -> Float[Tensor, "b l d"]:
    """The causal convolution of each channel, by FFTs that are twice as long, so that nothing wraps round."""
    length = u.shape[1]
    product = torch.fft.rfft(u.mT, 2 * length) * torch.fft.rfft(kernel, 2 * length)
    return torch.fft.irfft(product, 2 * length)[..., :length].mT


_METHODS = {
    "convolution": StateSpace.by_convolution,
    "scan": StateSpace.by_scan,
    "recurrence": StateSpace.by_recurrence,
}
