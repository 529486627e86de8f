"""TR-Jacobi: Jacobi iteration with a tree of candidates and a chain of retrieved tokens (arXiv:2406.17404, §3.2).

Decoding of Wang et al., 2024, "Make Some Noise". Jacobi iteration goes on from what the model said behind a refused
token: wrong context, and yet often right a few tokens further on. Here all of it is used, not the likeliest alone:

::

    last round      x_c ─ accepted … ─ x_a ─ refused ─ behind it ─ …     logits of each: laws of depth 0, 1, …
    this round      x_{a+1} ─┬─ top 1 ─┬─ top 1 ─ …                      the template: ranks of those laws
                             ├─ top 2 ─┘
                             └─ r_1 ─ r_2 ─ r_3 …                        what followed these tokens before

Where no law is known (the first round, or nothing was refused) candidates are random tokens of the row, as there.

Differences from the paper: the model need not be trained with noise, though it drafts better if it is; verified by
matching, at any temperature, where the paper is greedy: a law's ranks are those of its scores with the noise of the
position, so that the first one is what the model would draw. The template has 11 nodes, not 63 paths of 10 tokens a
level: an evaluation on a processor is flat up to about that. The chain is that of an n-gram proposer.

Letters: b batch, d depths, k ranks, n nodes, v vocabulary. Masks: True = keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.verify import (
    Draw,
    Matching,
    Method,
    NGram,
    Prefix,
    Proposal,
    Round,
    Target,
    check_tree,
    first_head,
    parents_of,
    tree_of,
)

from unisono_text.lossless.entry import Entry
from unisono_text.lossless.ngram import AdaptiveNGram

TEMPLATE = ((0,), (1,), (2,), (3,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 1), (0, 0, 0, 0), (0, 0, 0, 0, 0))
"""Four ranks of the next token, and ever fewer behind the likeliest."""


@dataclass(frozen=True)
class TRJacobi:
    """Propose ranks of the last evaluation's laws as a tree, and beside it a retrieved chain.

    Args:
        tree: nodes as paths of ranks, parents first, as in `unisono.verify.ExtraHeads`: (0, 2) is the third of the
            second law behind the first of the first.
        retrieval: the n-grams that give the chain.

    Raises:
        UnisonoError: for an impossible tree, and, in the first round, one of more ranks than there are tokens.
    """

    tree: tuple[tuple[int, ...], ...] = TEMPLATE
    retrieval: AdaptiveNGram | NGram = field(default_factory=lambda: beside_a_tree())
    brings_law = False

    def __post_init__(self):
        check_tree(self.tree)

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        b, device = len(prefix.length), prefix.tokens.device
        before = None
        if last is not None:
            before = replace(last, proposal=replace(last.proposal, carry=last.proposal.carry.retrieval))
        chain = self.retrieval(prefix, before, target, draw)
        deepest = int(prefix.room.max()) if b else 0
        paths = [path for path in self.tree if len(path) <= deepest]
        if not paths:
            return replace(chain, carry=Carried(chain.carry, _first_children([])))
        depth = torch.tensor([len(path) - 1 for path in paths], device=device)
        rank = torch.tensor([path[-1] for path in paths], device=device)
        best = self._candidates(prefix, last, draw, int(depth.max()) + 1, int(rank.max()) + 1)
        count = chain.tokens.shape[1]
        parents = [*parents_of(paths), *(at + len(paths) if at >= 0 else -1 for at in range(-1, count - 1))]
        return Proposal(
            torch.cat([best[:, depth, rank], chain.tokens], 1),
            torch.cat([depth < prefix.room[:, None], chain.real], 1),
            torch.tensor(parents, device=device),
            carry=Carried(chain.carry, _first_children(parents)),
        )

    def _candidates(
        self, prefix: Prefix, last: Round | None, draw: Draw, depths: int, ranks: int
    ) -> Int[Tensor, "b d k"]:
        """Return the first ranks of each depth's law, random tokens of the row where none is known."""
        b, device = len(prefix.length), prefix.tokens.device
        position = prefix.length[:, None] + torch.arange(depths, device=device)
        sites = (position[:, :, None] * ranks + torch.arange(ranks, device=device)).flatten(1)
        number = random.bits(prefix.seed, torch.zeros_like(prefix.seed), sites, random.PROPOSE)
        some = prefix.tokens.gather(1, number % prefix.length[:, None]).unflatten(1, (depths, ranks))
        if last is None:
            return some
        logits = first_head(last.logits)
        if ranks > logits.shape[-1]:
            raise UnisonoError(
                f"a tree of rank {ranks - 1}, but the vocabulary has {logits.shape[-1]} tokens",
                code="limit",
                path="tree",
                value=ranks - 1,
            )
        # From the row that the round ended with to that of its first child, to that one's, and so on.
        child_of, real = last.proposal.carry.first_child.to(device), last.proposal.real
        row, known, rows, there = last.leaf, torch.ones(b, dtype=torch.bool, device=device), [], []
        for _ in range(depths):
            child = child_of[row]
            if real.shape[1]:
                known = known & (child >= 0) & real.gather(1, child.clamp_min(0)[:, None])[:, 0]
            else:
                known = torch.zeros_like(known)
            row = torch.where(known, child + 1, row)
            rows.append(row)
            there.append(known)
        laws = logits[torch.arange(b, device=device)[:, None], torch.stack(rows, 1)]
        best = draw.scores(laws, prefix.seed, position).topk(ranks, -1).indices
        return torch.where(torch.stack(there, 1)[:, :, None], best, some)


@dataclass(frozen=True, eq=False)
class Carried:
    """What `TRJacobi` needs again: the n-grams' own, and the first child of the root and of each node, −1 for none."""

    retrieval: Any
    first_child: Int[Tensor, " n+1"]


def _first_children(parents: Sequence[int]) -> Int[Tensor, " n+1"]:
    first = [-1] * (len(parents) + 1)
    for node, parent in enumerate(parents):
        if first[parent + 1] < 0:
            first[parent + 1] = node
    return torch.tensor(first)


def beside_a_tree(num_draft: int = 8) -> AdaptiveNGram:
    """Return n-grams that ask less of a draft: the template is evaluated anyway, and a few more nodes cost little."""
    return AdaptiveNGram(num_draft, first=0.0, each=0.05, margin=1.0)


def tr_jacobi(tree: Sequence[Sequence[int]] = TEMPLATE, num_draft: int = 8) -> Method:
    """Jacobi's laws as a tree, and n-grams: lossless token by token, see `TRJacobi`."""
    return Method("TR-Jacobi", TRJacobi(tuple(map(tuple, tree)), beside_a_tree(num_draft)), Matching())


ENTRY = Entry(
    "tr-jacobi",
    "token by token",
    lambda _, options, __: tr_jacobi(
        TEMPLATE if options["tree"] is None else tree_of(options["tree"]), options["num_draft"]
    ),
    {"tree": None, "num_draft": 8},
)
"""``tree``: ranks of each level, `TEMPLATE` by default; ``num_draft``: tokens of the chain at most."""
