"""Prefix: the committed tokens, a proposal for what follows, and a verdict on it.

    prefix     x_1 … x_c                    committed; c differs from row to row
    proposal   nodes 0 … n − 1 after it     a chain, or a tree, where the children of a node are alternatives

Node i is at position c + depth_i, counted from 0; a node without a parent (parent −1) has depth 0. The target is
evaluated on x_c and all nodes at once and gives n + 1 rows of logits: row 0 predicts position c, row i + 1 the
position after node i.

Letters: b batch, l room of the prefix, n nodes, d nodes along a path, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError


@dataclass(frozen=True, eq=False)
class Prefix:
    """The committed tokens of each row; 0 after its `length`.

    A row is done when it has `limit` tokens or its `end` token. `start` is the length of its prompt.
    """

    tokens: Int[Tensor, "b l"]
    length: Int[Tensor, " b"]
    start: Int[Tensor, " b"]
    seed: Int[Tensor, " b"]
    done: Bool[Tensor, " b"]
    end: int | None = None

    @classmethod
    def of(
        cls,
        prompt: Int[Tensor, "b n"],
        limit: int,
        seeds: Int[Tensor, " b"] | Sequence[int],
        lengths: Int[Tensor, " b"] | None = None,
        end: int | None = None,
    ) -> Prefix:
        """Make a prefix of a padded batch of prompts, each of at least one token (a start token).

        Raises:
            UnisonoError: for a prompt that is empty, longer than `limit` or holds a negative token, or if
                lengths or seeds are not one per row.
        """
        if not is_whole(limit, 0):
            raise UnisonoError(
                f"max_length {limit!r}: give a whole number of tokens",
                code=fault_of(limit, whole=True),
                path="max_length",
                value=limit,
            )
        if not isinstance(prompt, Tensor) or prompt.dim() != 2 or prompt.is_floating_point():
            shape = tuple(prompt.shape) if isinstance(prompt, Tensor) else type(prompt).__name__
            raise UnisonoError(
                f"a prompt of {shape}: give token ids as an integer tensor [rows, tokens]",
                code="type" if not isinstance(prompt, Tensor) or prompt.is_floating_point() else "shape",
                path="prompt",
                value=shape,
            )
        b, n = prompt.shape
        seed = torch.as_tensor(seeds, dtype=torch.int64, device=prompt.device)
        length = torch.full_like(seed, n) if lengths is None else lengths.to(seed)
        for name, x in (("seeds", seed), ("lengths", length)):
            if x.shape != (b,):
                raise UnisonoError(
                    f"{name} of shape {tuple(x.shape)} for {b} prompts: give one per row",
                    code="shape",
                    path=name,
                    value=tuple(x.shape),
                )
        if b and int(length.min()) < 1:
            raise UnisonoError(
                "an empty prompt: give at least a start token, which the first prediction is made from",
                code="empty",
                path="prompt",
                value=int(length.min()),
            )
        if b and int(length.max()) > n:
            raise UnisonoError(
                f"a prompt of {int(length.max())} tokens in a batch of {n} columns",
                code="range",
                path="lengths",
                value=int(length.max()),
            )
        if b and int(length.max()) > limit:
            raise UnisonoError(
                f"a prompt of {int(length.max())} tokens, but max_length is {limit}: shorten it, or raise max_length",
                code="limit",
                path="max_length",
                value=limit,
            )
        inside = torch.arange(n, device=prompt.device) < length[:, None]
        if bool((inside & (prompt < 0)).any()):
            raise UnisonoError(
                f"token {int(prompt[inside].min())} in a prompt: tokens are numbered from 0",
                code="range",
                path="prompt",
                value=int(prompt[inside].min()),
            )
        tokens = prompt.new_zeros(b, max(limit, n), dtype=torch.int64)
        tokens[:, :n] = torch.where(inside, prompt, 0)
        return cls(tokens[:, :limit], length, length, seed, length >= limit, end)

    @property
    def limit(self) -> int:
        return self.tokens.shape[1]

    @property
    def room(self) -> Int[Tensor, " b"]:
        """How many tokens may be proposed for a row, besides the target's own token; 0 for rows that are done."""
        return (self.limit - 1 - self.length).clamp_min(0).masked_fill(self.done, 0)

    @property
    def last(self) -> Int[Tensor, " b"]:
        """The last committed token."""
        return self.tokens.gather(1, self.length[:, None] - 1)[:, 0]

    def commit(self, tokens: Int[Tensor, "b d"], count: Int[Tensor, " b"]) -> Prefix:
        """Append the first `count` tokens of each row, up to its limit or its first `end` token."""
        d = tokens.shape[1]
        count = torch.minimum(count, self.limit - self.length).masked_fill(self.done, 0)
        done = self.done
        if self.end is not None:
            ends = (tokens == self.end) & (torch.arange(d, device=tokens.device) < count[:, None])
            first = ends.int().argmax(1)
            count = torch.where(ends.any(1), first + 1, count)
            done = done | ends.any(1)
        offset = torch.arange(self.limit, device=tokens.device) - self.length[:, None]
        fresh = (offset >= 0) & (offset < count[:, None])
        if d:
            written = torch.where(fresh, tokens.gather(1, offset.clamp(0, d - 1)), self.tokens)
        else:
            written = self.tokens
        length = self.length + count
        return replace(self, tokens=written, length=length, done=done | (length >= self.limit))

    def extended(self, token: Int[Tensor, "b 1"]) -> Prefix:
        """Append one token to each row, none of which is done: what `commit` does, in a third of the operations."""
        length = self.length + 1
        done = length >= self.limit
        if self.end is not None:
            done = done | (token[:, 0] == self.end)
        written = self.tokens.scatter(1, self.length[:, None], token)
        return Prefix(written, length, self.start, self.seed, done, self.end)


@dataclass(frozen=True, eq=False)
class Proposal:
    """Tokens that may follow a prefix.

    Attributes:
        tokens: one per node.
        real: False for nodes that are padding and cannot be committed.
        parent: each node's parent, −1 for none; None for a chain.
        law: the distribution from which each token was drawn, where the proposer gives it.
        vocab_size: of the proposer's network, where it has one.
        carry: data that the proposer gets back in the next round.
        nfe, positions: evaluations of the proposer's network in this round, and the tokens computed in them.
    """

    tokens: Int[Tensor, "b n"]
    real: Bool[Tensor, "b n"]
    parent: Int[Tensor, " n"] | None = None
    law: Float[Tensor, "b n v"] | None = None
    vocab_size: int | None = None
    carry: Any = None
    nfe: int = 0
    positions: int = 0

    @classmethod
    def chain(cls, tokens: Int[Tensor, "b n"], count: Int[Tensor, " b"], **more: Any) -> Proposal:
        """Make a chain, of which each row has the first `count` nodes."""
        real = torch.arange(tokens.shape[1], device=tokens.device) < count[:, None]
        return cls(tokens.masked_fill(~real, 0), real, **more)

    @cached_property
    def depth(self) -> Int[Tensor, " n"]:
        """The number of nodes between each node and the prefix."""
        if self.parent is None:
            return torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return self.ancestors.sum(1) - 1

    @cached_property
    def ancestors(self) -> Bool[Tensor, "n n"]:
        """[i, j]: node j is node i or one of its ancestors."""
        n, device = self.tokens.shape[1], self.tokens.device
        if self.parent is None:
            return torch.ones(n, n, dtype=torch.bool, device=device).tril()
        seen = torch.eye(n, dtype=torch.bool, device=device)
        for node, parent in enumerate(self.parent.tolist()):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


@dataclass(frozen=True, eq=False)
class Verdict:
    """The decision of a rule: commit the first `accepted` nodes of `path`, then the target's own `token`.

    `drawn` holds the target's draws after the root and after each node, of rules that make them.
    """

    path: Int[Tensor, "b d"]
    accepted: Int[Tensor, " b"]
    token: Int[Tensor, " b"]
    drawn: Int[Tensor, "b n+1"] | None = None


@dataclass(frozen=True, eq=False)
class Round:
    """The last round, for proposers that use it. `logits` are as the target returned them, with extra heads."""

    proposal: Proposal
    logits: Tensor
    verdict: Verdict

    @property
    def leaf(self) -> Int[Tensor, " b"]:
        """The row of `logits` from which the target's own token of this round was drawn."""
        path, accepted = self.verdict.path, self.verdict.accepted
        if not path.shape[1]:
            return torch.zeros_like(accepted)
        last = path.gather(1, (accepted[:, None] - 1).clamp_min(0))[:, 0]
        return torch.where(accepted > 0, last + 1, 0)
