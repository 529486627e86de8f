"""Reading: a tagged text as tokens with positions and branches, from which follows who sees whom.

Paths of a block begin at one position and are blind to one another; the conclusion begins behind the longest of them
and sees all (arXiv:2506.09991, §4)::

    position   0 1 2 3 4 5 6 7 8 9
    text       q ? < G …            before the block
    path a             5 6 7
    path b             5 6 7 8
    conclusion                 9 …  sees both

Shapes: b batch, t tokens, l nested blocks. Masks: True = keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from unisono.errors import RequestError

from unisono_branches.grammar.lane import Lane, begins_as, header_of
from unisono_branches.grammar.tags import CONCLUSION, END, END_PARALLEL, END_PATH, GOAL, MAX_BRANCHES, MAX_NESTING, PATH

NOWHERE = -1
"""Stands for no block, and for no branch."""


@dataclass(frozen=True)
class Reading:
    """A text, read.

    Attributes:
        pieces: tags and characters, in the order of the text.
        positions: of each.
        blocks, branches: of each, for every level of nesting, which block's path it is in and which path that is;
            ``NOWHERE`` on levels that it is not in. Blocks are numbered as they open.
        free: whether each is chosen by who writes; the others follow from the grammar.
        depth: positions of the whole, which is how many steps it takes to write it side by side.
    """

    pieces: tuple[str, ...]
    positions: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    branches: tuple[tuple[int, ...], ...]
    free: tuple[bool, ...]
    depth: int

    @property
    def num_branches(self) -> int:
        """Paths in all."""
        return sum(piece == PATH for piece in self.pieces)


@dataclass
class _Open:
    """A lane under way: which blocks and branches it is in, and what its open block has had so far."""

    lane: Lane
    position: int
    inside: tuple[tuple[int, int], ...] = ()
    levels: tuple[tuple[int, ...], tuple[int, ...]] = ((NOWHERE,) * MAX_NESTING, (NOWHERE,) * MAX_NESTING)
    block: int = NOWHERE
    start: int = 0
    done: int = 0
    longest: int = 0


def read(pieces: Sequence[str], max_branches: int = MAX_BRANCHES, max_nesting: int = MAX_NESTING) -> Reading:
    """Read the pieces of a text.

    Args:
        max_branches: of a block.
        max_nesting: blocks within blocks, at most ``MAX_NESTING``.

    Raises ``RequestError`` with code ``format`` for tags that are unclosed or out of order and for a path that does not
    begin as its outline says, and with ``limit`` for too many branches or too deep a nesting.
    """
    positions, blocks, branches, free = [], [], [], []
    lanes, opened = [_Open(Lane(), 0)], 0
    at = 0
    while at < len(pieces):
        own, piece = lanes[-1], pieces[at]
        count = 1
        if own.lane.state == "paths" and own.done < len(own.lane.outlines):
            outline = own.lane.outlines[own.done]
            if not begins_as(pieces[at:], outline):
                shown = "".join(pieces[at : at + 8])
                expected = "".join(header_of(outline))
                raise RequestError(
                    f"path {own.done + 1} begins {shown!r}, its outline says {expected!r}: write the path as outlined",
                    code="format",
                    path="text",
                    value=shown,
                )
            count = len(header_of(outline))
            if own.done == 0:
                own.block, own.start, own.longest = opened, own.position, 0
                opened += 1
            inside = (*own.inside, (own.block, own.done))
            padded = inside + ((NOWHERE, NOWHERE),) * (MAX_NESTING - len(inside))
            levels = (tuple(block for block, _ in padded), tuple(branch for _, branch in padded))
            lanes.append(_Open(own.lane.path(), own.start, inside, levels))
            own.done += 1
            own = lanes[-1]
        else:
            if own.lane.state == "paths":
                own.position = own.start + own.longest
                own.done = 0
            own.lane.read(piece, max_branches, max_nesting)
        for offset in range(count):
            positions.append(own.position + offset)
            blocks.append(own.levels[0])
            branches.append(own.levels[1])
            free.append(count == 1 and piece not in (GOAL, CONCLUSION, END_PARALLEL))
        own.position += count
        at += count
        if piece == END_PATH:
            ended = lanes.pop()
            lanes[-1].longest = max(lanes[-1].longest, ended.position - lanes[-1].start)
        elif piece == END:
            break
    if at < len(pieces):
        raise RequestError(f"text goes on behind {END}", code="format", path="text", value="".join(pieces[at : at + 8]))
    if len(lanes) > 1 or lanes[0].lane.state != "text":
        last = lanes[-1].lane
        waits = last.closer or last.forced or (CONCLUSION if last.state == "paths" else END_PATH)
        raise RequestError(
            f"the text ends inside {last.state}, {waits} is missing: close what is open, or leave the tags out",
            code="format",
            path="text",
            value=last.state,
        )
    depth = max(positions, default=-1) + 1
    return Reading(tuple(pieces), tuple(positions), tuple(blocks), tuple(branches), tuple(free), depth)


def visible(blocks: Int[Tensor, "b t l"], branches: Int[Tensor, "b t l"]) -> Bool[Tensor, "b t t"]:
    """Return what each token sees: itself and what is before it in the text, but for other paths of its own blocks."""
    t = blocks.shape[1]
    seen = torch.ones(t, t, dtype=torch.bool, device=blocks.device).tril()
    same_block = (blocks[:, :, None] == blocks[:, None]) & (blocks[:, :, None] != NOWHERE)
    blind = same_block & (branches[:, :, None] != branches[:, None])
    return seen & ~blind.any(-1)
