"""SpecExec: a draft network grows a tree, best first (Svirschevski et al., 2024, arXiv:2406.02532).

A node's score is the draft's log-probability of all tokens from the root to it, and log .95 more for each level, since
a draft is trusted less and less. The `budget` nodes of the best scores are one evaluation of the target:

::

    while some of the best `budget` nodes were not expanded and could have a child among them:
        one evaluation of the draft reads up to `frontier` of them, each behind its own ancestors
        the `branch` likeliest tokens behind each join the tree

The target walks along what it draws itself (`Matching`): acceptance by min(1, p / q) would be wrong in law for a tree
of likeliest tokens.

Two things about the probabilities are not in the paper. What is asked of them is where the target's largest score is.
Above temperature 0 scores are therefore taken with the noise that the target draws with, as in coupled speculation
(Daliri et al., 2024, arXiv:2408.07978): the likeliest child is what the draft would draw. And they are
softmax(scores / `spread`): the nearer the draft's scores are to the target's, the surer its largest is the target's
too. 1 is the paper's; 1/2 made 12 to 13 % more tokens per evaluation of characters of Shakespeare than 1 did.

A tree of `unisono.verify` has one shape for all rows of a batch, but each row grows its own. So the shapes are laid
over each other (`overlaid`), and a row's missing nodes are not real: several rows pay for the union, one alone does
not.

Other differences from the paper: newly committed tokens are read again by the draft, whose keys of accepted nodes are
not kept; the tree ends behind an end token.

Letters: b batch, f expanded nodes, n nodes, v vocabulary. Masks: True = keep.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from unisono.checks import fault_of, is_real, is_whole
from unisono.errors import UnisonoError
from unisono.verify import Draw, Matching, Method, Network, Prefix, Proposal, Round, Target

from unisono_text.lossless.best_first import ROOT, Row, overlaid
from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.tree_draft import TreeDraft

LARGEST = {"budget": 2048, "branch": 64, "depth": 256, "frontier": 256}
MOST_NODES = 4096
"""Of one evaluation of the target, over the shapes of all rows."""


@dataclass(frozen=True)
class SpecExec:
    """A tree of the draft's likeliest continuations.

    Args:
        network: the draft; it must read trees, with a `unisono.verify.KVCache`.
        budget: nodes of a row's tree at most, 1 to 2048.
        branch: children of a node at most, 1 to 64.
        depth: levels of the tree at most, 1 to 256.
        frontier: nodes that one evaluation of the draft expands at most, 1 to 256.
        decay: factor of a node's probability for each level, in (0, 1].
        spread: what scores are divided by, above 0.

    Raises:
        UnisonoError: for one of these out of its range; when called, for a draft whose logits are NaN or +inf, and
            for rows whose trees take more than 4096 nodes together.
    """

    network: Network
    budget: int = 16
    branch: int = 8
    depth: int = 16
    frontier: int = 8
    decay: float = 0.95
    spread: float = 0.5
    brings_law = False

    def __post_init__(self):
        for name, most in LARGEST.items():
            value = getattr(self, name)
            if not is_whole(value, 1, most):
                raise UnisonoError(
                    f"{name} {value!r}: give a whole number from 1 to {most}",
                    code="limit" if is_whole(value, most) else fault_of(value, whole=True),
                    path=name,
                    value=value,
                )
        if not (is_real(self.decay, 0, 1) and self.decay > 0):
            raise UnisonoError(
                f"decay {self.decay!r}: give a number above 0 and at most 1",
                code=fault_of(self.decay),
                path="decay",
                value=self.decay,
            )
        if not (is_real(self.spread, 0) and self.spread > 0):
            raise UnisonoError(
                f"spread {self.spread!r}: give a number above 0",
                code=fault_of(self.spread),
                path="spread",
                value=self.spread,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        draft: TreeDraft = TreeDraft(self.network, prefix) if last is None else last.proposal.carry
        bill = draft.target.nfe, draft.target.positions
        levels = prefix.room.clamp_max(self.depth).tolist()
        if not max(levels, default=0):
            return Proposal.chain(prefix.tokens[:, :0], prefix.room, carry=draft)
        rows = [Row(self.budget, count, self.decay, prefix.end) for count in levels]
        logits = draft.begin(prefix)
        self._add(rows, [[ROOT] for _ in rows], logits, prefix, draw)
        while any(chosen := [row.open(self.frontier) for row in rows]):
            self._add(rows, chosen, draft.expand(prefix, rows, chosen), prefix, draw)
        draft.end(prefix)
        tokens, real, parent = overlaid(rows, prefix.tokens.device)
        if len(parent) > MOST_NODES:
            raise UnisonoError(
                f"the trees of {len(rows)} rows take {len(parent)} nodes together, at most {MOST_NODES}: "
                f"lower the budget of {self.budget}, or decode fewer rows at once",
                code="limit",
                path="budget",
                value=self.budget,
            )
        return Proposal(
            tokens,
            real,
            parent,
            vocab_size=logits.shape[-1],
            carry=draft,
            nfe=draft.target.nfe - bill[0],
            positions=draft.target.positions - bill[1],
        )

    def _add(self, rows: list[Row], chosen: list[list[int]], logits: Tensor, prefix: Prefix, draw: Draw) -> None:
        """Give each chosen node of each row its likeliest children, by the logits [b, f, v] behind it."""
        depth = torch.zeros(logits.shape[:2], dtype=torch.int64)
        for number, (row, nodes) in enumerate(zip(rows, chosen, strict=True)):
            for column, node in enumerate(nodes):
                depth[number, column] = row.depth(node) + 1
        scores = draw.scores(logits, prefix.seed, prefix.length[:, None] + depth.to(logits.device))
        best = (scores.double() / self.spread).log_softmax(-1).topk(min(self.branch, logits.shape[-1]), -1)
        for row, nodes, tokens, values in zip(rows, chosen, best.indices.tolist(), best.values.tolist(), strict=True):
            for node, its, scored in zip(nodes, tokens, values, strict=False):
                row.add(node, its, scored)


def specexec(network: Network, budget: int = 16, branch: int = 8) -> Method:
    """A draft's best-first tree: lossless token by token, see `SpecExec`."""
    return Method("SpecExec", SpecExec(network, budget, branch), Matching())


def _make(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    if means.draft is None:
        raise UnisonoError(
            "decoding='specexec' needs a draft: a smaller autoregressive model, same tokenizer",
            code="missing",
            path="draft",
        )
    return specexec(means.draft, options["budget"], options["branch"])


ENTRY = Entry(
    "specexec",
    "token by token",
    _make,
    {"budget": 16, "branch": 8},
    role="draft",
    most_rows=lambda options: max(1, MOST_NODES // options["budget"]),
)
"""``budget``: nodes of the tree; ``branch``: children of a node at most."""
