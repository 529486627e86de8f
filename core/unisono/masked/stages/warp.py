"""Warp (stage 3): what is done to logits before a token is drawn, and only then.

Each warp maps logits [b, k, v] to logits; a removed token gets −inf, and at least one is always left.

Letters: b batch, k positions, v vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt32
from torch import Tensor

from unisono.checks import fault_of, is_real, is_whole
from unisono.errors import UnisonoError
from unisono.masked.stages.plan import Planned


class Warp(Protocol):
    """Logits to logits, knowing the step."""

    def __call__(self, logits: Float[Tensor, "b k v"], planned: Planned) -> Float[Tensor, "b k v"]: ...


@dataclass(frozen=True)
class Keep:
    """Logits as they are."""

    def __call__(self, logits: Tensor, planned: Planned) -> Tensor:
        return logits


@dataclass(frozen=True)
class Temperature:
    """Logits over T; 0 leaves only the likeliest token (the first of equals).

    `value` is one temperature or one per group. `anneal` brings it linearly to 0 in the group's last
    step, as aMUSEd and MaskGCT do; a group of one step is then greedy.
    """

    value: float | tuple[float, ...] = 1.0
    anneal: bool = False

    def __post_init__(self):
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        unfit = [value for value in values if not is_real(value, 0)]
        if unfit or not values:
            raise UnisonoError(
                f"temperature {self.value!r}: give a number of at least 0, or a tuple of one per group",
                code=fault_of(unfit[0]) if unfit else "empty",
                path="temperature",
                value=self.value,
            )

    def at(self, value: float) -> Temperature:
        """The same with another value; groups at 0 stay greedy."""
        if isinstance(self.value, tuple):
            return replace(self, value=tuple(value if own > 0 else 0.0 for own in self.value))
        return replace(self, value=value)

    def __call__(self, logits: Tensor, planned: Planned) -> Tensor:
        if not isinstance(self.value, tuple) and self.value > 0 and not self.anneal:
            return logits / self.value
        if isinstance(self.value, tuple):
            group = planned.group.clamp(0, len(self.value) - 1)
            t = torch.zeros_like(planned.progress)
            for i, value in enumerate(self.value):
                t = torch.where(group == i, value, t)
        else:
            t = torch.full_like(planned.progress, self.value)
        if self.anneal:
            t = t * (1 - planned.progress)
        t = t.to(logits)[:, None, None]
        greedy = logits.new_full((), -math.inf).expand_as(logits).scatter(-1, logits.argmax(-1, keepdim=True), 0.0)
        return torch.where(t > 0, logits / torch.where(t > 0, t, 1), greedy)


@dataclass(frozen=True)
class TopTokens:
    """The k likeliest tokens, or the likeliest `share` of the vocabulary (at least one)."""

    k: int | None = None
    share: float | None = None

    def __post_init__(self):
        if (self.k is None) == (self.share is None):
            raise UnisonoError(
                "top tokens: give either k or share",
                code="missing" if self.k is None else "conflict",
                path="k",
                value=self.k,
            )
        if self.k is not None and not is_whole(self.k, 1):
            raise UnisonoError(
                f"top tokens k={self.k!r}: give a whole number of at least 1",
                code=fault_of(self.k, whole=True),
                path="k",
                value=self.k,
            )
        if self.share is not None and not (is_real(self.share, 0, 1) and self.share > 0):
            raise UnisonoError(
                f"top tokens share={self.share!r}: give a share above 0, at most 1",
                code=fault_of(self.share),
                path="share",
                value=self.share,
            )

    def __call__(self, logits: Tensor, planned: Planned) -> Tensor:
        v = logits.shape[-1]
        k = min(v, self.k if self.k is not None else max(1, math.ceil(v * (self.share or 1) - 1e-9)))
        index = logits.topk(k, -1).indices
        return torch.full_like(logits, -math.inf).scatter(-1, index, logits.gather(-1, index))


@dataclass(frozen=True)
class Nucleus:
    """The smallest set of likeliest tokens whose probability reaches p (Holtzman et al., 2020).

    The token that crosses p belongs to it. (Some published samplers drop it: same p, other support.)
    """

    p: float

    def __post_init__(self):
        if not (is_real(self.p, 0, 1) and self.p > 0):
            raise UnisonoError(
                f"nucleus p = {self.p!r}: give a number above 0, at most 1",
                code=fault_of(self.p),
                path="p",
                value=self.p,
            )

    def __call__(self, logits: Tensor, planned: Planned) -> Tensor:
        below = logits - logits.amax(-1, keepdim=True)
        return _up_to(self.p, logits, below, -below.logsumexp(-1, keepdim=True))


@dataclass(frozen=True)
class Typical:
    """Tokens whose surprise is nearest the entropy, up to mass p (Meister et al., 2023, arXiv:2202.00666)."""

    p: float

    def __post_init__(self):
        if not (is_real(self.p, 0, 1) and self.p > 0):
            raise UnisonoError(
                f"typical p = {self.p!r}: give a number above 0, at most 1",
                code=fault_of(self.p),
                path="p",
                value=self.p,
            )

    def __call__(self, logits: Tensor, planned: Planned) -> Tensor:
        logp = logits.log_softmax(-1).clamp_min_(torch.finfo(logits.dtype).min)  # 0 times −∞ is no number
        entropy = -logp.exp().mul_(logp).sum(-1, keepdim=True)
        return _up_to(self.p, logits, logp.add_(entropy), -entropy)


@dataclass(frozen=True)
class MinP:
    """Tokens at least p times as likely as the likeliest (Nguyen et al., 2024, arXiv:2407.01082)."""

    p: float

    def __post_init__(self):
        if not is_real(self.p, 0, 1):
            raise UnisonoError(
                f"min-p p = {self.p!r}: give a number from 0 to 1", code=fault_of(self.p), path="p", value=self.p
            )

    def __call__(self, logits: Tensor, planned: Planned) -> Tensor:
        if self.p == 0:
            return logits
        least = logits.amax(-1, keepdim=True) + math.log(self.p)
        return logits.masked_fill(logits < least, -math.inf)


@dataclass(frozen=True)
class Suppress:
    """Forbid tokens, such as an id that a network reserves for its mask."""

    tokens: tuple[int, ...]

    def __post_init__(self):
        if not all(is_whole(token, 0) for token in self.tokens):
            raise UnisonoError(
                f"suppressed tokens {self.tokens!r}: give a tuple of whole numbers",
                code="type",
                path="tokens",
                value=self.tokens,
            )

    def __call__(self, logits: Tensor, planned: Planned) -> Tensor:
        outside = [t for t in self.tokens if not 0 <= t < logits.shape[-1]]
        if outside:
            raise UnisonoError(
                f"suppressed tokens {outside}: the vocabulary is 0 to {logits.shape[-1] - 1}",
                code="range",
                path="tokens",
                value=outside,
            )
        keep = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
        for token in self.tokens:
            keep[token] = False
        return logits.masked_fill(~keep, -math.inf)


class Chain:
    """Several warps, one after the other."""

    def __init__(self, *warps: Warp):
        self.warps = warps

    def __call__(self, logits: Float[Tensor, "b k v"], planned: Planned) -> Float[Tensor, "b k v"]:
        for warp in self.warps:
            logits = warp(logits, planned)
        return logits

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.warps))})"


_SMALL, _LARGE = 256, 4096
"""Vocabularies up to the first size are sorted whole at once, and for more than half the mass up to the second."""


def _up_to(
    p: float, logits: Float[Tensor, "b k v"], distance: Float[Tensor, "b k v"], less: Float[Tensor, "b k 1"]
) -> Float[Tensor, "b k v"]:
    """Logits of the tokens by ascending |distance|, up to the one at which their probability reaches p; −∞ elsewhere.

    A token's probability is exp(distance + less), distance in float32. Of equal |distance| a positive one is
    first; of equal distances, the one at the lower position.
    """
    if p >= 1:
        return logits
    # A sum of probabilities that is p on paper must not miss it by a rounding.
    reach = p - max(1e-6, 4 * torch.finfo(logits.dtype).eps)
    select = _by_numpy if logits.device.type == "cpu" else _by_torch
    return logits.masked_fill(~select(distance, less, reach, p), -math.inf)


def _by_torch(
    distance: Float[Tensor, "b k v"], less: Float[Tensor, "b k 1"], reach: float, p: float
) -> Bool[Tensor, "b k v"]:
    """What is kept, by a whole sort."""
    key = _key(distance)
    ordered = key.sort(-1).values
    mass = (_distance(ordered) + less).exp().cumsum(-1, dtype=torch.double)
    last = (mass < reach).sum(-1, keepdim=True).clamp_max(key.shape[-1] - 1)
    cut = ordered.gather(-1, last)
    at = key == cut
    return (key < cut) | (at & (at.cumsum(-1) <= last + 1 - (ordered < cut).sum(-1, keepdim=True)))


def _by_numpy(
    distance: Float[Tensor, "b k v"], less: Float[Tensor, "b k 1"], reach: float, p: float
) -> Bool[Tensor, "b k v"]:
    """The same by NumPy, whose selection and sort of plain numbers are many times faster than torch's on a CPU."""
    key = _turned(distance.float().numpy().view(np.uint32), 1)
    return torch.from_numpy(_select(key, less.float().numpy(), reach, _few(key.shape[-1], p)))


def _few(v: int, p: float) -> int:
    """How many of v tokens to sort first."""
    if p < 1 / 2:  # were all as likely as any other, p of them would reach p
        return v if v <= _SMALL else math.ceil(v * (p + 1 / 16))
    return v if v <= _LARGE else math.ceil(v / 8)  # a large p is reached by few where there are many


def _select(
    key: UInt32[np.ndarray, "*b v"], less: Float[np.ndarray, "*b 1"], reach: float, few: int
) -> Bool[np.ndarray, "*b v"]:
    """What is kept: the `few` lowest are sorted first; rows in which they do not reach p are sorted whole."""
    v = key.shape[-1]
    ordered = np.sort(np.partition(key, few - 1, -1)[..., :few] if few < v else key, -1)
    mass = _turned(ordered, 31).view(np.float32) + less
    mass = np.exp(mass, out=mass).cumsum(-1, dtype=np.float64)
    place = (mass < reach).sum(-1, keepdims=True)
    last = np.minimum(place, few - 1)
    cut = np.take_along_axis(ordered, last, -1)
    kept = key <= cut
    short = (place == few)[..., 0] & (few < v)
    # Of several equal ones at the cut, the first; those beyond the sorted ones are not counted yet.
    equal = ((ordered <= cut).sum(-1) > last[..., 0] + 1) | (ordered[..., -1:] == cut)[..., 0]
    equal &= ~short
    if equal.any():
        at = key[equal] == cut[equal]
        kept[equal] &= ~at | (at.cumsum(-1) <= (last + 1 - (ordered < cut).sum(-1, keepdims=True))[equal])
    if short.any():
        kept[short] = _select(key[short], less[short], reach, v)
    return kept


def _turned(bits: UInt32[np.ndarray, "*b n"], by: int) -> UInt32[np.ndarray, "*b n"]:
    """The bits, so many places to the left and round. By one, a float's are in order of its size, then of its sign:
    a positive float's bits are ordered as it is. By 31 more they are its own again."""
    turned = bits << np.uint32(by)
    turned |= bits >> np.uint32(32 - by)
    return turned


def _key(distance: Float[Tensor, "b k v"]) -> Int[Tensor, "b k v"]:
    """The same by torch, which has no unsigned numbers to sort."""
    bits = distance.float().view(torch.int32)
    return (bits << 1).bitwise_or_(bits < 0).bitwise_xor_(_LOWEST)  # as if unsigned


_LOWEST = -(2**31)


def _distance(key: Int[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    """What `_key` was made of."""
    bits = key ^ _LOWEST
    return (((bits >> 1) & 0x7FFFFFFF) | (bits << 31)).view(torch.float32)
