"""Acceptance: rules that decide how many nodes of a proposal are committed.

    rule        accepts a node if                                     distribution of the result
    Matching    the target draws the same token there                 the target's: equal tokens (greedy or fixed noise)
    Rejection   u < p(x) / q(x); a refused token is drawn anew        the target's; the tokens may be others
                from (p − q)+
    Typical     p(x) > min(ε, δ e^−H(p))                              another one (lossy)
    TopAgree    it is one of the target's k most likely tokens        another one (lossy)

Every rule accepts a node only if it accepts its parent. Every rule ends a round with one token that the target
draws itself, so a round commits at least one token.

Letters: b batch, n nodes, d nodes along a path, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_real, is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.verify.draw import Draw, sample
from unisono.verify.prefix import Prefix, Proposal, Verdict


class Rule(Protocol):
    """Decides on a proposal. `lossless`: the result follows the target's distribution, whatever is proposed."""

    @property
    def lossless(self) -> bool: ...

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Float[Tensor, "b n+1 v"], draw: Draw) -> Verdict: ...


@dataclass(frozen=True)
class Matching:
    """Accept a node if the target draws the same token there; the result equals decoding one token at a time.

    In a tree, the accepted path is the one that the target's draws follow. Jacobi iteration uses this rule (Song et
    al., 2021, arXiv:2002.03629, §4), and so does the greedy verification of n-grams, extra heads and look-ahead
    embeddings.
    """

    lossless = True

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Tensor, draw: Draw) -> Verdict:
        drawn = draw(logits, prefix.seed, _positions(prefix, proposal))
        if not proposal.tokens.shape[1]:
            return Verdict(proposal.tokens, torch.zeros_like(prefix.length), drawn[:, 0], drawn)
        ok = proposal.real & (proposal.tokens == _before(proposal, drawn))
        path, accepted = _deepest(proposal, ok, torch.zeros_like(proposal.tokens, dtype=torch.float64))
        return Verdict(path, accepted, drawn.gather(1, _leaf(path, accepted)[:, None])[:, 0], drawn)


@dataclass(frozen=True)
class Rejection:
    """Speculative sampling (Leviathan et al., 2022, arXiv:2211.17192; Chen et al., 2023, arXiv:2302.01318).

    The proposal must be a chain and hold the distribution from which each token was drawn. p and q are the
    distributions of the target and the draft, after temperature and warp.
    """

    lossless = True

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Tensor, draw: Draw) -> Verdict:
        n = proposal.tokens.shape[1]
        if proposal.parent is not None or (n and proposal.law is None):
            raise UnisonoError(
                "rejection needs a chain and the law of each of its tokens: use Matching for others",
                code="unsupported",
                path="proposal",
            )
        p = draw.law(logits)
        q = p[:, :0] if proposal.law is None else proposal.law
        positions = _positions(prefix, proposal)
        accept = acceptance(p[:, :n], q).gather(2, proposal.tokens[:, :, None])[:, :, 0]
        u = random.uniform(prefix.seed, torch.zeros_like(prefix.seed), positions[:, :n], random.ACCEPT)
        accepted = (proposal.real & (u < accept)).long().cumprod(1).sum(1)
        # A row that accepts all of its nodes draws its last token from p, which is the residual for q = 0.
        refused = proposal.real.sum(1) > accepted
        q = torch.cat([q, torch.zeros_like(p[:, :1])], 1)
        at = accepted[:, None, None].expand(-1, 1, p.shape[-1])
        rest = residual(p.gather(1, at), torch.where(refused[:, None, None], q.gather(1, at), 0))
        token = sample(rest, prefix.seed, positions.gather(1, accepted[:, None]))[:, 0]
        return Verdict(torch.arange(n, device=p.device).expand(len(p), n), accepted, token)


@dataclass(frozen=True)
class Typical:
    """Typical acceptance of a tree (Cai et al., 2024, Medusa, arXiv:2401.10774): lossy.

    The longest accepted path is committed; of several, the one of the highest probability under the target. p is the
    target's distribution. The temperature must be above 0, because the entropy of a greedy draw is always 0.

    Args:
        epsilon: the highest threshold, above 0 and at most 1.
        delta: the factor of e^−H(p), above 0.
    """

    epsilon: float = 0.09
    delta: float = 0.3
    lossless = False

    def __post_init__(self):
        fits = {
            "epsilon": is_real(self.epsilon, 0, 1) and self.epsilon > 0,
            "delta": is_real(self.delta) and self.delta > 0,
        }
        for name in (name for name, fit in fits.items() if not fit):
            value = getattr(self, name)
            raise UnisonoError(
                f"epsilon {self.epsilon!r}, delta {self.delta!r}: give 0 < epsilon ≤ 1 and delta > 0",
                code=fault_of(value),
                path=name,
                value=value,
            )

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Tensor, draw: Draw) -> Verdict:
        if draw.temperature == 0:
            raise UnisonoError(
                "typical acceptance at temperature 0: use Matching, which is exact there",
                code="conflict",
                path="temperature",
                value=0,
            )
        law = draw.law(logits)
        entropy = -torch.xlogy(law, law).sum(-1)
        least = (self.delta * (-entropy).exp()).clamp_max(self.epsilon)
        p = _before(proposal, law).gather(2, proposal.tokens[:, :, None])[:, :, 0]
        path, accepted = _deepest(proposal, proposal.real & (p > _before(proposal, least)), p.log())
        drawn = draw(logits, prefix.seed, _positions(prefix, proposal))
        return Verdict(path, accepted, drawn.gather(1, _leaf(path, accepted)[:, None])[:, 0], drawn)


@dataclass(frozen=True)
class TopAgree:
    """Accept a node if it is one of the target's `top_k` most likely tokens; for a proposer stronger than the target.

    In guided diffusion (Hu et al., 2025, FlashDLM, arXiv:2505.21467) an autoregressive model refuses some tokens of a
    diffusion model. At the first refused position the target's own token is written. The rule is always marked as
    lossy; with `top_k` 1 and greedy decoding it equals `Matching`.
    """

    top_k: int = 2
    lossless = False

    def __post_init__(self):
        if not is_whole(self.top_k, 1):
            raise UnisonoError(
                f"top_k {self.top_k!r}: give a whole number of at least 1",
                code=fault_of(self.top_k, whole=True),
                path="top_k",
                value=self.top_k,
            )

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Tensor, draw: Draw) -> Verdict:
        best = logits.topk(min(self.top_k, logits.shape[-1]), -1).indices
        ok = proposal.real & (_before(proposal, best) == proposal.tokens[:, :, None]).any(-1)
        path, accepted = _deepest(proposal, ok, torch.zeros_like(proposal.tokens, dtype=torch.float64))
        drawn = draw(logits, prefix.seed, _positions(prefix, proposal))
        return Verdict(path, accepted, drawn.gather(1, _leaf(path, accepted)[:, None])[:, 0], drawn)


def acceptance(p: Float[Tensor, "... v"], q: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
    """Return the probability of keeping a token that was drawn from q: min(1, p / q)."""
    return torch.where(q > 0, (p / q.clamp_min(torch.finfo(q.dtype).tiny)).clamp_max(1), 1)


def residual(p: Float[Tensor, "... v"], q: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
    """Return the distribution from which a refused token is drawn again: (p − q)+, normalised."""
    rest = (p - q).clamp_min(0)
    total = rest.sum(-1, keepdim=True)
    # If p = q up to rounding, a refusal has probability 0 up to rounding, and any finite distribution will do.
    return torch.where(total > 0, rest / torch.where(total > 0, total, 1), p)


def _positions(prefix: Prefix, proposal: Proposal) -> Int[Tensor, "b n+1"]:
    """Return the positions that the n + 1 rows of logits predict."""
    if not proposal.tokens.shape[1]:
        return prefix.length[:, None]
    return prefix.length[:, None] + torch.nn.functional.pad(proposal.depth + 1, (1, 0))


def _before(proposal: Proposal, x: Tensor) -> Tensor:
    """Return the rows of `x` at the nodes' parents: [b, n + 1, …] → [b, n, …]."""
    if proposal.parent is None:
        return x[:, :-1]
    return x[:, proposal.parent + 1]


def _leaf(path: Int[Tensor, "b d"], accepted: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Return the row of logits that follows the last accepted node; 0, the root's row, if none was accepted."""
    before = torch.nn.functional.pad(path + 1, (1, 0))
    return before.gather(1, accepted[:, None])[:, 0]


def _deepest(
    proposal: Proposal, ok: Bool[Tensor, "b n"], score: Float[Tensor, "b n"]
) -> tuple[Int[Tensor, "b d"], Int[Tensor, " b"]]:
    """Return the longest path of which every node is ok, of several the one of the best total score, and its length."""
    b, n = ok.shape
    if proposal.parent is None:
        accepted = ok.long().cumprod(1).sum(1)
        return torch.arange(n, device=ok.device).expand(b, n), accepted
    ancestors, depth = proposal.ancestors, proposal.depth
    if not n:
        return proposal.tokens, proposal.tokens.new_zeros(b)
    whole = (ok[:, None] | ~ancestors).all(2)
    along = torch.where(ancestors, score[:, None], 0).sum(2)
    length = torch.where(whole, depth + 1, 0)
    accepted = length.amax(1)
    leaf = torch.where(whole & (length == accepted[:, None]), along, -torch.inf).argmax(1)
    # The leaf's ancestors in the order of their depth; 0 beyond the end of the path.
    d = int(depth.max()) + 1
    way = ancestors[leaf]
    path = torch.zeros(b, d, dtype=torch.int64, device=ok.device)
    path = path.scatter_add(1, depth.expand(b, n), torch.where(way, torch.arange(n, device=ok.device), 0))
    return path, accepted
