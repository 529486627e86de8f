"""Token networks: frames of several tokens summed into one vector, and a head per stream.

A stream is one codebook of the codec: a residual level, or a level of a group. Streams of a frame are embedded by
tables of their own and summed (SoundStorm, arXiv:2305.09636, section 3.2); what is not known is a vector of its own
for each stream, never a token's.

Shapes: b batch, t codec frames, q streams, v codebook, d channels, n chosen frames.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class TokenEmbedding(nn.Module):
    """The sum of a frame's tokens, each by the table of its stream.

    ``table_dim`` keeps the tables narrower than what comes out, with one matrix per stream behind them: a small model
    is mostly tables otherwise.
    """

    def __init__(self, num_streams: int, codebook_size: int, dim: int, table_dim: int | None = None):
        super().__init__()
        self.num_streams, self.codebook_size = num_streams, codebook_size
        width = table_dim or dim
        self.table = nn.Embedding(num_streams * (codebook_size + 1), width)
        self.widen = nn.Linear(num_streams * width, dim, bias=False) if table_dim else None
        nn.init.normal_(self.table.weight, std=(num_streams * width) ** -0.5 if table_dim else num_streams**-0.5)

    def forward(self, tokens: Int[Tensor, "b t q"], known: Bool[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return a vector per frame; a token that is not known is not read."""
        ids = torch.where(known, tokens, self.codebook_size)
        ids = ids + torch.arange(self.num_streams, device=ids.device) * (self.codebook_size + 1)
        if self.widen is None:
            return self.table(ids).sum(2)
        return self.widen(rearrange(self.table(ids), "b t q d -> b t (q d)"))  # one matrix per stream, summed


class TokenHeads(nn.Module):
    """A linear layer from a frame's vector to the logits of each stream's tokens."""

    def __init__(self, num_streams: int, codebook_size: int, dim: int):
        super().__init__()
        self.num_streams, self.codebook_size = num_streams, codebook_size
        self.weight = nn.Parameter(0.02 * torch.randn(num_streams, codebook_size, dim))
        self.bias = nn.Parameter(torch.zeros(num_streams, codebook_size))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t q v"]:
        """Return the logits of every stream."""
        logits = F.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
        return rearrange(logits, "b t (q v) -> b t q v", q=self.num_streams)

    def of(self, x: Float[Tensor, "n d"], stream: Int[Tensor, " n"]) -> Float[Tensor, "n v"]:
        """Return the logits of one stream for each vector: an eighth of the work where only one of eight is wanted."""
        order = stream.argsort(stable=True)
        counts = torch.bincount(stream, minlength=self.num_streams).tolist()
        parts = x[order].split(counts)
        made = [F.linear(part, self.weight[i], self.bias[i]) for i, part in enumerate(parts)]
        return torch.cat(made)[order.argsort()]
