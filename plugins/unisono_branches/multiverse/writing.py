"""Writing: a lane that is being written: its tokens, its place, what it may write next, and how it forks and joins.

Letters: v vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor
from unisono.data import derive_seed

from unisono_branches.corpus.facts import TaggedFacts
from unisono_branches.grammar.lane import Lane, header_of
from unisono_branches.grammar.tags import CONCLUSION, END_GOAL, MAX_OUTLINE, OUTLINE, PARALLEL, TAGS
from unisono_branches.multiverse.kept import Kept, join

OUTLINED = MAX_OUTLINE + 2
"""Positions of an outline at most, its tags included."""


@dataclass(frozen=True, eq=False)
class Written:
    """A token: what it reads, where it is, and the step at which it was settled, −1 for what was given."""

    piece: str
    position: int
    step: int


@dataclass(frozen=True)
class Bounds:
    """What a request's lanes keep to: paths of a block, blocks within blocks, and whether paths are side by side."""

    max_branches: int
    max_nesting: int
    beside: bool


@dataclass(eq=False)
class Writing:
    """A lane under way.

    Attributes:
        grammar: where it stands.
        bounds: of its request.
        seed: of its draws.
        position: of its next token.
        limit: its positions are below, closing tags included.
        written: its tokens, and the paths of its blocks where they stand.
        waiting: tokens that the network has not read yet.
        view: what of these sees what, where that is not each what is not behind it.
        kept: what the network has kept of it, while it is not among the rows of the cache.
        parent: the lane that it is a path of.
        cut: how many tags were written because its limit was near.
    """

    grammar: Lane
    bounds: Bounds
    seed: int
    position: int
    limit: int
    written: "list[Written | list[Writing]]" = field(default_factory=list)
    waiting: list[Written] = field(default_factory=list)
    view: Bool[Tensor, "n n"] | None = None
    kept: Kept = field(default_factory=lambda: Kept({}))
    parent: "Writing | None" = None
    cut: int = 0
    forks: int = 0
    ended_paths: int = 0

    def put(self, pieces: Sequence[str], step: int) -> None:
        """Write pieces at the next positions, without asking the grammar."""
        for piece in pieces:
            token = Written(piece, self.position, step)
            self.written.append(token)
            self.waiting.append(token)
            self.position += 1

    def choose(self, piece: str, step: int) -> None:
        """Write a piece that was chosen, and what must come behind it."""
        self.cut += self.full
        self._read(piece, step)
        while (forced := self.grammar.forced) is not None:
            self._read(forced, step)

    def _read(self, piece: str, step: int) -> None:
        self.grammar.read(piece, self.bounds.max_branches, self.bounds.max_nesting)
        self.put([piece], step)

    # ---- room ----------------------------------------------------------------------------------

    @property
    def closing(self) -> int:
        """Positions that it takes to close what is open, once the paths of an innermost goal are over."""
        open_blocks = len(self.grammar.states) - 1
        return 2 * open_blocks + 1 + (self.grammar.state == "goal" or self.grammar.state == "paths")

    @property
    def promised(self) -> int:
        """Positions for the shortest paths of the outlines so far, where these stand one behind the other."""
        return 0 if self.bounds.beside else sum(len(header_of(outline)) + 1 for outline in self.grammar.outlines)

    @property
    def full(self) -> bool:
        """Whether what comes next must close what is open, for want of room."""
        left = self.limit - self.position
        if self.grammar.state == "goal":
            return left <= 2 * OUTLINED + 2 + self.promised + self.closing
        return self.grammar.state in ("text", "conclusion") and left <= self.closing

    def allowed(self, facts: TaggedFacts) -> Bool[Tensor, " v"]:
        """Return which tokens may come next: what the grammar allows, as far as there is room to close it."""
        characters, tags = self.grammar.allowed(self.bounds.max_branches, self.bounds.max_nesting)
        if self.limit - self.position < 2 * OUTLINED + 7 + self.closing:
            tags = tags - {PARALLEL}
        if self.full:
            closer = self.grammar.closer
            if self.grammar.state == "goal":
                closer = END_GOAL if self.grammar.outlines else OUTLINE
            characters, tags = False, frozenset(() if closer is None else (closer,))
        allowed = torch.zeros(len(facts.vocabulary), dtype=torch.bool)
        allowed[len(TAGS) :] = characters
        for tag in tags:
            allowed[TAGS.index(tag)] = True
        return allowed

    # ---- branches ------------------------------------------------------------------------------

    def fork(self, step: int) -> "list[Writing]":
        """Open the paths of the block whose goal was read, and return those that can be written now.

        Side by side, all begin at one position, with what this lane has kept. One behind the other, each begins where
        the one before it ended: `follow` opens it.
        """
        self.forks += 1
        outlines, self.ended_paths = self.grammar.outlines, 0
        limit = self.limit - self.closing
        paths = []
        for number in range(len(outlines)):
            behind = 0 if self.bounds.beside else sum(len(header_of(own)) + 1 for own in outlines[number + 1 :])
            seed = derive_seed("path", self.seed, self.forks, number)
            paths.append(Writing(self.grammar.path(), self.bounds, seed, self.position, limit - behind, parent=self))
        self.written.append(paths)
        ready = paths if self.bounds.beside else paths[:1]
        for path, outline in zip(ready, outlines, strict=False):
            path.kept = self.kept
            path.put(header_of(outline), step)
        return ready

    def follow(self, ended: "Writing", step: int) -> "list[Writing]":
        """Take note that a path has ended, and return what can be written now: the next path, or this lane again."""
        self.ended_paths += 1
        paths = self.paths
        if self.ended_paths < len(paths):
            if self.bounds.beside:
                return []
            path = paths[self.ended_paths]
            path.position, path.kept = ended.position, ended.kept
            path.put(header_of(self.grammar.outlines[self.ended_paths]), step)
            return [path]
        self.kept = join([path.kept for path in paths], self.kept.length) if self.bounds.beside else ended.kept
        self.position = max(path.position for path in paths)
        for path in paths:
            path.kept = Kept({})
        self._read(CONCLUSION, step)
        return [self]

    @property
    def paths(self) -> "list[Writing]":
        """The paths that were opened last."""
        last = self.written[-1]
        assert isinstance(last, list)
        return last

    @property
    def tokens(self) -> Iterator[Written]:
        """All tokens in the order of the text."""
        for entry in self.written:
            if isinstance(entry, Written):
                yield entry
            else:
                for path in entry:
                    yield from path.tokens

    @property
    def all_cut(self) -> int:
        """Tags that were written because a limit was near, those of its paths included."""
        inner = (path.all_cut for entry in self.written if isinstance(entry, list) for path in entry)
        return self.cut + sum(inner)
