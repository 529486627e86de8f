"""Monotonic alignment search: the best way to hand every frame to a token, in order.

Of all monotonic paths that start at the first token, end at the last one and give each token at
least one frame, take the one with the largest sum of scores L (Glow-TTS, Kim et al. 2020,
arXiv:2005.11129, section 3.1). With Q[t, s] the best sum from cell (t, s) to the end,

    Q[t, s] = L[t, s] + max(Q[t+1, s], Q[t+1, s+1]),

the path starts at (0, 0), and moves to the next token where Q[t+1, s+1] > Q[t+1, s]. Where both
are equal it *stays*: of equal paths, the one on which earlier tokens last longer. All backends add
the same float32 numbers in the same order, so they return the same path.

What differs from the published code: rows are frames, so that the tokens of a row are contiguous;
the result is durations, not a b x t x s path; a cell stores one direction, not a score; cells that
no path can pass are not looked at; impossible inputs are refused instead of answered.

Letters: b items, t frames, s tokens.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.errors import UnisonoError

BACKENDS = ("auto", "numba", "torch", "triton")


def search(
    scores: Float[Tensor, "b t s"],
    src_lengths: Int[Tensor, " b"],
    tgt_lengths: Int[Tensor, " b"],
    *,
    ids: Sequence[str] | None = None,
    backend: str = "auto",
) -> Int[Tensor, "b s"]:
    """Durations in frames (int64, on the device of `scores`) of the best monotonic alignment.

    Args:
        scores: how well each frame fits each token, for example log probabilities; not changed.
        src_lengths: tokens per item.
        tgt_lengths: frames per item.
        ids: names of the items, for error messages.
        backend: "numba" (CPU), "triton" (GPU), "torch" (anywhere), or "auto": Triton on a GPU
            where it is installed, else numba where it is installed, else torch.

    Raises:
        UnisonoError: for an item without a token or with fewer frames than tokens, and for
            a score that is not finite in a cell that a path can pass.
    """
    if backend not in BACKENDS:
        raise UnisonoError(
            f"backend {backend!r} is unknown; use one of {', '.join(BACKENDS)}",
            code="unknown",
            path="backend",
            value=backend,
        )
    src, tgt = check_lengths(scores, src_lengths, tgt_lengths, ids)
    if not src:
        return torch.zeros(0, scores.shape[2], dtype=torch.int64, device=scores.device)
    if backend == "auto":
        backend = _choose(scores.device.type)
    scores = scores.detach().float()
    if backend == "triton":
        from unisono.duration.search_triton import search_triton as run
    elif backend == "numba":
        from unisono.duration.search_numba import search_numba as run
    else:
        from unisono.duration.search_torch import search_torch as run
    durations, bad = run(scores, src, tgt)
    if bad:
        raise UnisonoError(
            f"item {_name(bad[0], ids)} has a score that is NaN or infinite; "
            "the scores of all frames and tokens inside its lengths must be finite",
            code="value",
            path="scores",
        )
    return durations


def check_lengths(
    scores: Float[Tensor, "b t s"],
    src_lengths: Int[Tensor, " b"],
    tgt_lengths: Int[Tensor, " b"],
    ids: Sequence[str] | None = None,
) -> tuple[list[int], list[int]]:
    """The lengths as lists, if an alignment with a frame for every token exists.

    Raises:
        UnisonoError: naming the first item of which that is not so.
    """
    b, t, s = scores.shape
    src, tgt = src_lengths.tolist(), tgt_lengths.tolist()
    for name, lengths in (("src_lengths", src), ("tgt_lengths", tgt)):
        if len(lengths) != b:
            raise UnisonoError(
                f"{b} items, but {len(src)} source and {len(tgt)} target lengths",
                code="shape",
                path=name,
                value=len(lengths),
            )
    for row, (tokens, frames) in enumerate(zip(src, tgt, strict=True)):
        if tokens < 1:
            raise UnisonoError(
                f"item {_name(row, ids)} has no token: drop it", code="empty", path="src_lengths", value=tokens
            )
        if tokens > s or frames > t:
            raise UnisonoError(
                f"item {_name(row, ids)} has lengths of {tokens} tokens and {frames} frames, "
                f"but the scores have {s} and {t}",
                code="range",
                path="src_lengths" if tokens > s else "tgt_lengths",
                value=tokens if tokens > s else frames,
            )
        if frames < tokens:
            raise UnisonoError(
                f"item {_name(row, ids)} has {tokens} tokens but only {frames} frames, and "
                "every token needs one: drop it, or use fewer symbols or a shorter hop",
                code="limit",
                path="tgt_lengths",
                value=frames,
            )
    return src, tgt


def _name(row: int, ids: Sequence[str] | None) -> str:
    return str(row) if ids is None else f"{ids[row]!r}"


@cache
def _choose(device: str) -> str:
    if device == "cuda" and find_spec("triton"):
        return "triton"
    return "numba" if find_spec("numba") else "torch"
