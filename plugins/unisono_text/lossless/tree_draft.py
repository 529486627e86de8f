"""Tree draft: a draft network that reads trees of its own, another for each row, with keys and values kept.

::

    cache of a row      prefix ……………… | nodes that were expanded, in the order in which they were
    a new node sees     all of it       | its ancestors

A round begins with the prefix (`begin`), expands nodes (`expand`) and forgets them (`end`).

Letters: b batch, f new nodes, s nodes read before, m slots, v vocabulary. Masks: True = keep.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.errors import UnisonoError
from unisono.verify import KVCache, Network, Prefix, Proposal, Target, first_head

from unisono_text.lossless.best_first import ROOT, Row


class TreeKeys(KVCache):
    """A cache of which the part behind `start` is a tree: a new node sees there what `sees` says; None: no tree."""

    start: Int[Tensor, " b"]
    sees: Bool[Tensor, "b f s"] | None = None

    def mask(self, visible: Bool[Tensor, "b f f"]) -> Bool[Tensor, "b f m"]:
        seen = super().mask(visible)
        if self.sees is None:
            return seen
        b, f, s = self.sees.shape
        slots = self.start[:, None] + torch.arange(s, device=seen.device)
        return seen.scatter(2, slots[:, None].expand(b, f, s), self.sees)

    def sees_all(self, count: int) -> bool:
        return self.sees is None and super().sees_all(count)


class TreeDraft:
    """The draft of one call of ``decode``, with its bill in `target`."""

    def __init__(self, network: Network, prefix: Prefix):
        self.keys = TreeKeys(len(prefix.length), prefix.tokens.device)
        self.target = Target(network, lambda rows: self.keys, len(prefix.length))
        self.trails: list[dict[int, list[int]]] = []
        self.read = 0

    def begin(self, prefix: Prefix) -> Float[Tensor, "b 1 v"]:
        """Read what was committed, and return the logits behind it."""
        self.keys.start, self.trails, self.read = prefix.length, [{ROOT: []} for _ in prefix.length], 0
        empty = prefix.tokens[:, :0]
        return first_head(self.target(prefix, Proposal(empty, empty.bool())))

    def expand(self, prefix: Prefix, rows: list[Row], chosen: list[list[int]]) -> Float[Tensor, "b f v"]:
        """Read nodes of each row, of which the parents were read before, and return the logits behind each.

        Raises:
            UnisonoError: for logits that are NaN or +inf.
        """
        device, width = prefix.tokens.device, max(map(len, chosen))
        shape = len(rows), width
        tokens, depths = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        sees = torch.zeros(*shape, self.read, dtype=torch.bool)
        for number, (row, nodes, trail) in enumerate(zip(rows, chosen, self.trails, strict=True)):
            for column, node in enumerate(nodes):
                above = trail[row.parents[node]]
                tokens[number, column], depths[number, column] = row.tokens[node], row.depths[node]
                sees[number, column, above] = True
                trail[node] = [*above, self.read + column]
        self.keys.sees = sees.to(device) if self.read else None
        positions = (prefix.length[:, None] + depths.to(device)).clamp_max(prefix.limit - 1)
        itself = torch.eye(width, dtype=torch.bool, device=device).expand(len(rows), width, width)
        logits = first_head(self.target.read(tokens.to(device), positions, itself))
        self.read, self.keys.sees = self.read + width, None
        worst = logits.amax(-1)
        for number, nodes in enumerate(chosen):
            if nodes and not bool((worst[number, : len(nodes)] < torch.inf).all()):
                raise UnisonoError(
                    f"the draft's logits are NaN or +inf in row {number}: check its weights",
                    code="value",
                    path="logits",
                    value=number,
                )
        return logits

    def end(self, prefix: Prefix) -> None:
        """Forget the tree."""
        self.keys.truncate(prefix.length)
