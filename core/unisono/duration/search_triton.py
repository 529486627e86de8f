"""Alignment search on a GPU: one Triton kernel, one program per item, no copy to the host.

The score row stays in registers, neighbouring lanes read neighbouring tokens, one byte per cell is
kept for the way back, and durations come out: super-MAS (arXiv:2409.07704), the known kernel of
this kind, strides over tokens and writes float scores over its input instead.
"""

from typing import no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports] where it has no wheel
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int
from torch import Tensor


def search_triton(
    scores: Float[Tensor, "b t s"], src: list[int], tgt: list[int]
) -> tuple[Int[Tensor, "b s"], list[int]]:
    """Durations, and the items that have a non-finite score (see `search`)."""
    b, t, s = scores.shape
    scores = scores.contiguous()
    device = scores.device
    src_lengths, tgt_lengths = torch.tensor([src, tgt], dtype=torch.int32, device=device)
    moves = torch.empty(b, t, s, dtype=torch.int8, device=device)
    durations = torch.zeros(b, s, dtype=torch.int64, device=device)
    bad = torch.zeros(b, dtype=torch.int32, device=device)
    width = max(16, triton.next_power_of_2(s))
    with torch.accelerator.device_index(device.index):
        _kernel[(b,)](  # pyright: ignore[reportIndexIssue]
            *(scores, src_lengths, tgt_lengths, moves, durations, bad, t, s),
            WIDTH=width,
            num_warps=1 if width <= 1024 else 4,  # pyright: ignore[reportCallIssue]
        )
    return durations, bad.nonzero()[:, 0].tolist()


@triton.jit
@no_type_check  # Triton compiles the source, and a type checker's wrapper is not it
def _kernel(
    scores, src_lengths, tgt_lengths, moves, durations, bad, num_frames, num_tokens,
    WIDTH: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    s = tl.load(src_lengths + b)
    last = tl.load(tgt_lengths + b) - 1
    cells = b * num_frames * num_tokens
    token = tl.arange(0, WIDTH)
    right = tl.minimum(token + 1, WIDTH - 1)
    infinity = float("inf")

    row = tl.load(scores + cells + last * num_tokens + token, mask=token < s, other=0.0)
    best = tl.where(token == s - 1, row, -infinity)
    wrong = (token == s - 1) & ~(tl.abs(row) < infinity)
    for i in range(0, last):
        t = last - 1 - i
        row = tl.load(scores + cells + t * num_tokens + token, mask=token < s, other=0.0)
        on_path = (token < s) & (token <= t) & (token >= s - 1 - last + t)
        wrong = wrong | (on_path & ~(tl.abs(row) < infinity))
        moved = tl.where(token < s - 1, tl.gather(best, right, 0), -infinity)
        tl.store(moves + cells + t * num_tokens + token, (moved > best).to(tl.int8), mask=token < s)
        best = tl.where(on_path, tl.maximum(moved, best) + row, -infinity)
    tl.store(bad + b, tl.max(wrong.to(tl.int32), 0))

    # The way back is read by one lane: what the others stored must have arrived.
    tl.debug_barrier()
    at = 0
    start = 0
    for t in range(0, last):
        move = tl.load(moves + cells + t * num_tokens + at).to(tl.int32)
        tl.store(durations + b * num_tokens + at, t + 1 - start, mask=move != 0)
        start = tl.where(move != 0, t + 1, start)
        at += move
    tl.store(durations + b * num_tokens + at, last + 1 - start)
