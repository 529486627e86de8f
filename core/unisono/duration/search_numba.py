"""Alignment search on the CPU, compiled by numba on first use and cached.

The inner loop is branch-free over contiguous tokens, which LLVM turns into vector instructions.
The batch is shared out over threads by hand: the kernel releases the GIL, and a plain thread pool,
unlike numba's own threading layers, may be entered from several threads and survives a fork.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Below this many cells, starting a thread costs more than it saves.
CELLS_PER_THREAD = 200_000

_pool: ThreadPoolExecutor | None = None


def search_numba(
    scores: Float[Tensor, "b t s"], src: list[int], tgt: list[int]
) -> tuple[Int[Tensor, "b s"], list[int]]:
    """Durations, and the utterances that have a non-finite score (see `search`)."""
    device = scores.device
    rows = scores.cpu().contiguous().numpy()
    src_lengths, tgt_lengths = np.asarray(src, np.int64), np.asarray(tgt, np.int64)
    durations = np.zeros((len(src), rows.shape[2]), np.int64)
    bad = np.zeros(len(src), np.bool_)

    cells = src_lengths * tgt_lengths
    threads = min(torch.get_num_threads(), len(src), 1 + int(cells.sum()) // CELLS_PER_THREAD)
    order = np.argsort(-cells)
    shares = [np.ascontiguousarray(order[i::threads]) for i in range(threads)]
    jobs = [
        _threads().submit(_kernel, rows, src_lengths, tgt_lengths, share, durations, bad)
        for share in shares[1:]
    ]
    _kernel(rows, src_lengths, tgt_lengths, shares[0], durations, bad)
    for job in jobs:
        job.result()
    return torch.from_numpy(durations).to(device), bad.nonzero()[0].tolist()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="unisono-search")
    return _pool


def _forget_threads() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _search(scores, src_lengths, tgt_lengths, share, durations, bad):  # pragma: no cover
    num_frames, num_tokens = scores.shape[1], scores.shape[2]
    moves = np.empty((num_frames, num_tokens), np.uint8)
    # Column 0 is the token before the first one: never reached.
    stay = np.empty(num_tokens + 1, np.float32)
    best = np.empty(num_tokens + 1, np.float32)
    for b in share:
        s, t_end = src_lengths[b], tgt_lengths[b]
        stay[:] = -np.inf
        best[:] = -np.inf
        stay[1] = scores[b, 0, 0]
        finite = np.isfinite(stay[1])
        for t in range(1, t_end):
            # The cells of this row that lie on a path from the first cell to the last.
            low = max(0, s - (t_end - t))
            n = min(s, t + 1) - low
            row = scores[b, t, low : low + n]
            before = stay[low : low + n]
            here = stay[low + 1 : low + n + 1]
            out = best[low + 1 : low + n + 1]
            move = moves[t, low : low + n]
            wrong = np.uint8(0)
            for j in range(n):
                move[j] = before[j] > here[j]
                out[j] = max(before[j], here[j]) + row[j]
                wrong |= np.uint8(not (abs(row[j]) < np.inf))
            finite &= wrong == 0
            stay, best = best, stay
        bad[b] = not finite
        at = s - 1
        for t in range(t_end - 1, 0, -1):
            durations[b, at] += 1
            at -= moves[t, at]
        durations[b, at] += 1


try:
    _kernel = numba.njit(nogil=True, cache=True)(_search)
except RuntimeError:  # no folder that can be written to for the cache
    _kernel = numba.njit(nogil=True)(_search)
