"""Selective: a state space whose input says how much of it is kept and how much replaced, by scan or step.

The smallest selective state space (Gu and Dao, "Mamba", arXiv:2312.00752, Theorem 1: one real mode, A = −1, B = 1),
which is a gated linear recurrence (Martin and Cundy, arXiv:1709.04057)::

    s_t = (1 − g_t) s_{t−1} + g_t v_t        g_t = σ(linear of the input)

A linear state space that does not choose forgets at a fixed rate; this one holds a value until another one is written.
As its rate moves with the input it has no kernel: in the place of a convolution it scans.

Differences from Mamba: one mode of a channel, no convolution in front, and an MLP behind in a branch of its own. Gates
begin between 1/55 and 1/2.

Shapes: b batch, l length, d channels.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.nn.scan import prefix_scan
from unisono.nn.state_space import Method

__all__ = ["SelectiveBlock", "gated_scan"]


def gated_scan(
    gate: Float[Tensor, "b l d"], value: Float[Tensor, "b l d"], state: Float[Tensor, "b d"], method: Method = "scan"
) -> Float[Tensor, "b l d"]:
    """Return all s_t = (1 − gate_t) s_{t−1} + gate_t value_t from a state; the last one is what it leaves."""
    entered = gate * value
    if method == "recurrence":
        made = []
        for kept, new in zip((1 - gate).unbind(1), entered.unbind(1), strict=True):
            state = kept * state + new
            made.append(state)
        return torch.stack(made, 1)
    first = entered[:, :1] + ((1 - gate[:, 0]) * state)[:, None]
    return prefix_scan((1 - gate).transpose(0, 1), torch.cat([first, entered[:, 1:]], 1).transpose(0, 1)).transpose(
        0, 1
    )


class SelectiveBlock(nn.Module):
    """::

    x ─┬─ LayerNorm ─ linear 3d ─ gate, value ─ scan ─ × SiLU ─ linear ─ (+) ─┬─ LayerNorm ─ MLP 2d ─ (+) ─
       │                    └───────────────────────────┘                 │   │                        │
       └──────────────────────────────────────────────────────────────────┘   └────────────────────────┘
    """

    def __init__(self, dim: int, dropout: float = 0.0):
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.read = nn.Linear(dim, 3 * dim)
        with torch.no_grad():
            self.read.bias[:dim] = torch.linspace(-4, 0, dim)
        self.out = nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def begin(self, batch: int) -> Float[Tensor, "b d"]:
        """Return the state of nothing read."""
        return self.out.bias.detach().new_zeros(batch, len(self.out.bias))

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return self.resume(x, self.begin(len(x)))[0]

    def resume(
        self, x: Float[Tensor, "b l d"], state: Float[Tensor, "b d"], method: Method = "convolution"
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b d"]]:
        """Read on from a state."""
        gate, value, shown = self.read(self.norm(x)).chunk(3, -1)
        with torch.autocast(x.device.type, enabled=False):
            states = gated_scan(gate.to(state.dtype).sigmoid(), value.to(state.dtype), state, method)
        x = x + self.dropout(self.out(states.to(shown.dtype) * F.silu(shown)))
        return x + self.dropout(self.narrow(F.gelu(self.widen(self.mlp_norm(x))))), states[:, -1]
