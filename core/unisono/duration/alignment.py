"""Alignment: which output frame belongs to which input token; one type for every model with a length.

    tokens s   |  h  |    e    | l |       token s covers [c_{s-1}, c_s), c = cumsum(durations)
    frames t   |0|1|2|3|4|5|6|7|8|9|       frame t covers [t, t+1), its centre is t + 1/2

`expand` goes from tokens to frames, `pool` from frames to tokens. There are three kinds:

- *hard*: int64 durations. A frame takes its token by index.
- *box*: float64 durations. A frame takes every token by the length of their overlap,
  W[t, s] = max(0, min(c_s, t+1) - max(c_{s-1}, t)), which can be differentiated. Whole durations
  give the hard kind's result; durations below one make many tokens flow into a frame, which is
  continuous integrate-and-fire (Dong & Xu, 2020, arXiv:1905.11235).
- *soft*: any matrix W, such as Gaussian or learned upsampling makes.

Boundaries are int64 or float64, never the model's dtype: bfloat16 cannot tell frame 257 from 258.

Letters: b batch, s source tokens, t target frames; masks are boolean, True = keep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from unisono.errors import UnisonoError

REDUCTIONS = ("mean", "sum", "max", "last", "nonzero_mean", "softmax")
POSITIONS = ("fraction", "elapsed", "remaining", "log_duration", "centre_distance", "absolute")


@dataclass(frozen=True, eq=False)
class Alignment:
    """Durations of a padded batch.

    Make one with `from_durations`, `from_index`, `from_weights` or `uniform`.
    """

    durations: Shaped[Tensor, "b s"]
    src_lengths: Int[Tensor, " b"]
    tgt_lengths: Int[Tensor, " b"]
    weights: Float[Tensor, "b t s"] | None = None

    @classmethod
    def from_durations(
        cls,
        durations: Shaped[Tensor, "b s"],
        src_lengths: Int[Tensor, " b"] | None = None,
        tgt_lengths: Int[Tensor, " b"] | None = None,
    ) -> Alignment:
        """Integers give a hard alignment, floats a box alignment through which gradients flow.

        Durations past `src_lengths` are ignored. `tgt_lengths` is checked for the hard kind and
        sets the length of the box kind: without it, the last frame is the last one that any token
        touches; a shorter length cuts, a longer one leaves frames uncovered.

        Raises:
            UnisonoError: for a negative or non-finite duration, or for lengths that do not fit.
        """
        b, s = durations.shape
        src_lengths = _lengths(src_lengths, b, s, durations.device)
        keep = torch.arange(s, device=durations.device) < src_lengths[:, None]
        fractional = durations.dtype.is_floating_point
        durations = durations.double() if fractional else durations.long()
        durations = torch.where(keep, durations, torch.zeros_like(durations))
        wrong = ~torch.isfinite(durations) | (durations < 0)
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            raise UnisonoError(
                f"duration {durations[row, column].item()} of token {column} in item {row}: "
                "durations must be finite and at least 0",
                code="range",
                path="durations",
                value=durations[row, column].item(),
            )
        sums = durations.detach().sum(1)
        if not fractional:
            if tgt_lengths is not None and not torch.equal(sums, tgt_lengths.to(sums)):
                row = int((sums != tgt_lengths.to(sums)).nonzero()[0])
                raise UnisonoError(
                    f"durations of item {row} sum to {int(sums[row])} frames, but its target "
                    f"has {int(tgt_lengths[row])}; see round_durations(total=...)",
                    code="conflict",
                    path="tgt_lengths",
                    value=int(tgt_lengths[row]),
                )
            tgt_lengths = sums
        elif tgt_lengths is None:
            tgt_lengths = (sums - 1e-6).ceil().long()
        return cls(durations, src_lengths, tgt_lengths.long().to(durations.device))

    @classmethod
    def from_index(
        cls,
        index: Int[Tensor, "b t"],
        src_lengths: Int[Tensor, " b"],
        tgt_lengths: Int[Tensor, " b"] | None = None,
        num_tokens: int | None = None,
    ) -> Alignment:
        """From the token of each frame, from 0 and never decreasing; a `mel2ph` table is this + 1.

        `num_tokens` is the size of the padded batch, if it is more than the longest item's.
        """
        b, t = index.shape
        tgt_lengths = _lengths(tgt_lengths, b, t, index.device)
        src_lengths = src_lengths.to(index.device)
        inside = torch.arange(t, device=index.device) < tgt_lengths[:, None]
        index = index.long()
        falls = (index[:, 1:] < index[:, :-1]) & inside[:, 1:]
        if falls.any():
            row, column = falls.nonzero()[0].tolist()
            raise UnisonoError(
                f"the tokens of item {row} go backwards at frame {column + 1}", code="value", path="index"
            )
        outside = ((index < 0) | (index >= src_lengths[:, None])) & inside
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise UnisonoError(
                f"frame {column} of item {row} names token {int(index[row, column])}, "
                f"but the tokens are 0 to {int(src_lengths[row]) - 1}",
                code="range",
                path="index",
                value=int(index[row, column]),
            )
        s = _longest(src_lengths) if num_tokens is None else num_tokens
        durations = index.new_zeros(b, s + 1)
        durations.scatter_add_(1, torch.where(inside, index, s), torch.ones_like(index))
        return cls.from_durations(durations[:, :s], src_lengths)

    @classmethod
    def from_weights(
        cls,
        weights: Float[Tensor, "b t s"],
        durations: Shaped[Tensor, "b s"],
        src_lengths: Int[Tensor, " b"],
        tgt_lengths: Int[Tensor, " b"],
    ) -> Alignment:
        """A soft alignment: `expand` is a product with the weights, times read the durations."""
        return replace(cls.from_durations(durations, src_lengths), tgt_lengths=tgt_lengths, weights=weights)

    @classmethod
    def uniform(
        cls,
        src_lengths: Int[Tensor, " b"],
        tgt_lengths: Int[Tensor, " b"],
        num_tokens: int | None = None,
    ) -> Alignment:
        """Equal shares, as whole frames: token s of S ends at floor(T (s+1) / S).

        `num_tokens` is the size of the padded batch, if it is more than the longest item's.
        """
        src_lengths, tgt_lengths = src_lengths.long(), tgt_lengths.long()
        if ((src_lengths == 0) & (tgt_lengths > 0)).any():
            row = int(((src_lengths == 0) & (tgt_lengths > 0)).nonzero()[0])
            raise UnisonoError(
                f"item {row} has {int(tgt_lengths[row])} frames to fill and no token",
                code="empty",
                path="src_lengths",
                value=0,
            )
        s = _longest(src_lengths) if num_tokens is None else num_tokens
        token = torch.arange(s + 1, device=src_lengths.device).minimum(src_lengths[:, None])
        ends = tgt_lengths[:, None] * token // src_lengths[:, None].clamp(min=1)
        return cls.from_durations(ends.diff(dim=1), src_lengths)

    # ------------------------------------------------------------------ shapes and boundaries

    @property
    def kind(self) -> str:
        if self.weights is not None:
            return "soft"
        return "box" if self.durations.dtype.is_floating_point else "hard"

    @property
    def num_tokens(self) -> int:
        return self.durations.shape[1]

    @cached_property
    def num_frames(self) -> int:
        """Frames of the padded batch."""
        if self.weights is not None:
            return self.weights.shape[1]
        return _longest(self.tgt_lengths)

    @property
    def src_mask(self) -> Bool[Tensor, "b s"]:
        return torch.arange(self.num_tokens, device=self.durations.device) < self.src_lengths[:, None]

    @property
    def tgt_mask(self) -> Bool[Tensor, "b t"]:
        return torch.arange(self.num_frames, device=self.durations.device) < self.tgt_lengths[:, None]

    @cached_property
    def ends(self) -> Shaped[Tensor, "b s"]:
        """Where each token ends, in frames: int64, or float64 for fractional durations."""
        return self.durations.cumsum(1)

    @cached_property
    def starts(self) -> Shaped[Tensor, "b s"]:
        return self.ends - self.durations

    @cached_property
    def index(self) -> Int[Tensor, "b t"]:
        """The token at the centre of each frame; past the end, the last token."""
        return self._index(0, self.num_frames)

    def _index(self, start: int, stop: int) -> Int[Tensor, "b t"]:
        ends = self.ends.detach()
        frames = torch.arange(start, stop, device=ends.device, dtype=ends.dtype)
        if self.durations.dtype.is_floating_point:
            frames = frames + 0.5
        found = torch.searchsorted(ends, frames.expand(len(ends), -1).contiguous(), right=True)
        return found.minimum((self.src_lengths - 1).clamp(min=0)[:, None])

    def matrix(self, start: int = 0, stop: int | None = None) -> Float[Tensor, "b t s"]:
        """The weights W of frames [start, stop).

        A row sums to 1 inside the target (box: to the part that is covered), else to 0.
        """
        stop = self.num_frames if stop is None else stop
        if self.weights is not None:
            return self.weights[:, start:stop]
        frames = torch.arange(start, stop, device=self.ends.device)
        inside = (frames < self.tgt_lengths[:, None])[:, :, None]
        frame = frames[:, None].double()
        overlap = torch.minimum(self.ends[:, None], frame + 1) - torch.maximum(self.starts[:, None], frame)
        return torch.where(inside, overlap.clamp(min=0), 0.0)

    # ------------------------------------------------------------------ between tokens and frames

    def expand(self, x: Shaped[Tensor, "b s *d"], fill: float = 0.0) -> Shaped[Tensor, "b t *d"]:
        """Tokens to frames; frames past an item's end are `fill`."""
        return self.expand_window(x, 0, self.num_frames, fill)

    def expand_window(
        self, x: Shaped[Tensor, "b s *d"], start: int, stop: int, fill: float = 0.0
    ) -> Shaped[Tensor, "b n *d"]:
        """Only frames [start, stop) of `expand(x)`, at the cost of those frames: for streaming."""
        self._check(x, self.num_tokens, "tokens")
        if not 0 <= start <= stop <= self.num_frames:
            raise UnisonoError(
                f"window [{start}, {stop}) is not inside the {self.num_frames} frames",
                code="range",
                path="window",
                value=(start, stop),
            )
        inside = torch.arange(start, stop, device=x.device) < self.tgt_lengths[:, None]
        if self.kind == "hard" and x.shape[1] > 0:
            b, s = x.shape[:2]
            flat = self._index(start, stop) + s * torch.arange(b, device=x.device)[:, None]
            y = x.flatten(0, 1).index_select(0, flat.flatten()).unflatten(0, flat.shape)
        elif self.kind == "hard":
            y = x.new_zeros(x.shape[0], stop - start, *x.shape[2:])
        elif x.dtype.is_floating_point:
            y = _product(self.matrix(start, stop).to(x.dtype), x)
        else:
            raise UnisonoError(
                f"expand of {x.dtype} needs whole durations; convert it to float",
                code="unsupported",
                path="x",
                value=x.dtype,
            )
        return y.masked_fill(~_unsqueeze(inside, y.ndim), fill)

    def expand2d(self, x: Shaped[Tensor, "b s s *d"], fill: float = 0.0) -> Shaped[Tensor, "b t t *d"]:
        """Both axes of a token-by-token matrix (a similarity, an attention bias) to frames."""
        rows = self.expand(x, fill).transpose(1, 2)
        return self.expand(rows, fill).transpose(1, 2)

    def pool(
        self,
        y: Shaped[Tensor, "b t *d"],
        reduce: str = "mean",
        weight: Float[Tensor, "b t"] | None = None,
        fill: float = 0.0,
    ) -> Shaped[Tensor, "b s *d"]:
        """Frames to tokens, the inverse of `expand`; tokens without a frame are `fill`.

        Args:
            reduce: "mean", "sum", "max", "last" (a token's last frame), "nonzero_mean" (for pitch:
                zeros are unvoiced frames and do not count), or "softmax" (mean weighted by the
                softmax, within a token, of the scores in `weight`).
            weight: a weight per frame for the means and "sum"; the scores of "softmax".

        Raises:
            UnisonoError: for "max" and "last" on a box or soft alignment, where a frame belongs to
                several tokens.
        """
        self._check(y, self.num_frames, "frames")
        if reduce not in REDUCTIONS:
            raise UnisonoError(
                f"reduction {reduce!r} is unknown; use one of {', '.join(REDUCTIONS)}",
                code="unknown",
                path="reduce",
                value=reduce,
            )
        if (reduce == "softmax") != (weight is not None) and reduce in ("softmax", "max", "last"):
            raise UnisonoError(
                f"reduce={reduce!r} {'needs' if reduce == 'softmax' else 'takes no'} weight",
                code="missing" if reduce == "softmax" else "conflict",
                path="weight",
            )
        if reduce in ("max", "last"):
            return self._select(y, reduce, fill)

        mask = self.tgt_mask
        # Half precision would round every partial sum.
        half = y.dtype in (torch.float16, torch.bfloat16)
        exact = reduce == "sum" and not half
        wide = y if exact else y.to(torch.promote_types(y.dtype, torch.float32))
        wide = wide.masked_fill(~_unsqueeze(mask, y.ndim), 0)
        shares = mask.to(wide)
        if reduce == "softmax" and weight is not None:
            shares = self._exponentials(weight.to(wide), mask)
        elif weight is not None:
            shares = weight.masked_fill(~mask, 0)
        shares = _unsqueeze(shares, y.ndim)
        if reduce == "nonzero_mean":
            shares = shares * (y != 0)
        pooled = self._sum(wide * shares)
        if reduce == "sum":
            empty = _unsqueeze(self.durations == 0, y.ndim)
        else:
            mass = self._sum(shares)
            empty = mass == 0
            pooled = pooled / mass.masked_fill(empty, 1)
        return pooled.masked_fill(empty, fill).to(y.dtype if half else pooled.dtype)

    def _sum(self, y: Shaped[Tensor, "b t *d"]) -> Shaped[Tensor, "b s *d"]:
        """W^T y: sums within a token. Differences of running sums would lose the small."""
        if self.kind != "hard":
            return _product(self.matrix().to(y.dtype).transpose(1, 2), y)
        b, s = self.durations.shape
        out = y.new_zeros(b * s, *y.shape[2:])
        if y.shape[1] == 0:
            return out.unflatten(0, (b, s))
        return out.index_add(0, self._flat_index, y.flatten(0, 1)).unflatten(0, (b, s))

    @cached_property
    def _flat_index(self) -> Int[Tensor, " bt"]:
        return (
            self.index + self.num_tokens * torch.arange(len(self.index), device=self.index.device)[:, None]
        ).flatten()

    def _exponentials(self, scores: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """exp(score - c), with c the largest score of the token (hard) or of the item."""
        low = torch.finfo(scores.dtype).min
        masked = torch.where(mask, scores, low)
        if self.kind == "hard" and masked.numel():
            top = masked.new_full((self.durations.numel(),), low)
            top = top.scatter_reduce(0, self._flat_index, masked.detach().flatten(), "amax")
            peak = top[self._flat_index].unflatten(0, mask.shape)
        else:
            peak = masked.detach().amax(1, keepdim=True) if masked.numel() else masked
        return torch.where(mask, (masked - peak).exp(), 0)

    def _select(self, y: Shaped[Tensor, "b t *d"], reduce: str, fill: float) -> Shaped[Tensor, "b s *d"]:
        if self.kind != "hard":
            raise UnisonoError(
                f"reduce={reduce!r} needs whole durations, and this alignment is {self.kind}",
                code="unsupported",
                path="reduce",
                value=reduce,
            )
        b, s = self.durations.shape
        empty = _unsqueeze(self.durations == 0, y.ndim)
        if y.shape[1] == 0:
            out = y.new_zeros(b, s, *y.shape[2:])
        elif reduce == "last":
            first = y.shape[1] * torch.arange(b, device=y.device)[:, None]
            out = y.flatten(0, 1)[first + (self.ends - 1).clamp(min=0)]
        else:
            info = torch.finfo if y.dtype.is_floating_point else torch.iinfo
            inside = y.masked_fill(~_unsqueeze(self.tgt_mask, y.ndim), info(y.dtype).min)
            where = _unsqueeze(self._flat_index, y.ndim - 1).expand_as(inside.flatten(0, 1))
            out = y.new_full((b * s, *y.shape[2:]), info(y.dtype).min)
            out = out.scatter_reduce(0, where, inside.flatten(0, 1), "amax").unflatten(0, (b, s))
        return out.masked_fill(empty, fill)

    # ------------------------------------------------------------------ time

    def positions(
        self,
        kinds: tuple[str, ...] = ("fraction", "log_duration"),
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "b t k"]:
        """Where each frame's centre lies in its token: one channel per kind, 0 on padding.

        "fraction" of the token gone by, 0 to 1; "elapsed" and "remaining" frames; "log_duration"
        log(1 + d); "centre_distance" signed frames from the token's centre; "absolute" frames from
        the start of the item.
        """
        unknown = [kind for kind in kinds if kind not in POSITIONS]
        if unknown:
            raise UnisonoError(
                f"position {unknown[0]!r} is unknown; use any of {', '.join(POSITIONS)}",
                code="unknown",
                path="kinds",
                value=unknown[0],
            )
        b, s = self.durations.shape
        centre = torch.arange(self.num_frames, device=self.ends.device).double() + 0.5
        if s == 0:
            return torch.zeros(b, self.num_frames, len(kinds), dtype=dtype, device=self.ends.device)
        start = self.starts.double().gather(1, self.index)
        duration = self.durations.double().gather(1, self.index)
        values = {
            "fraction": lambda: (centre - start) / duration.clamp(min=1e-9),
            "elapsed": lambda: centre - start,
            "remaining": lambda: start + duration - centre,
            "log_duration": lambda: duration.log1p(),
            "centre_distance": lambda: centre - start - duration / 2,
            "absolute": lambda: centre.expand(b, -1),
        }
        out = torch.stack([values[kind]() for kind in kinds], dim=-1)
        return torch.where(self.tgt_mask[..., None], out, 0).to(dtype)

    def crop(self, start: int | Int[Tensor, " b"], length: int | Int[Tensor, " b"]) -> Alignment:
        """The alignment of frames [start, start + length); tokens outside get duration 0."""
        b, device = len(self.durations), self.durations.device
        start = torch.as_tensor(start, device=device).expand(b).long()
        length = torch.as_tensor(length, device=device).expand(b).long()
        for name, given in (("start", start), ("length", length)):
            if (given < 0).any():
                raise UnisonoError(
                    f"crop {name} {given.tolist()} must be at least 0", code="range", path=name, value=given.tolist()
                )
        tgt_lengths = (self.tgt_lengths - start).clamp(min=0).minimum(length)
        low, high = (
            start[:, None].to(self.ends.dtype),
            (start + tgt_lengths)[:, None].to(self.ends.dtype),
        )
        durations = (self.ends.clamp(low, high) - self.starts.clamp(low, high)).clamp(min=0)
        if self.weights is None:
            return Alignment(durations, self.src_lengths, tgt_lengths)
        frames = start[:, None] + torch.arange(_longest(tgt_lengths), device=device)
        inside = frames < (start + tgt_lengths)[:, None]
        rows = self.weights.gather(1, frames.clamp(max=self.num_frames - 1)[..., None].expand(-1, -1, self.num_tokens))
        return Alignment(durations, self.src_lengths, tgt_lengths, torch.where(inside[..., None], rows, 0))

    def compose(self, finer: Alignment) -> Alignment:
        """Tokens to frames of `finer`, when the frames of this alignment are the tokens of `finer`.

        With words to phones here and phones to frames in `finer`, the result is words to frames.
        """
        if not torch.equal(self.tgt_lengths, finer.src_lengths):
            raise UnisonoError(
                f"this alignment ends in {self.tgt_lengths.tolist()} positions, but the next "
                f"one starts from {finer.src_lengths.tolist()}",
                code="shape",
                path="finer",
                value=finer.src_lengths.tolist(),
            )
        if self.kind == "hard" and finer.kind != "soft":
            inner = finer.durations[:, : self.num_frames]
            return Alignment(self._sum(inner), self.src_lengths, finer.tgt_lengths)
        outer, padding = finer.matrix(), finer.num_tokens - self.num_frames
        weights = outer @ torch.nn.functional.pad(self.matrix(), (0, 0, 0, padding)).to(outer)
        return Alignment(weights.sum(1).double(), self.src_lengths, finer.tgt_lengths, weights)

    def coarsen(self, groups: Int[Tensor, "b s"]) -> Alignment:
        """Tokens joined by group id (the word of each phone), from 0 and never decreasing."""
        if groups.shape != self.durations.shape:
            raise UnisonoError(
                f"groups of shape {tuple(groups.shape)} for tokens {tuple(self.durations.shape)}",
                code="shape",
                path="groups",
                value=tuple(groups.shape),
            )
        ids = torch.where(self.src_mask, groups, -1)
        num_groups = ids.amax(1) + 1 if self.num_tokens else self.src_lengths
        return Alignment.from_index(groups, num_groups, self.src_lengths).compose(self)

    def to_seconds(self, sample_rate: int, hop_length: int) -> Float[Tensor, "b s 2"]:
        """Start and end of each token, float64; the last ends at frames * hop / sample rate."""
        frames = torch.stack([self.starts, self.ends], dim=-1).double()
        return frames * hop_length / sample_rate

    def word_times(self, groups: Int[Tensor, "b s"], sample_rate: int, hop_length: int) -> Float[Tensor, "b w 2"]:
        """Start and end in seconds of each group of tokens; `groups` as for `coarsen`."""
        return self.coarsen(groups).to_seconds(sample_rate, hop_length)

    # ------------------------------------------------------------------ batches

    def to(self, device: torch.device | str) -> Alignment:
        weights = None if self.weights is None else self.weights.to(device)
        return Alignment(
            self.durations.to(device),
            self.src_lengths.to(device),
            self.tgt_lengths.to(device),
            weights,
        )

    def _check(self, x: Tensor, size: int, what: str) -> None:
        if x.shape[:2] != (len(self.durations), size):
            raise UnisonoError(
                f"expected a batch of {len(self.durations)} with {size} {what}, got shape {tuple(x.shape)}",
                code="shape",
                path="x",
                value=tuple(x.shape),
            )


def _lengths(lengths: Tensor | None, b: int, size: int, device: torch.device) -> Int[Tensor, " b"]:
    if lengths is None:
        return torch.full((b,), size, dtype=torch.int64, device=device)
    lengths = lengths.to(device).long()
    if lengths.shape != (b,) or (lengths < 0).any() or (lengths > size).any():
        raise UnisonoError(
            f"lengths {lengths.tolist()} must be {b} numbers from 0 to {size}",
            code="shape" if lengths.shape != (b,) else "range",
            path="lengths",
            value=lengths.tolist(),
        )
    return lengths


def _unsqueeze(mask: Tensor, ndim: int) -> Tensor:
    return mask.reshape(*mask.shape, *[1] * (ndim - mask.ndim))


def _product(weights: Tensor, x: Tensor) -> Tensor:
    """weights @ x over any trailing dimensions of x."""
    if x.ndim == 2:
        return (weights @ x[..., None])[..., 0]
    return (weights @ x.flatten(2)).unflatten(2, x.shape[2:])


def _longest(lengths: Tensor) -> int:
    return int(lengths.max()) if len(lengths) else 0
