"""Alignment search as a torch program: needs nothing else and runs on any device.

One step per frame for the whole batch. Ragged batches need no masks: utterance b is read back from
its own last cell, and no path from there leaves its own rectangle.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def search_torch(
    scores: Float[Tensor, "b t s"], src: list[int], tgt: list[int]
) -> tuple[Int[Tensor, "b s"], list[int]]:
    """Durations, and the utterances that have a non-finite score (see `search`)."""
    b, _, s = scores.shape
    device = scores.device
    src_lengths = torch.tensor(src, device=device)
    tgt_lengths = torch.tensor(tgt, device=device)
    num_frames = max(tgt)

    frame = torch.arange(num_frames, device=device)[None, :, None]
    token = torch.arange(s, device=device)[None, None]
    last = (tgt_lengths - src_lengths)[
        :, None, None
    ]  # cell (t, s) reaches the end if s >= t - last
    reachable = (token <= frame) & (token >= frame - last) & (token < src_lengths[:, None, None])
    reachable &= frame < tgt_lengths[:, None, None]
    scores = scores[:, :num_frames]
    bad = (reachable & ~torch.isfinite(scores)).flatten(1).any(1).nonzero()[:, 0].tolist()

    rows = scores.transpose(0, 1).contiguous()
    moves = torch.empty(num_frames, b, s, dtype=torch.bool, device=device)
    # One column of padding in front, so that "the token before" is a view.
    best = torch.full((b, s + 1), -torch.inf, device=device)
    best[:, 1] = rows[0, :, 0]
    for t in range(1, num_frames):
        stay, move = best[:, 1:], best[:, :-1]
        torch.gt(move, stay, out=moves[t])
        best[:, 1:] = torch.maximum(stay, move).add_(rows[t])

    path = torch.empty(num_frames, b, dtype=torch.int64, device=device)
    at = src_lengths - 1
    for t in range(num_frames - 1, 0, -1):
        path[t] = at
        step = moves[t].gather(1, at[:, None])[:, 0] & (t < tgt_lengths)
        at = at - step.long()
    path[0] = at
    durations = torch.zeros(b, s, dtype=torch.int64, device=device)
    durations.scatter_add_(1, path.T, (frame[..., 0] < tgt_lengths[:, None]).long())
    return durations, bad
