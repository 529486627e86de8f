"""Decoding: propose, verify, commit a prefix, until the text ends.

    while a row has room:
        proposal = propose(prefix)              cheap guesses of what follows
        logits   = target(prefix, proposal)     ONE evaluation, for the prefix's end and every node
        verdict  = accept(proposal, logits)     how many hold, and the target's own next token
        prefix   = prefix + accepted + token    at least one token per round

Rows go at their own pace: what a row commits depends on its prompt and its seed only. A cache forgets what
was refused. See the package's docstring for the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.verify.accept import Rejection, Rule
from unisono.verify.cache import Cache
from unisono.verify.draw import Draw
from unisono.verify.prefix import Prefix, Round
from unisono.verify.propose import Proposer
from unisono.verify.target import Network, Target


@dataclass(frozen=True)
class Method:
    """A proposer and a rule. `lossless`: the result follows the target's law, whatever is proposed.

    Raises:
        UnisonoError: for rejection without a draft's law, which is what it divides by.
    """

    name: str
    propose: Proposer
    accept: Rule

    def __post_init__(self):
        if isinstance(self.accept, Rejection) and not self.propose.brings_law:
            raise UnisonoError(
                f"{self.name}: rejection needs a draft's law, which {type(self.propose).__name__} has not; use Matching"
            )

    @property
    def lossless(self) -> bool:
        return self.accept.lossless


@dataclass(frozen=True, eq=False)
class Verified:
    """What came out, and the bill.

    `tokens` are 0 behind a row's `length`, prompt and end token included. `nfe` and `positions` are the
    target's evaluations and the tokens computed in them over all rows; `draft_…` the proposer's. `rounds`,
    `proposed` and `accepted` are counted per row.
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
    """Continue every prompt to `max_length` tokens, prompt included, or to its first `end` token.

    `temperature` 0 is greedy; above 0 every row needs a seed. `cache` makes an empty cache for a number of
    rows; `on_step` is called with the prefix after every round.

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
    """As `decode`, one round at a time: yields the prefix after each, and returns what `decode` returns."""
    if seeds is None:
        if temperature > 0:
            raise UnisonoError(f"sampling at temperature {temperature} without seeds: give one per row")
        seeds = [0] * len(prompt)
    draw = Draw(temperature, warp)
    prefix = Prefix.of(prompt, max_length, seeds, lengths, end)
    target = Target(network, cache, len(prompt))
    rounds, proposed, accepted = (torch.zeros_like(prefix.length) for _ in range(3))
    draft_nfe = draft_positions = 0
    last: Round | None = None
    while not bool(prefix.done.all()):
        proposal = method.propose(prefix, last, target, draw)
        draft_nfe, draft_positions = draft_nfe + proposal.nfe, draft_positions + proposal.positions
        raw = target(prefix, proposal)
        logits = raw if raw.dim() == 3 else raw[:, :, 0]
        if proposal.vocab_size not in (None, logits.shape[-1]):
            raise UnisonoError(
                f"the draft has a vocabulary of {proposal.vocab_size}, the target of {logits.shape[-1]}: "
                "they must share one"
            )
        verdict = method.accept(prefix, proposal, logits, draw)
        target.keep(prefix, proposal, verdict)
        rounds = rounds + ~prefix.done
        proposed = proposed + proposal.real.sum(1)
        on_path = verdict.path[:, : proposal.tokens.shape[1]]
        tokens = torch.cat([proposal.tokens.gather(1, on_path), torch.zeros_like(verdict.token)[:, None]], 1)
        tokens = tokens.scatter(1, verdict.accepted[:, None], verdict.token[:, None])
        before, prefix = prefix, prefix.commit(tokens, verdict.accepted + 1)
        accepted = accepted + torch.minimum(verdict.accepted, prefix.length - before.length)
        last = Round(replace(proposal, law=None), raw, verdict)
        yield prefix
    return Verified(
        prefix.tokens, prefix.length, target.nfe, target.positions, draft_nfe, draft_positions,
        rounds, proposed, accepted, method.lossless,
    )  # fmt: skip
