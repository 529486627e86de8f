"""Best-first trees: one row's tree while it grows, and the trees of all rows laid over each other (for SpecExec).

A node's score is its parent's plus the logarithm of its probability and of the decay, so that no child scores more
than its parent: the best nodes of all that are known always are a tree.

Letters: b batch, n nodes. Masks: True = keep.
"""

import math
from bisect import insort
from itertools import islice

import torch
from jaxtyping import Bool, Int
from torch import Tensor

ROOT = -1
"""The number of what stands before the tree."""


class Row:
    """The tree of one row: its `budget` best nodes are kept, the others are known and may still be displaced.

    Args:
        budget: nodes that are kept at most.
        levels: of the tree at most; with none, nothing is added.
        decay: factor of a node's probability for each level, in (0, 1].
        end: the token behind which nothing is said, if there is one.
    """

    def __init__(self, budget: int, levels: int, decay: float = 1.0, end: int | None = None):
        self.budget, self.levels, self.log_decay, self.end = budget, levels, math.log(decay), end
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.scores: list[float] = []
        self.depths: list[int] = []
        self.expanded: set[int] = set()
        self.best: list[tuple[float, int]] = []  # (−score, node), the best first and of equals the older

    def depth(self, node: int) -> int:
        """Return how many nodes are between a node and the root; −1 for the root."""
        return ROOT if node == ROOT else self.depths[node]

    @property
    def least(self) -> float:
        """The score that a node must exceed to be kept."""
        return -self.best[-1][0] if len(self.best) == self.budget else -math.inf

    def open(self, count: int) -> list[int]:
        """Return up to `count` of the best nodes that were not expanded and could have a child among the best."""
        may = (
            node
            for _, node in self.best
            if node not in self.expanded
            and self.depths[node] + 1 < self.levels
            and self.tokens[node] != self.end
            and self.scores[node] + self.log_decay > self.least
        )
        return list(islice(may, count))

    def add(self, parent: int, tokens: list[int], log_probs: list[float]) -> None:
        """Take the children of a node, the likeliest first; those that cannot be among the best are left out."""
        self.expanded.add(parent)
        if not self.levels:
            return
        base = 0.0 if parent == ROOT else self.scores[parent]
        for token, log_prob in zip(tokens, log_probs, strict=True):
            score = base + self.log_decay + log_prob
            if not score > self.least:  # such as a token of probability 0
                return
            insort(self.best, (-score, len(self.tokens)))
            del self.best[self.budget :]
            self.tokens.append(token)
            self.parents.append(parent)
            self.scores.append(score)
            self.depths.append(self.depth(parent) + 1)

    def children(self) -> dict[int, list[int]]:
        """Return the kept children of each kept node and of the root, those of the larger subtrees first."""
        kept = sorted(node for _, node in self.best)  # parents are older than their children
        size = dict.fromkeys(kept, 1)
        for node in reversed(kept):
            if self.parents[node] != ROOT:
                size[self.parents[node]] += size[node]
        children: dict[int, list[int]] = {ROOT: []}
        for node in sorted(kept, key=lambda node: (-size[node], node)):
            children.setdefault(self.parents[node], []).append(node)
        return children


def overlaid(
    rows: list[Row], device: torch.device | None = None
) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"], Int[Tensor, " n"]]:
    """Lay the rows' trees over each other: tokens, which nodes a row has, and the parents, which all rows share.

    The first child of a node in one row takes the place of the first child there in another, and so on. A row alone
    keeps its own tree.
    """
    parents: list[int] = []
    places: dict[tuple[int, int], int] = {}
    held: list[tuple[int, int, int]] = []
    for number, row in enumerate(rows):
        children, waiting = row.children(), [(ROOT, ROOT)]
        for node, place in waiting:
            for rank, child in enumerate(children.get(node, [])):
                if (place, rank) not in places:
                    places[place, rank] = len(parents)
                    parents.append(place)
                there = places[place, rank]
                held.append((number, there, row.tokens[child]))
                waiting.append((child, there))
    tokens = torch.zeros(len(rows), len(parents), dtype=torch.int64)
    real = torch.zeros(len(rows), len(parents), dtype=torch.bool)
    if held:
        at = torch.tensor(held)
        tokens[at[:, 0], at[:, 1]], real[at[:, 0], at[:, 1]] = at[:, 2], True
    return tokens.to(device), real.to(device), torch.tensor(parents, dtype=torch.int64, device=device)
