"""Decoding: propose, verify and commit a prefix, until every row has ended.

    while a row has room:
        proposal = propose(prefix)              guesses of the next tokens
        logits   = target(prefix, proposal)     ONE evaluation, for the prefix's end and every node
        verdict  = accept(proposal, logits)     the number of accepted tokens, and the target's own next token
        prefix   = prefix + accepted + token    at least one token per round

The tokens of a row depend only on its prompt and its seed, not on the other rows. A cache drops the entries of
refused tokens. The methods are in methods.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.stopping import may_stop
from unisono.verify.accept import Rejection, Rule
from unisono.verify.cache import Cache
from unisono.verify.draw import Draw
from unisono.verify.prefix import Prefix, Round
from unisono.verify.propose import Proposer
from unisono.verify.target import Network, Target


@dataclass(frozen=True)
class Method:
    """A proposer and a rule. `lossless`: the result follows the target's distribution, whatever is proposed.

    Raises:
        UnisonoError: for `Rejection` with a proposer that gives no distributions.
    """

    name: str
    propose: Proposer
    accept: Rule

    def __post_init__(self):
        if isinstance(self.accept, Rejection) and not self.propose.brings_law:
            raise UnisonoError(
                f"{self.name}: rejection needs a draft's law, which {type(self.propose).__name__} has not; "
                "use Matching",
                code="conflict",
                path="accept",
                value=type(self.propose).__name__,
            )

    @property
    def lossless(self) -> bool:
        return self.accept.lossless


@dataclass(frozen=True, eq=False)
class Verified:
    """The decoded tokens, and what they cost.

    Attributes:
        tokens: 0 after a row's `length`.
        length: tokens of each row, with its prompt and end token.
        nfe, positions: evaluations of the target, and the tokens computed in them over all rows.
        draft_nfe, draft_positions: the same of the proposer's network.
        rounds, proposed, accepted: counted per row.
        lossless: whether the method is.
    """

    tokens: Int[Tensor, "b l"]
    length: Int[Tensor, " b"]
    nfe: int
    positions: int
    draft_nfe: int
    draft_positions: int
    rounds: Int[Tensor, " b"]
    proposed: Int[Tensor, " b"]
    accepted: Int[Tensor, " b"]
    lossless: bool


def decode(
    network: Network,
    prompt: Int[Tensor, "b n"],
    method: Method,
    max_length: int,
    *,
    seeds: Int[Tensor, " b"] | Sequence[int] | None = None,
    lengths: Int[Tensor, " b"] | None = None,
    temperature: float = 0.0,
    warp: Callable[[Tensor], Tensor] | None = None,
    end: int | None = None,
    cache: Callable[[int], Cache] | None = None,
    on_step: Callable[[Prefix], None] | None = None,
) -> Verified:
    """Continue each prompt to `max_length` tokens, with the prompt, or to its first `end` token.

    Args:
        temperature: 0 is greedy; above 0, every row needs a seed.
        cache: makes an empty cache for a number of rows; without it, each evaluation reads the whole prefix.
        on_step: called with the prefix after every round.

    Raises:
        UnisonoError: for a prompt that is empty or longer than `max_length`, a missing seed, logits of a
            wrong shape or not finite, or a draft whose vocabulary is not the target's.
    """
    going = rounds(
        network, prompt, method, max_length,
        seeds=seeds, lengths=lengths, temperature=temperature, warp=warp, end=end, cache=cache,
    )  # fmt: skip
    while True:
        try:
            prefix = next(going)
        except StopIteration as done:
            return done.value
        if on_step is not None:
            on_step(prefix)


@torch.no_grad()
def rounds(
    network: Network,
    prompt: Int[Tensor, "b n"],
    method: Method,
    max_length: int,
    *,
    seeds: Int[Tensor, " b"] | Sequence[int] | None = None,
    lengths: Int[Tensor, " b"] | None = None,
    temperature: float = 0.0,
    warp: Callable[[Tensor], Tensor] | None = None,
    end: int | None = None,
    cache: Callable[[int], Cache] | None = None,
) -> Generator[Prefix, None, Verified]:
    """Decode round by round: yield the prefix after each round, and return what `decode` returns."""
    if seeds is None:
        if temperature > 0:
            raise UnisonoError(
                f"sampling at temperature {temperature} without seeds: give one per row", code="missing", path="seeds"
            )
        seeds = [0] * len(prompt)
    draw = Draw(temperature, warp)
    prefix = Prefix.of(prompt, max_length, seeds, lengths, end)
    target = Target(network, cache, len(prompt))
    proposed, accepted = (torch.zeros_like(prefix.length) for _ in range(2))
    rounds = [0] * len(prompt)
    draft_nfe = draft_positions = 0
    last: Round | None = None
    # With nothing proposed, all that is done here is weighed against one evaluation: each operation counts.
    while not all(ended := prefix.done.tolist()):
        may_stop()
        proposal = method.propose(prefix, last, target, draw)
        draft_nfe, draft_positions = draft_nfe + proposal.nfe, draft_positions + proposal.positions
        raw = target(prefix, proposal)
        logits = raw if raw.dim() == 3 else raw[:, :, 0]
        if proposal.vocab_size not in (None, logits.shape[-1]):
            raise UnisonoError(
                f"the draft has a vocabulary of {proposal.vocab_size}, the target of {logits.shape[-1]}: "
                "they must share one",
                code="conflict",
                path="vocab_size",
                value=proposal.vocab_size,
            )
        verdict = method.accept(prefix, proposal, logits, draw)
        target.keep(prefix, proposal, verdict)
        rounds = [count + (not over) for count, over in zip(rounds, ended, strict=True)]
        token = verdict.token[:, None]
        if n := proposal.tokens.shape[1]:
            on_path = verdict.path[:, :n]
            tokens = torch.cat([proposal.tokens.gather(1, on_path), torch.zeros_like(token)], 1)
            tokens = tokens.scatter(1, verdict.accepted[:, None], token)
            before, prefix = prefix, prefix.commit(tokens, verdict.accepted + 1)
            proposed = proposed + proposal.real.sum(1)
            accepted = accepted + torch.minimum(verdict.accepted, prefix.length - before.length)
        elif any(ended):
            prefix = prefix.commit(token, torch.ones_like(prefix.length))
        else:
            prefix = prefix.extended(token)
        last = Round(proposal if proposal.law is None else replace(proposal, law=None), raw, verdict)
        yield prefix
    return Verified(
        prefix.tokens, prefix.length, target.nfe, target.positions, draft_nfe, draft_positions,
        prefix.length.new_tensor(rounds), proposed, accepted, method.lossless,
    )  # fmt: skip
