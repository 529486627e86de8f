"""Aligner: learns which frame is which token from pairs of token and frame sequences.

    src  [b, s, d] ── conv3 ─ ReLU ─ conv1 ───────────── k [b, s, c] ──┐
    tgt  [b, t, n] ── conv3 ─ ReLU ─ conv1 ─ ReLU ─ conv1 ─ q [b, t, c] ┴─ -scale · |q - k|² ─┐
    log prior [b, t, s] ──────────────────────────────────────── + ── log-softmax over s ─────┘

The network and the losses (see `losses.py`) are those of "One TTS alignment to rule them all"
(Badlani et al. 2021, arXiv:2108.10447) and RAD-TTS. Differences from their code:

- |q - k|² is computed as |q|² - 2 q·k + |k|², in float32: no tensor of b × c × t × s, which is
  819 MB for 16 items of 800 frames and 200 tokens;
- the scale (the inverse temperature of the softmax) is learned; it starts where theirs is fixed;
- the beta-binomial prior is over the s tokens that exist, so that it sums to one: FastPitch's code
  draws from s + 1 and loses the last share;
- padding is zeroed before the convolutions, so that an item alone and in a batch is the same.

Letters: b items, t frames, s tokens, c channels of the space where they meet.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unisono.errors import UnisonoError

# Log score of a padded token: exp of it is 0, and unlike -inf it has no NaN gradient.
MASKED = -1e4


class Aligner(nn.Module):
    """Log scores of every (frame, token) pair, for the forward-sum loss and for `search`.

    Args:
        src_channels: channels of the token vectors; embeddings serve better than an encoder's
            output, which knows its neighbours.
        tgt_channels: channels of a frame.
        channels: size of the space where the two are compared.
        scale: what the squared distance is multiplied with, at the start.
    """

    def __init__(self, src_channels: int, tgt_channels: int, channels: int = 80, scale: float = 5e-4):
        super().__init__()
        self.key = nn.Sequential(
            nn.Conv1d(src_channels, 2 * src_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(2 * src_channels, channels, 1),
        )
        self.query = nn.Sequential(
            nn.Conv1d(tgt_channels, 2 * tgt_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(2 * tgt_channels, tgt_channels, 1),
            nn.ReLU(),
            nn.Conv1d(tgt_channels, channels, 1),
        )
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    def forward(
        self,
        src: Float[Tensor, "b s d"],
        tgt: Float[Tensor, "b t n"],
        src_lengths: Int[Tensor, " b"],
        tgt_lengths: Int[Tensor, " b"],
        prior: Float[Tensor, "b t s"] | None = None,
    ) -> Float[Tensor, "b t s"]:
        """Log scores, float32; with `prior` (a log prior) added they are no longer normalised.

        Padded tokens are at -10000, so that every softmax over them is 0.
        """
        src_keep = torch.arange(src.shape[1], device=src.device) < src_lengths[:, None]
        tgt_keep = torch.arange(tgt.shape[1], device=tgt.device) < tgt_lengths[:, None]
        keys = self.key((src * src_keep[..., None]).transpose(1, 2))
        queries = self.query((tgt * tgt_keep[..., None]).transpose(1, 2))
        with torch.autocast(src.device.type, enabled=False):
            keys, queries = keys.float(), queries.float()
            distance = queries.square().sum(1)[:, :, None] + keys.square().sum(1)[:, None]
            distance = torch.baddbmm(distance, queries.transpose(1, 2), keys, alpha=-2)
            log_attn = -self.log_scale.exp() * distance
            log_attn = log_attn.masked_fill(~src_keep[:, None], MASKED).log_softmax(-1)
            if prior is not None:
                log_attn = log_attn + prior
            return log_attn.masked_fill(~src_keep[:, None], MASKED)


def beta_binomial_prior(
    src_lengths: Int[Tensor, " b"], tgt_lengths: Int[Tensor, " b"], scaling: float = 1.0
) -> Float[Tensor, "b t s"]:
    """Log of a prior that is near the diagonal, and surest at both ends; 0 on padding.

    Frame t of T (from 1) is given token k (from 0) of S with the beta-binomial probability

        P(k | n, α, β) = C(n, k) B(k + α, n - k + β) / B(α, β),
        n = S - 1,  α = w t,  β = w (T + 1 - t),

    so each row sums to one over the S tokens. A larger `scaling` w is a narrower prior (RAD-TTS
    has 0.05, FastPitch 1). Tables of recent (T, S) are kept.
    """
    if not scaling > 0:
        raise UnisonoError(
            f"scaling={scaling} of the prior must be above 0", code="range", path="scaling", value=scaling
        )
    src, tgt = src_lengths.tolist(), tgt_lengths.tolist()
    out = torch.zeros(len(src), max(tgt, default=0), max(src, default=0))
    for row, (s, t) in enumerate(zip(src, tgt, strict=True)):
        out[row, :t, :s] = _log_prior(s, t, float(scaling))
    return out.to(src_lengths.device)


@lru_cache(maxsize=256)
def _log_prior(num_tokens: int, num_frames: int, scaling: float) -> Float[Tensor, "t s"]:
    n = num_tokens - 1
    k = torch.arange(num_tokens, dtype=torch.float64)
    alpha = scaling * torch.arange(1, num_frames + 1, dtype=torch.float64)[:, None]
    beta = alpha.flip(0)
    choose = torch.lgamma(k[-1:] + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    rising = torch.lgamma(k + alpha)  # lgamma(n - k + beta) is the same table, turned round
    total = torch.lgamma(alpha + beta) - torch.lgamma(alpha + beta + n)
    return (choose + rising + rising.flip(0, 1) + total - torch.lgamma(alpha) - torch.lgamma(beta)).float()
