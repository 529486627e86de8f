"""Chunk decoding: a chunk of action tokens in fewer evaluations of the network, and not one token changed (PD-VLA).

Song et al., 2025, PD-VLA (arXiv:2503.02310), solve the chunk by Jacobi iteration: all tokens at once from a guess,
until none changes. That is `unisono.verify` with the rule ``Matching``, whose result is that of decoding one token
at a time, drawn or not; here the committed tokens are not computed again.

    decoding         proposes
    plain            nothing
    jacobi           what was drawn there last round; at first a guess: the middle bin everywhere (PD-VLA)
    gauss-seidel     the same, ``block`` tokens at a time
    ngram            what followed these tokens before, in the chunks of this episode
    shifted-chunk    jacobi, whose first guess is the rest of the previous plan, its last action repeated

Shapes: b batch, n tokens of a chunk, h tokens of the chunks before, v bins.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor
from unisono.verify import (
    Draw,
    Matching,
    Method,
    NGram,
    Nothing,
    Prefix,
    PreviousIterate,
    Proposal,
    Proposer,
    Round,
    Target,
    Verdict,
)

Decoding = Literal["plain", "jacobi", "gauss-seidel", "ngram", "shifted-chunk"]
BLOCK, NUM_DRAFT = 8, 8


def method_of(
    decoding: str,
    history: Int[Tensor, "b h"],
    guess: Int[Tensor, "b n"] | None,
    *,
    block: int | None = None,
    num_draft: int | None = None,
) -> tuple[Method, "Witness"]:
    """Return the method of a name, and what it will have witnessed.

    ``history`` are the tokens of the chunks before, ``guess`` the rest of the previous plan (None: there is none).
    """
    proposers: dict[str, Proposer] = {
        "plain": Nothing(),
        "jacobi": PreviousIterate(),
        "gauss-seidel": PreviousIterate(block or BLOCK),
        "ngram": InEpisode(NGram(num_draft or NUM_DRAFT), history),
        "shifted-chunk": PreviousIterate() if guess is None else ShiftedChunk(guess),
    }
    witness = Witness()
    return Method(decoding, proposers[decoding], witness), witness


@dataclass(frozen=True, eq=False)
class ShiftedChunk:
    """Propose a guess of the whole chunk, then what was drawn: Jacobi iteration that begins at the previous plan."""

    guess: Int[Tensor, "b n"]
    brings_law = False

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        if last is not None:
            return PreviousIterate()(prefix, last, target, draw)
        return Proposal.chain(self.guess[:, : int(prefix.room.max())], prefix.room)


@dataclass(frozen=True, eq=False)
class InEpisode:
    """Propose as another proposer does of a row in which the episode's earlier tokens stand before this chunk's."""

    proposer: Proposer
    history: Int[Tensor, "b h"]
    brings_law = False

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        given = int(prefix.start.min())  # all prompts are of one length: the observation's places
        before = torch.cat([prefix.tokens[:, given - 1 : given], self.history], 1)
        shift = before.shape[1] - given
        whole = torch.cat([before, prefix.tokens[:, given:]], 1)
        longer = replace(prefix, tokens=whole, length=prefix.length + shift, start=prefix.start + shift)
        return self.proposer(longer, last, target, draw)


@dataclass
class Witness:
    """The rule ``Matching``, which remembers what the network drew at each place in each round."""

    rule: Matching = field(default_factory=Matching)
    seen: list[tuple[Int[Tensor, " b"], Int[Tensor, "b n"]]] = field(default_factory=list)
    lossless = True

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Tensor, draw: Draw) -> Verdict:
        verdict = self.rule(prefix, proposal, logits, draw)
        assert verdict.drawn is not None  # Matching draws everywhere
        self.seen.append((prefix.length, verdict.drawn))
        return verdict

    def fixed(self, tokens: Int[Tensor, "b n"], given: int) -> Int[Tensor, "b n"]:
        """Return in which round, from 1, each token had its value for good; ``given`` places come before the chunk."""
        b, n = tokens.shape
        last_wrong = torch.zeros_like(tokens)
        place = torch.arange(n, device=tokens.device).expand(b, n)
        for number, (length, drawn) in enumerate(self.seen, 1):
            at = place - (length - given)[:, None]  # the draw of a place, counted from the end of the prefix
            known = (at >= 0) & (at < drawn.shape[1])
            here = drawn.gather(1, at.clamp(0, drawn.shape[1] - 1))
            right = (at < 0) | (known & (here == tokens))
            last_wrong = torch.where(right, last_wrong, number)
        return last_wrong + 1
