"""Structure: how similar the bars of a track are by their controls, for structure-enhanced self-attention.

Of projected controls of the bars, P = softmax(q kᵀ / √d) over the bars of the piece, and

    product    S = LayerNorm(P);  the logits of a word of bar i for one of bar j are multiplied by S_ij   (as published)
    sum        S = log(s P);      S_ij is added to them; 0 where all bars are alike

Logits have both signs, and so has a LayerNorm's output: under ``product`` a dissimilar bar may be seen more, which is
why ``sum`` is there. Differences from the published network: norms and softmax leave out bars that are padding, and the
LayerNorm has one gain and one bias, so that a piece means the same in every batch and at any length.

Shapes: k tracks, n pieces, s bars, t words, m keys, d channels; r rows are k · n. Masks are True where kept.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono_music.models.band.layers import Seen, TrackLinear
from unisono_music.models.band.sizes import Structure

EPS = 1e-5


class BarSimilarity(nn.Module):
    """The similarity of each pair of bars of a track."""

    def __init__(self, sets: int, dim: int, kind: Structure):
        super().__init__()
        self.kind = kind
        self.query = TrackLinear(sets, dim, dim)
        self.key = TrackLinear(sets, dim, dim, bias=False)  # one would move all bars alike, which a softmax undoes
        self.gain = nn.Parameter(torch.ones(sets, 1, 1, 1))
        if kind == "product":
            self.bias = nn.Parameter(torch.zeros(sets, 1, 1, 1))

    def forward(self, bars: Float[Tensor, "k n s d"], kept: Bool[Tensor, "n s"]) -> Float[Tensor, "r s s"]:
        logits = self.query(bars) @ self.key(bars).mT / math.sqrt(bars.shape[-1])
        logits = logits.masked_fill(~kept[None, :, None], -math.inf)
        count = kept.sum(-1)[None, :, None, None]
        if self.kind == "sum":
            similarity = (logits.log_softmax(-1) + count.log()).masked_fill(~kept[None, :, None], 0.0) * self.gain
            return similarity.flatten(0, 1)
        share = logits.softmax(-1)
        centred = (share - 1 / count) * kept[None, :, None]  # the mean of shares is 1 / count
        deviation = (centred.square().sum(-1, keepdim=True) / count + EPS).sqrt()
        return (centred / deviation * self.gain + self.bias).flatten(0, 1)


def seen_by(
    similarity: Float[Tensor, "r s s"] | None,
    kind: Structure,
    mask: Bool[Tensor, "r t m"],
    queries: Int[Tensor, "r t"],
    keys: Int[Tensor, "r m"],
) -> Seen:
    """Return what words see of words, by the bars ``queries`` and ``keys`` that they are in."""
    if similarity is None:
        return Seen(mask[:, None])
    rows = similarity.gather(1, queries[..., None].expand(-1, -1, similarity.shape[-1]))
    spread = rows.gather(2, keys[:, None].expand(-1, queries.shape[1], -1))[:, None]
    return Seen(mask[:, None], factor=spread) if kind == "product" else Seen(mask[:, None], term=spread)
