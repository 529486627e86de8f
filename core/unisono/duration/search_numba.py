"""Alignment search on the CPU, compiled by numba on first use and cached.

What makes it fast: one score row, updated in place by a branch-free loop over contiguous tokens
(going backwards in time, a cell needs itself and its right neighbour, so writing never overtakes
reading and LLVM uses vector instructions); one byte per cell for the way back; and scores fetched
in blocks in the order of memory, in the same pass that checks them.

The batch is shared out over threads by hand: the kernel releases the GIL, and a plain thread pool,
unlike numba's own threading layers, may be entered from several threads and survives a fork.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Below this many cells, starting a thread costs more than it saves.
CELLS_PER_THREAD = 300_000
# Scores that are checked and then used while they are in the second-level cache.
BLOCK_CELLS = 64 * 1024
# The bits of a float32 without its sign; from INFINITY on they are infinity and NaN.
MAGNITUDE, INFINITY = 0x7FFFFFFF, 0x7F800000

_pool: ThreadPoolExecutor | None = None


def search_numba(
    scores: Float[Tensor, "b t s"], src: list[int], tgt: list[int]
) -> tuple[Int[Tensor, "b s"], list[int]]:
    """Durations, and the utterances that have a non-finite score (see `search`)."""
    rows = scores.cpu().contiguous().numpy()
    src_lengths, tgt_lengths = np.asarray(src), np.asarray(tgt)
    durations = np.zeros((len(src), rows.shape[2]), np.int64)
    bad = np.zeros(len(src), np.bool_)

    cells = src_lengths * tgt_lengths
    threads = min(torch.get_num_threads(), len(src), 1 + int(cells.sum()) // CELLS_PER_THREAD)
    longest_first = np.argsort(-cells)
    shares = [np.ascontiguousarray(longest_first[i::threads]) for i in range(threads)]
    jobs = [
        _threads().submit(_kernel, rows, src_lengths, tgt_lengths, share, durations, bad)
        for share in shares[1:]
    ]
    _kernel(rows, src_lengths, tgt_lengths, shares[0], durations, bad)
    for job in jobs:
        job.result()
    return torch.from_numpy(durations).to(scores.device), bad.nonzero()[0].tolist()


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


@no_type_check  # numba compiles the source, and a type checker's wrapper is not it
def _search(scores, src_lengths, tgt_lengths, share, durations, bad):
    num_frames, num_tokens = scores.shape[1], scores.shape[2]
    # Zeros: sums of finite scores may overflow and lead the way back off the path, and it must stay inside the arrays.
    moves = np.zeros((num_frames, num_tokens), np.uint8)
    best = np.empty(num_tokens + 1, np.float32)
    block = 1 + BLOCK_CELLS // num_tokens
    for b in share:
        s, last = src_lengths[b], tgt_lengths[b] - 1
        best[:] = -np.inf
        checked = last + 1
        largest = np.int32(0)
        for t in range(last, -1, -1):
            if t < checked:
                checked = max(0, t + 1 - block)
                for u in range(checked, t + 1):
                    low, high = max(0, s - 1 - last + u), min(s, u + 1)
                    bits = scores[b, u, low:high].view(np.int32)
                    for j in range(len(bits)):
                        largest = max(largest, bits[j] & np.int32(MAGNITUDE))
            if t == last:
                best[s - 1] = scores[b, t, s - 1]
                continue
            # The cells of this row that lie on a path from the first cell to the last.
            low, high = max(0, s - 1 - last + t), min(s, t + 1)
            row = scores[b, t, low:high]
            cell = best[low : high + 1]
            move = moves[t, low:high]
            for j in range(len(row)):
                stays, moved = cell[j], cell[j + 1]
                move[j] = moved > stays
                cell[j] = (moved if moved > stays else stays) + row[j]
        bad[b] = largest >= INFINITY
        if bad[b]:
            continue
        at = 0
        for t in range(last):
            durations[b, at] += 1
            at += moves[t, at]
        durations[b, at] += 1


try:
    _kernel = numba.njit(nogil=True, cache=True)(_search)
except RuntimeError:  # no folder that can be written to for the cache
    _kernel = numba.njit(nogil=True)(_search)
