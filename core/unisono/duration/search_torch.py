"""Alignment search as a torch program: needs nothing else and runs on any device.

One step per frame for the whole batch. Ragged batches need no masks in the loop: past its last
frame, an item waits in a column of its own after its last token, at score 0.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def search_torch(
    scores: Float[Tensor, "b t s"], src: list[int], tgt: list[int]
) -> tuple[Int[Tensor, "b s"], list[int]]:
    """Durations, and the items that have a non-finite score (see `search`)."""
    b, _, s = scores.shape
    device = scores.device
    num_frames = max(tgt)
    scores = scores[:, :num_frames].transpose(0, 1)
    src_lengths = torch.tensor(src, device=device)[:, None]
    tgt_lengths = torch.tensor(tgt, device=device)[:, None]
    frame = torch.arange(num_frames, device=device)[:, None, None]
    token = torch.arange(s + 1, device=device)

    inside = (frame < tgt_lengths) & (token < src_lengths)
    reachable = inside & (token <= frame) & (token >= frame - (tgt_lengths - src_lengths))
    bad = (reachable[..., :s] & ~torch.isfinite(scores)).any(0).any(1).nonzero()[:, 0].tolist()
    rows = torch.nn.functional.pad(scores, (0, 1)).masked_fill_(~reachable, -torch.inf)
    rows.masked_fill_((frame >= tgt_lengths) & (token == src_lengths), 0)

    moves = torch.empty(num_frames, b, s + 1, dtype=torch.bool, device=device)
    best = torch.full((b, s + 2), -torch.inf, device=device)
    best.scatter_(1, src_lengths, 0)
    for t in range(num_frames - 1, -1, -1):
        stay, move = best[:, :-1], best[:, 1:]
        torch.gt(move, stay, out=moves[t])
        best[:, :-1] = torch.maximum(stay, move).add_(rows[t])

    path = torch.empty(num_frames, b, 1, dtype=torch.int64, device=device)
    at = torch.zeros(b, 1, dtype=torch.int64, device=device)
    for t in range(num_frames):
        path[t] = at
        at = at + moves[t].gather(1, at)
    durations = torch.zeros(b, s + 1, dtype=torch.int64, device=device)
    durations.scatter_add_(1, path[..., 0].T, torch.ones_like(path[..., 0].T))
    return durations.masked_fill(token >= src_lengths, 0)[:, :s], bad
