"""Pair: a draft and a rule for a law made of two networks' laws, π = f(p, q); cascades and ensembles are such laws.

    draft     x_1 … x_n, each drawn from q          q_1 … q_n are known
    target    one evaluation                        p_1 … p_n+1
    rule      keep x_i with min(1, π_i / q_i); the first that is refused is drawn anew from (π_i − q_i)+

This is rejection with π in p's place (Leviathan et al., 2022, arXiv:2211.17192), and the result follows π exactly.
What differs is the token after a draft that was kept whole. Its law is π_n+1, neither p_n+1 nor q_n+1, and q_n+1 is
not known yet. So such a round ends with x_n, and the next draft begins with the token that is owed: the evaluation of
the draft's network that any draft begins with gives q_n+1, and p_n+1 is remembered.

With `alternate` the target proposes that token itself (Fu et al., 2025, arXiv:2502.01662): y is drawn from
p_n+1 before the draft's network reads x_n and y together, which gives q_n+1 to check y, and where y is kept q_n+2 as
well: one evaluation less.

Letters: b batch, n nodes, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.verify import Cache, Draw, Network, Prefix, Proposal, Round, Target, Verdict, acceptance, residual, sample

from unisono_text.lossless.entry import Exactness, Means


class Law(Protocol):
    """Makes one law of the target's logits and the draft's, under the settings of a draw."""

    def __call__(
        self, target: Float[Tensor, "... v"], draft: Float[Tensor, "... v"], draw: Draw
    ) -> Float[Tensor, "... v"]: ...


@dataclass(frozen=True, eq=False)
class Drafted:
    """What a `PairDraft` tells its rule: the draft's network, and its logits before each node.

    A row without nodes has the logits after its prefix in the first place.
    """

    own: Target
    logits: Float[Tensor, "b n v"]


@dataclass(frozen=True, eq=False)
class PairVerdict(Verdict):
    """A verdict that says which rows kept their drafts whole, so that a token is owed to them."""

    whole: Bool[Tensor, " b"] | None = None


@dataclass(frozen=True)
class PairDraft:
    """A smaller network draws `num_draft` tokens one by one, after the token that is owed, and remembers its logits.

    Args:
        law: of the result; its rule must have the same.
        alternate: whether the target proposes the token that is owed.
    """

    network: Network
    law: Law
    num_draft: int = 4
    cache: Callable[[int], Cache] | None = None
    alternate: bool = False
    brings_law = True

    def __post_init__(self):
        if not is_whole(self.num_draft, 1):
            raise UnisonoError(
                f"num_draft is {self.num_draft!r}: give a whole number of at least 1",
                code=fault_of(self.num_draft, whole=True),
                path="num_draft",
                value=self.num_draft,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        own = Target(self.network, self.cache, len(prefix.length)) if last is None else last.proposal.carry.own
        nfe, positions = own.nfe, own.positions
        owed, said = _owed(prefix, last)
        count = torch.minimum(prefix.room, self.num_draft + owed.long())
        owed = owed & (count > 0)
        nothing = Proposal.chain(prefix.tokens[:, :0], torch.zeros_like(count))
        asked, begin = None, prefix.length[:, None]
        if self.alternate and bool(owed.any()):
            asked = sample(draw.law(said), prefix.seed, begin, random.PROPOSE)
        heard = _first_head(own(replace(prefix, end=None), nothing if asked is None else Proposal.chain(asked, owed)))
        chain = _Chain(prefix, count, heard[:, 0])
        law, ahead = draw.law(heard[:, :1]), owed & False
        if bool(owed.any()):
            law[owed] = self.law(said[owed], heard[owed, :1], draw)
        token = sample(law, prefix.seed, begin, random.PROPOSE)
        if asked is not None:
            proposed = draw.law(said)
            chance = acceptance(law, proposed).gather(2, asked[:, :, None])[:, :, 0]
            kept = happens(chance, prefix.seed, begin)
            again = torch.where(kept, asked, sample(residual(law, proposed), prefix.seed, begin))
            token = torch.where(owed[:, None], again, token)
            ahead = owed & kept[:, 0]
        chain.add(count > 0, heard[:, 0], law, token)
        while bool((chain.length < count).any()):
            rows = chain.length < count
            if bool(ahead.any()):
                logits, rows, ahead = heard[:, 1:2], rows & ahead, ahead & False
            else:
                logits = _first_head(own(chain.scratch, nothing))
            law = draw.law(logits)
            token = sample(law, prefix.seed, chain.scratch.length[:, None], random.PROPOSE)
            chain.add(rows, logits[:, 0], law, token)
        return Proposal.chain(
            chain.tokens,
            count,
            law=chain.law,
            vocab_size=heard.shape[-1],
            carry=Drafted(own, chain.logits),
            nfe=own.nfe - nfe,
            positions=own.positions - positions,
        )


@dataclass(frozen=True)
class PairRule:
    """Rejection with π in p's place: exact for π, whatever is drafted, and so not lossless towards the target.

    Raises:
        UnisonoError: for a proposal that no `PairDraft` made, which lacks the draft's laws.
    """

    law: Law
    lossless = False
    exactness: ClassVar[Exactness] = "exact for its own law"

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Tensor, draw: Draw) -> PairVerdict:
        drafted = proposal.carry
        if not isinstance(drafted, Drafted):
            raise UnisonoError(
                "a law of two networks needs what both say of each position: propose with PairDraft",
                code="unsupported",
                path="proposal",
                value=type(drafted).__name__,
            )
        b, n = proposal.tokens.shape
        size = drafted.logits.shape[1]
        law = self.law(logits[:, :size], drafted.logits, draw)
        drawn = proposal.law if n and proposal.law is not None else torch.zeros_like(law)
        positions = prefix.length[:, None] + torch.arange(size, device=law.device)
        chance = acceptance(law[:, :n], drawn[:, :n]).gather(2, proposal.tokens[:, :, None])[:, :, 0]
        kept = proposal.real & happens(chance, prefix.seed, positions[:, :n])
        accepted = kept.long().cumprod(1).sum(1)
        count = proposal.real.sum(1)
        whole = (accepted == count) & (count > 0)
        # A row that kept all of its nodes ends with the last of them; what comes next is owed.
        accepted = torch.where(whole, accepted - 1, accepted)
        at = accepted[:, None, None].expand(b, 1, law.shape[-1])
        rest = residual(law.gather(1, at), drawn.gather(1, at))
        token = sample(rest, prefix.seed, positions.gather(1, accepted[:, None]))
        if n:
            token = torch.where(whole[:, None], proposal.tokens.gather(1, accepted[:, None]), token)
        path = torch.arange(n, device=law.device).expand(b, n)
        return PairVerdict(path, accepted, token[:, 0], whole=whole)


def happens(
    chance: Float[Tensor, "b n"], seed: Int[Tensor, " b"], positions: Int[Tensor, "b n"]
) -> Bool[Tensor, "b n"]:
    """Decide what has these chances, with the noise of (seed, position) that is for accepting."""
    return random.uniform(seed, torch.zeros_like(seed), positions, random.ACCEPT) < chance


def draft_of(means: Means, decoding: str) -> Network:
    """Return the draft's network; raises ``UnisonoError`` where there is none."""
    if means.draft is None:
        raise UnisonoError(
            f"decoding={decoding!r} needs a draft: a smaller autoregressive model, same tokenizer",
            code="missing",
            path="draft",
        )
    return means.draft


class _Chain:
    """A chain as it grows: each row at its own pace, up to its count."""

    def __init__(self, prefix: Prefix, count: Int[Tensor, " b"], first: Float[Tensor, "b v"]):
        b, n = len(count), int(count.max()) if len(count) else 0
        self.length = torch.zeros_like(count)
        self.scratch = replace(prefix, end=None)
        self.tokens = prefix.tokens.new_zeros(b, n)
        self.law = torch.zeros(b, n, first.shape[-1], dtype=torch.float64, device=first.device)
        self.logits = first.new_zeros(b, max(n, 1), first.shape[-1])
        self.logits[:, 0] = first

    def add(
        self,
        rows: Bool[Tensor, " b"],
        logits: Float[Tensor, "b v"],
        law: Float[Tensor, "b 1 v"],
        token: Int[Tensor, "b 1"],
    ) -> None:
        """Append a node to some rows: the draft's logits before it, the law it was drawn from, and the token."""
        at = rows.nonzero()[:, 0]
        place = self.length[at]
        self.tokens[at, place] = token[at, 0]
        self.law[at, place] = law[at, 0]
        self.logits[at, place] = logits[at]
        self.scratch = self.scratch.commit(token, rows.long())
        self.length = self.length + rows


def _owed(prefix: Prefix, last: Round | None) -> tuple[Bool[Tensor, " b"], Float[Tensor, "b 1 v"]]:
    """Which rows are owed a token, and the target's logits for it (of other rows, any)."""
    if last is None:
        return torch.zeros_like(prefix.done), torch.zeros(len(prefix.done), 1, 1, device=prefix.tokens.device)
    assert isinstance(last.verdict, PairVerdict) and last.verdict.whole is not None
    count = last.proposal.real.sum(1)
    logits = _first_head(last.logits)
    at = count[:, None, None].expand(-1, 1, logits.shape[-1])
    return last.verdict.whole & ~prefix.done, logits.gather(1, at)


def _first_head(logits: Tensor) -> Tensor:
    return logits if logits.dim() == 3 else logits[:, :, 0]
