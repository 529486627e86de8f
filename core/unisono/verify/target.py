"""Target: the autoregressive network, with counted evaluations and an optional cache.

A network is any callable

    (tokens [b, n], positions [b, n], visible [b, n, n], cache | None) -> logits [b, n, v]

Row i of the logits predicts the token after token i. Token i sees all entries of its row in the cache, and the new
tokens j with ``visible[:, i, j]``. Networks with extra heads return [b, n, 1 + heads, v], where head j predicts one
token further than head j − 1. `Causal` wraps a network that takes tokens only.

Each evaluation first truncates the cache of every row to one entry less than its prefix. The entries after that were
refused, or belong to the last committed token, whose logits are needed again.

Letters: b batch, n nodes, w columns of an evaluation, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.verify.cache import Cache
from unisono.verify.prefix import Prefix, Proposal, Verdict


class Network(Protocol):
    """Predicts the next token from tokens, their positions, and what each of them sees."""

    def __call__(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: Cache | None,
    ) -> Float[Tensor, "b n v"]: ...


class Causal:
    """A network that takes tokens only, each of which sees those before it; without a cache, and for chains only.

    Raises:
        UnisonoError: when called with a cache, or with a proposal that branches.
    """

    def __init__(self, network: Callable[[Tensor], Tensor]):
        self.network = network

    def __call__(self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: Cache | None) -> Tensor:
        if cache is not None:
            raise UnisonoError(
                "this network takes tokens only, so that it cannot use a cache: leave cache out",
                code="unsupported",
                path="cache",
            )
        causal = torch.ones_like(visible[0]).tril()
        if not bool(((visible == causal).all(2) | (visible.sum(2) == 1)).all()):  # padding sees only itself
            raise UnisonoError(
                "this network takes tokens only, so that it cannot read a tree: propose a chain",
                code="unsupported",
                path="proposal",
            )
        return self.network(tokens)


class Target:
    """A network with its cache; counts `nfe` batched evaluations and the `positions` computed in them over all rows.

    `cache` makes an empty cache for a number of rows; without it, every evaluation reads the whole prefix.
    """

    def __init__(self, network: Network, cache: Callable[[int], Cache] | None = None, num_rows: int = 0):
        self.network = network
        self.cache = None if cache is None else cache(num_rows)
        self.nfe = 0
        self.positions = 0
        self._itself: Tensor | None = None
        self._entries: list[int] | None = None  # of each row in the cache when its length was `_known`
        self._known: Tensor | None = None
        if self.cache is not None and (len(self.cache.length) != num_rows or bool(self.cache.length.any())):
            raise UnisonoError(
                "cache returned one that is in use: give a function that makes an empty one each time",
                code="state",
                path="cache",
            )

    def __call__(self, prefix: Prefix, proposal: Proposal) -> Float[Tensor, "b n+1 ..."]:
        """Return the logits after the prefix and after each node: [b, n + 1, v], or [b, n + 1, 1 + heads, v].

        Raises:
            UnisonoError: if the network returns another shape, whole numbers, NaN or +inf.
        """
        b, n = proposal.tokens.shape
        device = prefix.tokens.device
        lengths = prefix.length.tolist()
        if self.cache is None:
            held, entries = torch.zeros_like(prefix.length), [0] * b
        else:
            entries = self._entries if self.cache.length is self._known else None  # else somebody shortened it
            if entries is None or any(entry >= length for entry, length in zip(entries, lengths, strict=True)):
                self.cache.truncate(prefix.length - 1)
                entries = self.cache.length.tolist()
            held = self.cache.length
        waiting = {length - entry for entry, length in zip(entries, lengths, strict=True)}
        if proposal.parent is None and len(waiting) == 1:
            logits = self._chain(prefix, proposal, held, waiting.pop())
            if not n and self.cache is not None:
                self._entries, self._known = lengths, self.cache.length
            return logits
        pending = prefix.length - held
        # Columns that are padding in every row are left out; a tree keeps all nodes, since `select` needs their places.
        nodes = proposal.real.sum(1) if proposal.parent is None else n
        width = int((pending + nodes).max()) if b else 0
        column = torch.arange(width, device=device).expand(b, width)
        node = column - pending[:, None]  # negative: the prefix; n and more: padding
        is_node = (node >= 0) & (node < n)
        slot = held[:, None] + column
        tokens = prefix.tokens.gather(1, slot.clamp_max(prefix.limit - 1))
        positions = slot
        # Every column sees itself, padding as well: attention over no key is NaN.
        visible = (node[:, :, None] < 0) & (column[:, None] <= column[:, :, None])
        visible = visible | torch.eye(width, dtype=torch.bool, device=device)
        if n:
            at = node.clamp(0, n - 1)
            tokens = torch.where(is_node, proposal.tokens.gather(1, at), tokens)
            positions = torch.where(is_node, prefix.length[:, None] + proposal.depth[at], positions)
            relatives = proposal.ancestors[at[:, :, None], at[:, None, :]]
            visible = visible | (is_node[:, :, None] & ((node[:, None] < 0) | (is_node[:, None] & relatives)))
        tokens = torch.where(node < n, tokens, 0)
        # Only padding and nodes that are not real are beyond the limit; the network may have no such position.
        positions = positions.clamp_max(prefix.limit - 1)
        logits = self.read(tokens, positions, visible)
        if self.cache is not None:
            self.cache.truncate(prefix.length + n)
        wanted = ((pending - 1)[:, None] + torch.arange(n + 1, device=device)).clamp_max(width - 1)
        logits = logits[torch.arange(b, device=device)[:, None], wanted]
        self._look(logits, prefix, proposal)
        return logits

    def _chain(self, prefix: Prefix, proposal: Proposal, held: Tensor, pending: int) -> Tensor:
        """Evaluate a chain where every row has as many tokens to read before it, which all rounds but the first have.

        A row's shorter chain ends in padding, which nothing before it sees: the mask is the same for all rows.
        """
        (b, n), device = proposal.tokens.shape, prefix.tokens.device
        nodes = int(proposal.real.sum(1).max()) if n else 0
        width = pending + nodes
        if width == 1:  # every round of plain decoding but the first
            positions = held[:, None]
            if self._itself is None or len(self._itself) != b:
                self._itself = torch.ones(b, 1, 1, dtype=torch.bool, device=device)
            logits = self.read(prefix.tokens.gather(1, positions), positions, self._itself)
        else:
            positions = held[:, None] + torch.arange(width, device=device)
            tokens = torch.cat([prefix.tokens.gather(1, positions[:, :pending]), proposal.tokens[:, :nodes]], 1)
            # Only padding is beyond the limit; the network may have no such position.
            positions = positions.clamp_max(prefix.limit - 1)
            visible = torch.ones(width, width, dtype=torch.bool, device=device).tril().expand(b, width, width)
            logits = self.read(tokens, positions, visible)[:, pending - 1 :]
        if nodes < n:
            logits = torch.cat([logits, logits[:, -1:].expand(-1, n - nodes, *logits.shape[2:])], 1)
        self._look(logits, prefix, proposal)
        return logits

    def read(
        self, tokens: Int[Tensor, "b w"], positions: Int[Tensor, "b w"], visible: Bool[Tensor, "b w w"]
    ) -> Float[Tensor, "b w ..."]:
        """Evaluate the network on columns as they are, count it, and have the cache keep them all.

        For proposers that grow a tree of their own; who calls it shortens the cache again.

        Raises:
            UnisonoError: for tokens or positions that the network does not know, or logits of a wrong shape or type.
        """
        b, width = tokens.shape
        self._entries = None
        try:
            logits = self.network(tokens, positions, visible, self.cache)
        except IndexError as error:
            raise UnisonoError(
                f"the network cannot read tokens up to {int(tokens.max())} at positions up to {int(positions.max())}: "
                f"{error}; is the prompt or the draft of another vocabulary, or max_length beyond its positions?",
                code="range",
                path="tokens",
                value=int(tokens.max()),
            ) from error
        self.nfe += 1
        self.positions += b * width
        self._check(logits, b, width)
        if self.cache is not None:
            self.cache.advance(width)
        return logits

    def _look(self, logits: Tensor, prefix: Prefix, proposal: Proposal) -> None:
        """Raise where logits that are used are NaN or +inf."""
        # One cheap pass for the usual case: a sum is finite only if all terms are. (−inf itself is allowed.)
        if math.isfinite(logits.sum().item()):
            return
        values = logits.flatten(2)
        read = torch.cat([~prefix.done[:, None], proposal.real], 1)
        wrong = (values.isnan() | (values == torch.inf)).any(-1) & read
        if bool(wrong.any()):
            row, at = wrong.nonzero()[0].tolist()
            raise UnisonoError(
                f"the network's logits are NaN or +inf in row {row}, after token "
                f"{int(prefix.length[row]) + (0 if at == 0 else int(proposal.depth[at - 1]) + 1)}: "
                "check its weights and its input",
                code="value",
                path="logits",
                value=row,
            )

    def keep(self, prefix: Prefix, proposal: Proposal, verdict: Verdict) -> None:
        """Move the cache entries of a tree's accepted path to directly after `prefix`."""
        if self.cache is None or proposal.parent is None or not verdict.path.shape[1]:
            return
        self.cache.select(prefix.length, verdict.path)

    def _check(self, logits: Tensor, b: int, width: int) -> None:
        if logits.dim() not in (3, 4) or logits.shape[:2] != (b, width):
            raise UnisonoError(
                f"the network returned logits of shape {tuple(logits.shape)}: ({b}, {width}, vocabulary) "
                "or, with extra heads, (rows, tokens, 1 + heads, vocabulary) was asked for",
                code="shape",
                path="logits",
                value=tuple(logits.shape),
            )
        if not logits.dtype.is_floating_point:
            raise UnisonoError(
                f"the network returned logits of type {logits.dtype}: give real numbers",
                code="type",
                path="logits",
                value=logits.dtype,
            )
