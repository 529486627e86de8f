"""Rounding: predicted durations to whole frames, with the total kept.

The default is cumulative rounding: boundaries are rounded, not durations,

    n_s = round(c_s) - round(c_{s-1}),   c_s = d_1 + ... + d_s,   round(x) = floor(x + 1/2),

so that the total is never more than half a frame off and no token more than one frame, however long
the text. Rounding every duration by itself drifts: `ceil` (VITS, Glow-TTS) adds about half a frame
per token, which is half a second in a hundred tokens. The other methods are here for parity with
published systems.

Letters: b items, s tokens. Durations are counted in frames; tokens past an item's length
get 0.
"""

import logging

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from unisono.errors import UnisonoError

METHODS = ("cumulative", "nearest", "ceil", "floor")

logger = logging.getLogger(__name__)


def round_durations(
    durations: Shaped[Tensor, "b s"],
    lengths: Int[Tensor, " b"] | None = None,
    *,
    method: str = "cumulative",
    speed: float | Float[Tensor, " b"] | Float[Tensor, "b s"] = 1.0,
    pause_speed: float | Float[Tensor, " b"] | Float[Tensor, "b s"] | None = None,
    pauses: Bool[Tensor, "b s"] | None = None,
    total: int | Int[Tensor, " b"] | None = None,
    min_frames: int = 0,
    multiple_of: int = 1,
) -> Int[Tensor, "b s"]:
    """Whole durations in frames.

    Args:
        durations: predicted frames per token, at least 0; values past `lengths` are ignored.
        lengths: tokens per item; all of them when it is not given.
        method: "cumulative" keeps the total; "nearest", "ceil" and "floor" round each token.
        speed: above 1 is faster; one number, one per item, or one per token.
        pause_speed: the speed of the tokens marked in `pauses`; `speed` when it is not given.
        total: exact number of frames of each item; durations are stretched to it
            ("cumulative" only).
        min_frames: fewest frames of a token. "cumulative" takes them from the other tokens, so that
            the total stays; the other methods clamp.
        multiple_of: the total is filled up to a multiple of this, on the last pause if one is
            marked, or else on the last token.

    An item that comes out without a frame gets one on its first token, and this is logged: a
    model in its first steps predicts so, and a file with no sample in it is of use to nobody.

    Raises:
        UnisonoError: for a negative or non-finite duration, a speed that is not above 0, or a total
            that cannot be met.
    """
    if method not in METHODS:
        raise UnisonoError(
            f"rounding method {method!r} is unknown; use one of {', '.join(METHODS)}",
            code="unknown",
            path="method",
            value=method,
        )
    for name, value, least in (("min_frames", min_frames, 0), ("multiple_of", multiple_of, 1)):
        if value < least:
            raise UnisonoError(f"{name}={value} must be at least {least}", code="range", path=name, value=value)
    b, s = durations.shape
    if lengths is None:
        lengths = torch.full((b,), s, device=durations.device)
    lengths = lengths.to(durations.device)
    keep = torch.arange(s, device=durations.device) < lengths[:, None]
    exact = torch.where(keep, durations.detach().double(), 0.0)
    wrong = ~torch.isfinite(exact) | (exact < 0)
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise UnisonoError(
            f"duration {exact[row, column].item()} of token {column} in item {row}: "
            "durations must be finite and at least 0",
            code="range",
            path="durations",
            value=exact[row, column].item(),
        )
    rate = _per_token(speed, exact, "speed")
    if pauses is not None and pause_speed is not None:
        rate = torch.where(pauses, _per_token(pause_speed, exact, "pause_speed"), rate)
    exact = exact / rate

    if total is not None:
        if method != "cumulative":
            raise UnisonoError(
                f"an exact total needs method='cumulative', not {method!r}", code="conflict", path="total", value=total
            )
        total = torch.as_tensor(total, device=exact.device).expand(b).long()
        if (total % multiple_of).any():
            raise UnisonoError(
                f"total {total.tolist()} is not a multiple of multiple_of={multiple_of}",
                code="value",
                path="total",
                value=total.tolist(),
            )
        too_short = (total < min_frames * lengths) | ((lengths == 0) & (total > 0)) | (total < 0)
        if too_short.any():
            row = int(too_short.nonzero()[0])
            raise UnisonoError(
                f"total of {int(total[row])} frames in item {row} cannot hold "
                f"{int(lengths[row])} tokens of at least {min_frames} frames; "
                "raise total or lower min_frames",
                code="range",
                path="total",
                value=int(total[row]),
            )
    if method == "cumulative":
        frames = _cumulative(exact, keep, lengths, total, min_frames)
    else:
        rounded = {"nearest": exact + 0.5, "ceil": exact.ceil(), "floor": exact}[method].floor().long()
        frames = torch.where(keep, rounded.clamp(min=min_frames), 0)

    sums = frames.sum(1)
    empty = (sums == 0) & (lengths > 0)
    if total is None and empty.any():
        logger.warning(
            "items %s have no duration at all; each gets one frame",
            empty.nonzero()[:, 0].tolist(),
        )
        frames = _at_least_one(frames, lengths)
        sums = frames.sum(1)
    if multiple_of > 1 and s > 0:
        last = (lengths - 1).clamp(min=0)
        if pauses is not None:
            position = torch.where(pauses & keep, torch.arange(s, device=frames.device), -1).amax(1)
            last = torch.where(position >= 0, position, last)
        frames.scatter_add_(1, last[:, None], ((-sums) % multiple_of)[:, None])
    return frames


def whole_durations(
    durations: Float[Tensor, "b s"], lengths: Int[Tensor, " b"], speed: Float[Tensor, "b s"]
) -> Int[Tensor, "b s"]:
    """What ``round_durations`` says by default, on tensors alone and without its checks, so that it can be traced."""
    keep = torch.arange(durations.shape[1], device=durations.device) < lengths[:, None]
    exact = torch.where(keep, durations.double(), 0.0) / speed.double()
    return _at_least_one(_cumulative(exact, keep, lengths, None, 0), lengths)


def _at_least_one(frames: Int[Tensor, "b s"], lengths: Int[Tensor, " b"]) -> Int[Tensor, "b s"]:
    """Give the first token of an item without any frame one."""
    empty = (frames.sum(1) == 0) & (lengths > 0)
    return torch.cat([frames[:, :1] + empty[:, None], frames[:, 1:]], dim=1)


def _per_token(speed: float | Tensor, like: Tensor, name: str) -> Tensor:
    speed = torch.as_tensor(speed, dtype=torch.float64, device=like.device)
    if not (torch.isfinite(speed) & (speed > 0)).all():
        raise UnisonoError(
            f"{name}={speed.tolist()} must be finite and above 0 (2 is twice as fast)",
            code="range",
            path=name,
            value=speed.tolist(),
        )
    return (speed[:, None] if speed.ndim == 1 else speed).expand_as(like)


def _cumulative(
    exact: Tensor, keep: Tensor, lengths: Tensor, total: Tensor | None, min_frames: int
) -> Int[Tensor, "b s"]:
    floor = min_frames * lengths
    if total is None:
        total = torch.maximum((exact.sum(1) + 0.5).floor().long(), floor)
        stretch = min_frames > 0
    else:
        stretch = True
    rest = (exact - min_frames).clamp(min=0) * keep
    if stretch:
        # Nothing to stretch: fall back on the durations, then on equal shares.
        rest = torch.where(rest.sum(1, keepdim=True) > 0, rest, exact)
        rest = torch.where(rest.sum(1, keepdim=True) > 0, rest, keep.double())
        budget = (total - floor).double()
        rest = rest * (budget / rest.sum(1).clamp(min=torch.finfo(torch.float64).tiny))[:, None]
    ends = (rest.cumsum(1) + 0.5).floor().long()
    last = torch.arange(keep.shape[1], device=keep.device) >= lengths[:, None] - 1
    ends = torch.where(last, (total - floor)[:, None], torch.minimum(ends, (total - floor)[:, None]))
    frames = torch.diff(ends, dim=1, prepend=ends.new_zeros(len(ends), 1))
    return torch.where(keep, frames + min_frames, 0)
