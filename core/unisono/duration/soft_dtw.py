"""Soft-DTW: how well two sequences fit when their times may be warped, as a loss (Cuturi & Blondel, arXiv:1703.01541).

With a cost of each step aside and a band around the diagonal, as Parallel Tacotron 2 has it (arXiv:2103.14574)::

    r[i, j] = cost[i, j] + min_γ(r[i − 1, j − 1], r[i − 1, j] + w, r[i, j − 1] + w)      only where |i − j| ≤ band
    min_γ(a) = −γ log Σ exp(−a / γ)

which is −γ log of the sum over all monotonic paths of exp(−(their costs and penalties) / γ): for γ → 0 the best path
alone, which is dynamic time warping. The value may be negative, also for two equal sequences, for it counts paths: it
is a loss and no distance; `soft_dtw_divergence` is 0 for equal ones (Blondel et al., arXiv:2010.08354).

Memory: costs, sums and gradients take 32 · b · n · (2 · band + 1) bytes, whatever the number of channels (16 items of
400 frames with a band of 60: 25 MB), and the torch form up to four times as many. Without a band the width of a row is
2 · max(n, m) − 1. All sums are in float64: in float32, sums of 10,000 are no longer exact to γ = 0.05. A cell that
costs infinity is never passed. One thread works on a batch, and lets others go on meanwhile.

Letters: b items, n frames of x, m frames of y, d channels, k = 2 · band + 1 places of a row, w a step's penalty.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from unisono.errors import UnisonoError

BACKENDS = ("auto", "numba", "torch")


def soft_dtw(
    cost: Float[Tensor, "b n m"],
    x_lengths: Int[Tensor, " b"],
    y_lengths: Int[Tensor, " b"],
    *,
    gamma: float,
    warp_penalty: float = 0.0,
    band: int | None = None,
    backend: str = "auto",
) -> Float[Tensor, " b"]:
    """Return soft-DTW of a matrix of costs, in its own dtype; gradients reach the costs inside lengths and band.

    Args:
        gamma: γ, above 0, in the costs' unit.
        warp_penalty: w, what each step that is not diagonal costs, at least 0.
        band: how far from the diagonal a path may go, in frames; None is anywhere.
        backend: "numba" (CPU), "torch" (anywhere), or "auto": numba on a CPU where it is installed, else torch.

    Raises:
        UnisonoError: for numbers out of range, and where no path lies within the band: lengths differ by more.
    """
    sizes = _sizes(cost.shape[1:], x_lengths, y_lengths, gamma, warp_penalty, band)
    rows = _rows(cost, sizes.band)
    return _SoftDTW.apply(rows.double(), sizes, gamma, warp_penalty, _backend(backend, cost)).to(cost.dtype)


def soft_dtw_l1(
    x: Float[Tensor, "b n d"],
    y: Float[Tensor, "b m d"],
    x_lengths: Int[Tensor, " b"],
    y_lengths: Int[Tensor, " b"],
    *,
    gamma: float,
    warp_penalty: float = 0.0,
    band: int | None = None,
    backend: str = "auto",
) -> Float[Tensor, " b"]:
    """Return soft-DTW where a pair of frames costs the sum of absolute differences; gradients reach both sequences.

    Costs outside the band are never made. Arguments and errors as ``soft_dtw``; half precision is made float32.
    """
    sizes = _sizes((x.shape[1], y.shape[1]), x_lengths, y_lengths, gamma, warp_penalty, band)
    if x.shape[2] != y.shape[2]:
        message = f"x has {x.shape[2]} channels and y {y.shape[2]}: they are compared channel by channel"
        raise UnisonoError(message, code="shape", path="y", value=y.shape[2])
    kind = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    run = _backend(backend, x)
    cost = _BandedL1.apply(x.to(kind), y.to(kind), sizes, run)
    return _SoftDTW.apply(cost.double(), sizes, gamma, warp_penalty, run).to(kind)


def soft_dtw_divergence(
    x: Float[Tensor, "b n d"],
    y: Float[Tensor, "b m d"],
    x_lengths: Int[Tensor, " b"],
    y_lengths: Int[Tensor, " b"],
    **options: Any,
) -> Float[Tensor, " b"]:
    """Return S(x, y) − ½ S(x, x) − ½ S(y, y) with S = ``soft_dtw_l1``: 0 for equal sequences; three times the work."""
    own = soft_dtw_l1(x, x, x_lengths, x_lengths, **options) + soft_dtw_l1(y, y, y_lengths, y_lengths, **options)
    return soft_dtw_l1(x, y, x_lengths, y_lengths, **options) - own / 2


class _Sizes:
    """Lengths and band of a batch, checked."""

    def __init__(self, x: list[int], y: list[int], band: int):
        self.x, self.y, self.band = x, y, band


class _SoftDTW(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cost: Tensor, sizes: _Sizes, gamma: float, warp: float, run: Any) -> Tensor:
        values, soft = run.forward(cost, sizes.x, sizes.y, sizes.band, gamma, warp)
        ctx.save_for_backward(cost, soft)
        ctx.rest = sizes, gamma, warp, run
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _by_costs(ctx, grads[0]), None, None, None, None


@once_differentiable
def _by_costs(ctx: Any, grad: Tensor) -> Tensor:
    sizes, gamma, warp, run = ctx.rest
    return run.backward(*ctx.saved_tensors, sizes.x, sizes.y, sizes.band, gamma, warp).mul_(grad[:, None, None])


class _BandedL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, sizes: _Sizes, run: Any) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.rest = sizes, run
        return run.l1(x, y, sizes.x, sizes.y, sizes.band)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *_by_sequences(ctx, grads[0]), None, None


@once_differentiable
def _by_sequences(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    sizes, run = ctx.rest
    return run.l1_backward(grad, *ctx.saved_tensors, sizes.x, sizes.y, sizes.band)


def _rows(cost: Float[Tensor, "b n m"], band: int) -> Float[Tensor, "b n k"]:
    """Return of each row what lies within the band: place k is column i + k − band; 0 beyond both ends."""
    n, m = cost.shape[1:]
    columns = torch.arange(n, device=cost.device)[:, None] + torch.arange(-band, band + 1, device=cost.device)
    inside = (columns >= 0) & (columns < m)
    rows = cost.gather(2, columns.clamp(0, m - 1).expand(len(cost), -1, -1))
    return torch.where(inside, rows, 0)


def _sizes(
    shape: tuple[int, ...] | torch.Size,
    x_lengths: Int[Tensor, " b"],
    y_lengths: Int[Tensor, " b"],
    gamma: float,
    warp_penalty: float,
    band: int | None,
) -> _Sizes:
    for name, value, least in (("gamma", gamma, "above 0"), ("warp_penalty", warp_penalty, "at least 0")):
        if not 0 <= value < float("inf") or (name == "gamma" and value == 0):
            message = f"{name}={value} of soft-DTW must be finite and {least}"
            raise UnisonoError(message, code="range", path=name, value=value)
    if band is not None and band < 0:
        message = f"band={band} of soft-DTW must be at least 0 frames, or None"
        raise UnisonoError(message, code="range", path="band", value=band)
    x, y = x_lengths.tolist(), y_lengths.tolist()
    for name, lengths, most in (("x_lengths", x, shape[0]), ("y_lengths", y, shape[1])):
        for row, length in enumerate(lengths):
            if not 1 <= length <= most:
                message = f"item {row} has length {length}: {name} must be from 1 to the {most} frames that are there"
                raise UnisonoError(message, code="range", path=name, value=length)
    for row, (n, m) in enumerate(zip(x, y, strict=True)):
        if band is not None and abs(n - m) > band:
            message = (
                f"item {row} has {n} and {m} frames, and no path between their ends stays within band={band}: "
                f"take a band of at least {abs(n - m)}"
            )
            raise UnisonoError(message, code="limit", path="band", value=band)
    widest = max((*shape, 1)) - 1
    return _Sizes(x, y, widest if band is None else min(band, widest))


def _backend(name: str, like: Tensor) -> Any:
    """Return the module that does the work."""
    if name not in BACKENDS:
        message = f"backend {name!r} is unknown; use one of {', '.join(BACKENDS)}"
        raise UnisonoError(message, code="unknown", path="backend", value=name)
    if name == "auto":
        name = "numba" if like.device.type == "cpu" and find_spec("numba") else "torch"
    return import_module(f"unisono.duration.soft_dtw_{name}")
