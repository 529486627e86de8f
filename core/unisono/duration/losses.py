"""Losses: what alignment learning minimises, and the correction of its constant bias.

Letters: b items, t frames, s tokens. `log_attn` comes from `Aligner`: log scores, padded
tokens far below, prior included.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unisono.duration.aligner import MASKED
from unisono.duration.search import check_lengths
from unisono.errors import UnisonoError


def forward_sum_loss(
    log_attn: Float[Tensor, "b t s"],
    src_lengths: Int[Tensor, " b"],
    tgt_lengths: Int[Tensor, " b"],
    *,
    blank_logit: float = -1.0,
    reduction: str = "mean",
    ids: Sequence[str] | None = None,
) -> Float[Tensor, "..."]:
    """-log of the summed probability of all monotonic paths, per token.

    It is connectionist temporal classification with the targets 1, 2, ..., S: every item
    "spells" its own tokens in order. The blank, a class 0 with a constant logit, lets frames
    belong to no token while the network is young. It is a crutch that works: without it
    (`blank_logit=-1e30` is the exact forward sum) learning collapses on real recordings, and with it
    boundaries come out early by a constant (see `estimate_shift`).

    Scores are log-softmaxed over blank and tokens first, because CTC's gradient is right for
    normalised input only.

    Args:
        reduction: "mean" or "sum" over items, or "none": [b].

    Raises:
        UnisonoError: for an item with fewer frames than tokens, or without a token.
    """
    src, tgt = check_lengths(log_attn, src_lengths, tgt_lengths, ids)
    b, _, s = log_attn.shape
    padded = torch.arange(s, device=log_attn.device) >= src_lengths[:, None]
    scores = log_attn.float().masked_fill(padded[:, None], MASKED)
    scores = F.pad(scores, (1, 0), value=blank_logit).log_softmax(-1)
    targets = torch.arange(1, s + 1, device=log_attn.device).expand(b, -1)
    losses = F.ctc_loss(scores.transpose(0, 1), targets, torch.tensor(tgt), torch.tensor(src), reduction="none")
    return _reduce(losses / src_lengths.to(losses), reduction)


def binarisation_loss(
    log_attn: Float[Tensor, "b t s"],
    durations: Int[Tensor, "b s"],
    src_lengths: Int[Tensor, " b"],
    tgt_lengths: Int[Tensor, " b"],
    *,
    reduction: str = "mean",
) -> Float[Tensor, "..."]:
    """-log probability of the hard path under the soft alignment, per frame.

    Pulls the soft alignment towards the path that `search` found (`durations`), so that what
    training sees is what synthesis will do. Switch it on with `ramp` when the path is worth it.

    Args:
        reduction: "mean" or "sum" over items, or "none": [b].
    """
    if not torch.equal(durations.sum(1), tgt_lengths.to(durations)):
        raise UnisonoError(
            f"durations sum to {durations.sum(1).tolist()} frames, not {tgt_lengths.tolist()}",
            code="conflict",
            path="durations",
            value=durations.sum(1).tolist(),
        )
    b, t, s = log_attn.shape
    padded = torch.arange(s, device=log_attn.device) >= src_lengths[:, None]
    frames = torch.arange(t, device=log_attn.device)
    log_probs = log_attn.float().masked_fill(padded[:, None], MASKED).log_softmax(-1)
    index = torch.searchsorted(durations.cumsum(1), frames.expand(b, -1).contiguous(), right=True)
    picked = log_probs.gather(2, index.clamp(max=s - 1)[..., None])[..., 0]
    inside = frames < tgt_lengths[:, None]
    losses = -torch.where(inside, picked, 0).sum(1) / tgt_lengths.to(picked)
    return _reduce(losses, reduction)


def ramp(step: int, start: int, length: int) -> float:
    """0 before `start`, then linearly up to 1 in `length` steps: the weight of a late loss."""
    return min(1.0, max(0.0, (step - start) / max(length, 1)))


def estimate_shift(
    durations: Int[Tensor, "b s"],
    reference: Int[Tensor, "b s"],
    src_lengths: Int[Tensor, " b"],
) -> float:
    """Median distance in frames from learned to true inner boundaries: what to add to the learned.

    The blank of `forward_sum_loss` moves all boundaries by about the same time, so a few
    items with known times are enough to remove it with `shift_boundaries`.
    """
    inner = torch.arange(durations.shape[1], device=durations.device) < src_lengths[:, None] - 1
    if not inner.any():
        raise UnisonoError(
            "no item has two tokens, so there is no inner boundary to compare", code="empty", path="durations"
        )
    return float((reference.cumsum(1) - durations.cumsum(1))[inner].double().median())


def shift_boundaries(
    durations: Int[Tensor, "b s"],
    src_lengths: Int[Tensor, " b"],
    shift: int,
    min_frames: int = 1,
) -> Int[Tensor, "b s"]:
    """All inner boundaries moved by `shift` frames; totals stay, tokens keep `min_frames`.

    Raises:
        UnisonoError: for a token that has fewer than `min_frames` already.
    """
    s = durations.shape[1]
    token = torch.arange(s, device=durations.device)
    keep = token < src_lengths[:, None]
    short = (durations < min_frames) & keep
    if short.any():
        row, column = short.nonzero()[0].tolist()
        raise UnisonoError(
            f"token {column} of item {row} has {int(durations[row, column])} frames, "
            f"fewer than min_frames={min_frames}",
            code="range",
            path="durations",
            value=int(durations[row, column]),
        )
    durations = torch.where(keep, durations, 0)
    total = durations.sum(1, keepdim=True)
    earliest = min_frames * (token + 1)
    latest = total - min_frames * (src_lengths[:, None] - 1 - token)
    # Both bounds rise by min_frames per token, so what is pushed against them stays in order.
    ends = (durations.cumsum(1) + shift).maximum(earliest).minimum(latest)
    ends = torch.where(token >= src_lengths[:, None] - 1, total, ends)
    return torch.where(keep, ends.diff(dim=1, prepend=ends.new_zeros(len(ends), 1)), 0)


def _reduce(losses: Float[Tensor, " b"], reduction: str) -> Tensor:
    if reduction not in ("mean", "sum", "none"):
        raise UnisonoError(
            f"reduction {reduction!r} is unknown; use 'mean', 'sum' or 'none'",
            code="unknown",
            path="reduction",
            value=reduction,
        )
    return losses if reduction == "none" else getattr(losses, reduction)()
