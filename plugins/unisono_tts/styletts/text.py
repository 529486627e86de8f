"""TextEncoder: symbols in context, by convolutions and recurrence (arXiv:2205.15439).

Shapes: b batch, s symbols, d channels.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from unisono_tts.styletts.blocks import SLOPE, Recurrence, within
from unisono_tts.styletts.sizes import StyleSizes


class TextEncoder(nn.Module):
    """Symbols to vectors.

    ::

        symbols ─ embedding ─ text_layers × (conv ─ LayerNorm ─ leaky ReLU ─ dropout) ─ LSTM both ways
    """

    def __init__(self, num_symbols: int, sizes: StyleSizes):
        super().__init__()
        dim, kernel = sizes.dim, sizes.kernel_size
        self.embedding = nn.Embedding(num_symbols, dim)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(dim, dim, kernel, padding=kernel // 2)) for _ in range(sizes.text_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sizes.text_layers))
        self.dropout = nn.Dropout(sizes.dropout)
        self.recurrence = Recurrence(dim, dim)

    def forward(self, symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s d"]:
        """Return what the symbols mean, 0 beyond an item's end."""
        inside = within(lengths, symbols.shape[1])[..., None]
        x = self.embedding(symbols) * inside
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(F.leaky_relu(norm(conv(x.mT).mT), SLOPE)) * inside
        return self.recurrence(x, lengths)
