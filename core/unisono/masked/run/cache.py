"""Memories of a network between steps: which keys and values may be kept, and whether that is exact.

`Cached(network, policy)` is a model for `decode`. In each call the policy says which positions are computed
anew and which of their keys and values are kept; the network attends from the computed positions to
themselves and to what is kept. With `Recompute` nothing is kept, and that is what the others are held to:

    policy           computed in a step                      exact, if the network's attention is
    Recompute        everything                              anything
    PrefixExact      the open block, blocks just finished    causal between blocks (BD3-LM, Dimple's prompts)
    QueryOnly        queries, tokens just committed          from each token to no younger one (ARPG, LPD)
    FrozenPerBlock   the open block (and what follows it)    never (Fast-dLLM)
    Delayed          masks, tokens just committed            never (dKV-Cache)
    FreeCache        the open block and what follows         never (FlashDLM)

An exact one gives the tokens of `Recompute`. Of the others, `Audit` measures how far marginals drift.

Letters: b batch, l positions, k computed positions, v vocabulary; kv is [b, l, …] of the network's making.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas, Layout
from unisono.masked.run.handle import select_rows
from unisono.masked.run.step import pack


@dataclass(frozen=True, eq=False)
class Part:
    """The positions that a network computes. `age` is the step of a token's commit, −1 if given or masked."""

    sites: Int[Tensor, "b k"]
    live: Bool[Tensor, "b k"]
    tokens: Int[Tensor, "b k"]
    known: Bool[Tensor, "b k"]
    age: Int[Tensor, "b k"]
    layout: Layout


@dataclass(frozen=True, eq=False)
class Memory:
    """What is kept: `kv` where `valid`. Positions that are computed anew are never valid in the same call."""

    kv: Shaped[Tensor, "b l *d"]
    valid: Bool[Tensor, "b l"]
    age: Int[Tensor, "b l"]


class Network(Protocol):
    """A network that can compute some positions and remember others.

    The caller attends from each live computed position to all live computed ones and all valid ones in the
    memory, as far as its own attention allows: by `layout.group` or by `age`.
    """

    def empty(self, batch: int, length: int, device: torch.device) -> Shaped[Tensor, "b l *d"]:
        """Room for keys and values."""
        ...

    def __call__(self, part: Part, memory: Memory) -> tuple[Float[Tensor, "b k v"], Shaped[Tensor, "b k *d"]]:
        """Logits, and keys and values, of the computed positions."""
        ...


class Policy(Protocol):
    """What to compute and what of it to keep, [b, l] each; `note` is the policy's own memory of each row."""

    exact: ClassVar[bool]

    def __call__(
        self, canvas: Canvas, valid: Bool[Tensor, "b l"], note: Int[Tensor, " b"], wanted: Bool[Tensor, "b l"]
    ) -> tuple[Bool[Tensor, "b l"], Bool[Tensor, "b l"], Int[Tensor, " b"]]: ...


@dataclass(frozen=True)
class Recompute:
    """Everything, every time."""

    exact: ClassVar[bool] = True

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor):
        everything = ~canvas.padding
        return everything, torch.zeros_like(everything), note


@dataclass(frozen=True)
class PrefixExact:
    """Keep a block when all of it and all before it is known; compute it once more, then only the open block."""

    exact: ClassVar[bool] = True

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor):
        group, current = _groups(canvas)
        over = (group < current) & ~canvas.padding
        write = over & ~valid
        return write | ((group == current) & ~canvas.padding), write, note


@dataclass(frozen=True)
class QueryOnly:
    """Keep a token when it is committed; compute those, and the positions that are asked for."""

    exact: ClassVar[bool] = True

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor):
        write = canvas.known & ~canvas.padding & ~valid
        return write | (wanted & canvas.masked), write, note


@dataclass(frozen=True)
class FrozenPerBlock:
    """Compute all when a block is opened and keep it for that block (Fast-dLLM, arXiv:2505.22618).

    Between, compute the open block and what follows it, or with `dual` the open block alone.
    """

    dual: bool = False
    exact: ClassVar[bool] = False

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor):
        group, current = _groups(canvas)
        opened = (note != current[:, 0] + 1)[:, None]
        inside = group == current if self.dual else group >= current
        everything = ~canvas.padding
        return everything & (opened | inside), everything & opened, current[:, 0] + 1


@dataclass(frozen=True)
class Delayed:
    """Keep a token's keys and values one step after its commit, when they have seen it (dKV-Cache, arXiv:2505.15781).

    Every `refresh` steps all of them are computed anew.
    """

    refresh: int = 8
    exact: ClassVar[bool] = False

    def __post_init__(self):
        if not is_whole(self.refresh, 1):
            raise UnisonoError(
                f"refresh every {self.refresh!r} steps: a whole number of at least 1",
                code=fault_of(self.refresh, whole=True),
                path="refresh",
                value=self.refresh,
            )

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor):
        due = (note % self.refresh == 0)[:, None]
        known = canvas.known & ~canvas.padding
        write = known & (due | ~valid)
        return write | canvas.masked, write, note + 1


@dataclass(frozen=True)
class FreeCache:
    """Keep prompts from the start and blocks once finished, for good (FlashDLM, arXiv:2505.21467)."""

    exact: ClassVar[bool] = False

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor):
        group, current = _groups(canvas)
        settled = (canvas.frozen | (group < current)) & ~canvas.padding
        return ~valid & ~canvas.padding, settled & ~valid, note


class Cached:
    """A model for `decode`: a network, and a policy of what it keeps between calls.

    `computed` is what the last call computed, over all rows; `positions_saved` what recomputing would have
    added. Logits of positions that were neither computed nor asked for are NaN, so that a strategy which
    reads them (such as one that opens every block at once) ends in an error and not in a wrong token.
    """

    def __init__(self, network: Network, policy: Policy):
        self.network = network
        self.policy = policy
        self.computed = 0
        self.positions_saved = 0
        self._memory: Memory | None = None
        self._note: Tensor | None = None

    @property
    def exact(self) -> bool:
        """Whether tokens are those of `Recompute`, given a network whose attention fits the policy."""
        return self.policy.exact

    def begin(self, canvas: Canvas) -> None:
        """Forget everything; `decode` calls this first."""
        b, l_ = canvas.tokens.shape
        kv = self.network.empty(b, l_, canvas.tokens.device)
        self._memory = Memory(kv, torch.zeros_like(canvas.known), torch.full_like(canvas.age, -1))
        self._note = torch.zeros_like(canvas.step)

    def attend(self, canvas: Canvas, query: Int[Tensor, "b k"] | None) -> Float[Tensor, "b k v"]:
        """Logits at `query`, or everywhere (NaN where nothing was computed)."""
        if self._memory is None or self._note is None or self._memory.valid.shape != canvas.known.shape:
            self.begin(canvas)
        memory, note = self._memory, self._note
        assert memory is not None and note is not None
        wanted = torch.ones_like(canvas.known)
        if query is not None:
            wanted = torch.zeros_like(canvas.known).scatter(1, query, True)
        # A token that was masked again or changed since it was kept is not what the memory holds.
        stale = memory.valid & (memory.age != canvas.age)
        memory = replace(memory, valid=memory.valid & ~stale)
        compute, write, self._note = self.policy(canvas, memory.valid, note, wanted)
        sites, live = pack(compute, None)
        part = Part(
            sites=sites,
            live=live,
            tokens=canvas.tokens.gather(1, sites),
            known=canvas.known.gather(1, sites),
            age=canvas.age.gather(1, sites),
            layout=canvas.layout,
        )
        logits, kv = self.network(part, replace(memory, valid=memory.valid & ~compute))
        keep = write.gather(1, sites) & live
        index = sites.reshape(*sites.shape, *[1] * (kv.dim() - 2)).expand_as(kv)
        before = memory.kv.gather(1, index)
        chosen = torch.where(keep.reshape(*keep.shape, *[1] * (kv.dim() - 2)), kv, before)
        self._memory = Memory(
            memory.kv.scatter(1, index, chosen), memory.valid | write, torch.where(write, canvas.age, memory.age)
        )
        self.computed = int(live.sum())
        self.positions_saved += int((~canvas.padding).sum()) - self.computed
        b, l_ = canvas.tokens.shape
        spread = sites[..., None].expand_as(logits)
        everywhere = torch.full((b, l_, logits.shape[-1]), torch.nan, dtype=logits.dtype, device=logits.device)
        nothing = everywhere[:, : sites.shape[1]]
        everywhere = everywhere.scatter(1, spread, torch.where(live[..., None], logits, nothing))
        if query is None:
            return everywhere
        return everywhere.gather(1, query[..., None].expand(*query.shape, logits.shape[-1]))

    def rows(self, index: Int[Tensor, " n"]) -> Cached:
        """For some rows of the batch, with what was kept for them."""
        part = Cached(select_rows(self.network, index), self.policy)
        if self._memory is not None and self._note is not None:
            m = self._memory
            part._memory, part._note = Memory(m.kv[index], m.valid[index], m.age[index]), self._note[index]
        return part


class ReuseUnchanged:
    """Answer from memory when nothing has changed since the last call: exact for a model without a clock.

    MDLM's caching sampler (arXiv:2406.07524): steps in which no position is filled cost no evaluation.
    """

    exact = True

    def __init__(self, model: Any):
        self.model = model
        self.computed = 0
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def begin(self, canvas: Canvas) -> None:
        self._last = None

    def attend(self, canvas: Canvas, query: Int[Tensor, "b k"] | None) -> Float[Tensor, "b l v"]:
        if query is not None:
            raise UnisonoError(
                "ReuseUnchanged answers for the whole canvas: use it without query_only",
                code="conflict",
                path="query_only",
                value=True,
            )
        if self._last is not None:
            tokens, known, logits = self._last
            if torch.equal(tokens, canvas.tokens) and torch.equal(known, canvas.known):
                self.computed = 0
                return logits
        logits = self.model(canvas.tokens, canvas.known, None)
        self.computed = canvas.tokens.numel()
        self._last = (canvas.tokens, canvas.known, logits)
        return logits

    def rows(self, index: Int[Tensor, " n"]) -> ReuseUnchanged:
        return ReuseUnchanged(select_rows(self.model, index))


class Audit:
    """A cached model watched: after each call, how far its marginals are from those of recomputing.

    `drift` holds one number per call, the largest total variation over the masked positions that were
    computed: 0 for an exact cache up to rounding. Costs a full evaluation per call.
    """

    def __init__(self, cached: Cached):
        self.cached = cached
        self.reference = Cached(cached.network, Recompute())
        self.drift: list[float] = []

    def begin(self, canvas: Canvas) -> None:
        self.cached.begin(canvas)
        self.reference.begin(canvas)
        self.drift = []

    @property
    def computed(self) -> int:
        return self.cached.computed + self.reference.computed

    def attend(self, canvas: Canvas, query: Int[Tensor, "b k"] | None) -> Float[Tensor, "b k v"]:
        logits = self.cached.attend(canvas, query)
        truth = self.reference.attend(canvas, query)
        masked = canvas.masked if query is None else canvas.masked.gather(1, query)
        masked = masked & ~logits.isnan().any(-1)
        apart = (logits.softmax(-1) - truth.softmax(-1)).abs().sum(-1) / 2
        self.drift.append(float(torch.where(masked, apart, 0).max()))
        return logits


def _groups(canvas: Canvas) -> tuple[Int[Tensor, " l"], Int[Tensor, "b 1"]]:
    """Each position's group, and the lowest unfinished group of each row (beyond the last where complete)."""
    group = canvas.layout.group
    last = group.max() + 1 if group.numel() else canvas.step.new_zeros(())
    return group, torch.where(canvas.masked, group, last).amin(1, keepdim=True)
