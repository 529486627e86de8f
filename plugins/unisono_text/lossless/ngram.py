"""Adaptive n-grams: look-ahead n-grams that stop where they rarely succeed (Ou et al., 2024, ANPD, arXiv:2404.08698).

A row's own tokens are indexed as they are committed: for every context of 1 to 4 tokens, what followed it. A draft
continues the row as its most recent contexts were continued before. It costs no evaluation, only the wider ones that
verify it.

What is added to the paper is the off-switch. Every token that a row reads is first predicted from the index, whether
or not a draft was made, and the share of hits is kept per context length. So the expected gain of a draft of length d,

    (1 + h_1 + h_1 h_2 + … + h_1 … h_d) / (1 + first + d · each),

is known before it is made, and the best d is drafted where it gains more than ``margin``; often none does. ``first``
and ``each`` say what verifying costs, in evaluations of a single token; of estimates that come out just above 1, most
were lucky. The index is looked at in microseconds, so that a text without repetition costs
what plain decoding does, and no evaluation is spent on finding out that it repeats again.

The counts are of one row's own tokens, and so is the choice of d: a row alone and in a batch draft the same.
"""

from dataclasses import dataclass, field

import torch
from unisono.errors import UnisonoError
from unisono.verify import Draw, Matching, Method, Prefix, Proposal, Round, Target

RATE = 0.1
"""How fast the share of hits follows: the last ten predictions count for two thirds."""
PRIOR = 0.15
"""What it is before the first prediction: too little for a draft, and enough after a few hits."""


@dataclass(frozen=True)
class AdaptiveNGram:
    """Propose what followed these tokens before, as many as pay for their verification.

    Args:
        num_draft: tokens of a draft at most.
        longest, shortest: tokens of an n-gram, the predicted one included; longer ones are believed first.
        first, each: what verifying a draft costs beside an evaluation of one token, in such evaluations: once, and
            per token of the draft.
        margin: what a draft must be expected to gain, at least 1. With costs of 0 and a margin of 1 all that is known
            is always drafted.

    Raises:
        UnisonoError: for an empty draft, n-grams of fewer than 2 tokens, costs below 0, or a margin below 1.
    """

    num_draft: int = 8
    longest: int = 5
    shortest: int = 2
    first: float = 0.1
    each: float = 0.1
    margin: float = 1.1
    brings_law = False

    def __post_init__(self):
        if self.num_draft < 1:
            raise UnisonoError(
                f"an empty draft: num_draft is {self.num_draft}, give at least 1",
                code="range",
                path="num_draft",
                value=self.num_draft,
            )
        if not 2 <= self.shortest <= self.longest:
            raise UnisonoError(
                f"n-grams of {self.shortest} to {self.longest} tokens: give 2 ≤ shortest ≤ longest, context included",
                code="range",
                path="shortest",
                value=self.shortest,
            )
        if not (self.first >= 0 and self.each >= 0):
            raise UnisonoError(
                f"a draft's costs first={self.first}, each={self.each}: at least 0",
                code="range",
                path="each" if self.first >= 0 else "first",
                value=self.each if self.first >= 0 else self.first,
            )
        if not self.margin >= 1:
            raise UnisonoError(
                f"margin={self.margin}: at least 1, where a draft is expected to cost what it brings",
                code="range",
                path="margin",
                value=self.margin,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        rows: list[RowIndex] | None = None if last is None else last.proposal.carry
        lengths, done = prefix.length.tolist(), prefix.done.tolist()
        if rows is None:
            rows = [RowIndex(self.longest, self.shortest) for _ in lengths]
        drafts: list[list[int]] = []
        for row, (index, length, ended) in enumerate(zip(rows, lengths, done, strict=True)):
            have = len(index.tokens)
            if have < length:
                index.read(prefix.tokens[row, have:length].tolist())
            room = 0 if ended else min(self.num_draft, prefix.limit - 1 - length)
            drafts.append(self._worth(index, room) if room > 0 else [])
        width = max(map(len, drafts), default=0)
        padded = [draft + [0] * (width - len(draft)) for draft in drafts]
        device = prefix.tokens.device
        tokens = torch.tensor(padded, dtype=torch.int64, device=device).reshape(len(drafts), width)
        count = torch.tensor([len(draft) for draft in drafts], dtype=torch.int64, device=device)
        return Proposal.chain(tokens, count, carry=rows)

    def _worth(self, index: "RowIndex", room: int) -> list[int]:
        """The draft whose expected tokens per cost are highest; empty if one token at a time is better."""
        draft, best, chain, expected, most = index.tail(), 0, 1.0, 1.0, self.margin
        start = len(draft)
        for d in range(1, room + 1):
            found = index.predict(draft)
            if found is None:
                break
            token, order = found
            chain *= index.hits[order]
            expected += chain
            draft.append(token)
            if expected / (1 + self.first + d * self.each) > most:
                most, best = expected / (1 + self.first + d * self.each), d
        return draft[start : start + best]


@dataclass
class RowIndex:
    """What followed each context of one row, and how often such a prediction was right."""

    longest: int
    shortest: int
    tokens: list[int] = field(default_factory=list)
    hits: dict[int, float] = field(default_factory=dict)
    follows: dict[tuple[int, ...], dict[int, int]] = field(default_factory=dict)
    likeliest: dict[tuple[int, ...], int] = field(default_factory=dict)

    def __post_init__(self):
        self.hits = {order: PRIOR for order in range(self.shortest, self.longest + 1)}

    def tail(self) -> list[int]:
        """The tokens that predict the next one."""
        return self.tokens[-(self.longest - 1) :]

    def read(self, tokens: list[int]) -> None:
        """Take tokens in: each is predicted first, then counted."""
        for token in tokens:
            found = self.predict(self.tail())
            if found is not None:
                guess, order = found
                self.hits[order] += RATE * ((guess == token) - self.hits[order])
            for order in range(self.shortest, min(self.longest, len(self.tokens) + 1) + 1):
                context = tuple(self.tokens[len(self.tokens) + 1 - order :])
                counts = self.follows.setdefault(context, {})
                counts[token] = counts.get(token, 0) + 1
                best = self.likeliest.get(context)
                if best is None or counts[token] >= counts[best]:  # of equals the latest
                    self.likeliest[context] = token
            self.tokens.append(token)

    def predict(self, tail: list[int]) -> tuple[int, int] | None:
        """The next token and the length of the n-gram that says so, or None."""
        for order in range(min(self.longest, len(tail) + 1), self.shortest - 1, -1):
            token = self.likeliest.get(tuple(tail[len(tail) + 1 - order :]))
            if token is not None:
                return token, order
        return None


def adaptive_ngram(
    num_draft: int = 8,
    longest: int = 5,
    shortest: int = 2,
    first: float = 0.1,
    each: float = 0.1,
    margin: float = 1.1,
) -> Method:
    """N-grams with the off-switch: lossless token by token, see `AdaptiveNGram`."""
    return Method("adaptive n-gram", AdaptiveNGram(num_draft, longest, shortest, first, each, margin), Matching())


__all__ = ["AdaptiveNGram", "RowIndex", "adaptive_ngram"]
