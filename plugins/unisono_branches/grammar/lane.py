"""Lane: a place in the grammar: what may come next, what must, and what each tag opens or closes.

A lane is a run of tokens that see one another in order: the whole text, or one path of a block. Reading a text and
writing one go through the same lanes, so that what is written can be read::

    text ──<Parallel><Goal>──▶ goal ──<Outline>──▶ outline          the block's tags are forced where one alone fits
      ▲                         │  ◀─</Outline>──┘
      │                         └─</Goal>──▶ paths ─(all closed)─<Conclusion>──▶ conclusion
      └────────────────────</Conclusion></Parallel>──────────────────────────────────┘
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from unisono.errors import RequestError

from unisono_branches.grammar.tags import (
    COLON,
    CONCLUSION,
    END,
    END_CONCLUSION,
    END_GOAL,
    END_OUTLINE,
    END_PARALLEL,
    END_PATH,
    GOAL,
    MAX_OUTLINE,
    OUTLINE,
    PARALLEL,
    PATH,
    TAGS,
)

State = Literal["text", "opened", "goal", "outline", "paths", "conclusion", "concluded"]
_NEXT: dict[tuple[State, str], State] = {
    ("text", PARALLEL): "opened",
    ("conclusion", PARALLEL): "opened",
    ("opened", GOAL): "goal",
    ("goal", OUTLINE): "outline",
    ("outline", END_OUTLINE): "goal",
    ("goal", END_GOAL): "paths",
    ("paths", CONCLUSION): "conclusion",
    ("conclusion", END_CONCLUSION): "concluded",
}
"""What a tag makes of a state; ``</Parallel>`` closes the block, and ``</Path>`` and the end mark the lane."""


@dataclass
class Lane:
    """Where a run of tokens stands.

    Attributes:
        depth: of the blocks around it.
        in_path: whether it is a path; else the whole text.
        states: of the open blocks, innermost last; the first is ``text``, outside of any.
        outlines: of the block whose goal was read last, as they read.
        closed: whether its last token was read.
    """

    depth: int = 0
    in_path: bool = False
    states: list[State] = field(default_factory=lambda: ["text"])
    outlines: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def state(self) -> State:
        """Of the innermost open block."""
        return self.states[-1]

    @property
    def nesting(self) -> int:
        """Blocks that are open around the next token."""
        return self.depth + len(self.states) - 1

    @property
    def closer(self) -> str | None:
        """The tag that closes what is open; None where a block's own order decides."""
        if self.state == "text":
            return END_PATH if self.in_path else END
        return {"conclusion": END_CONCLUSION, "goal": END_GOAL, "outline": END_OUTLINE}.get(self.state)

    @property
    def forced(self) -> str | None:
        """The one tag that can come next; None where there is a choice, or where paths are to be read first."""
        return {"opened": GOAL, "concluded": END_PARALLEL}.get(self.state)

    def allowed(self, max_branches: int, max_nesting: int) -> tuple[bool, frozenset[str]]:
        """Return whether a character may come next, and which tags."""
        tags: set[str] = set()
        characters = self.state in ("text", "conclusion", "goal", "outline")
        if self.state in ("text", "conclusion") and self.nesting < max_nesting:
            tags.add(PARALLEL)
        if self.state == "goal":
            tags |= {OUTLINE} if len(self.outlines) < max_branches else set()
            tags |= {END_GOAL} if self.outlines else set()
        elif self.state == "outline":
            tags |= {END_OUTLINE} if self.outlines[-1] else set()
            characters = len(self.outlines[-1]) < MAX_OUTLINE
        elif self.closer is not None:
            tags.add(self.closer)
        if self.forced is not None:
            tags.add(self.forced)
        return characters, frozenset(tags)

    def read(self, piece: str, max_branches: int, max_nesting: int) -> None:
        """Go on by a tag or character; raises ``RequestError`` where it cannot come here."""
        if piece not in TAGS and self.state in ("text", "conclusion", "goal"):
            return
        characters, tags = self.allowed(max_branches, max_nesting)
        if self.state == "paths":
            tags = frozenset((CONCLUSION,))
        if not (piece in tags if piece in TAGS else characters):
            raise self._refusal(piece, tags, max_branches, max_nesting)
        if piece not in TAGS:
            if self.state == "outline":
                self.outlines[-1] += piece
        elif piece in (END, END_PATH):
            self.closed = True
        elif piece == END_PARALLEL:
            self.states.pop()
        else:
            if piece == GOAL:
                self.outlines = []
            elif piece == OUTLINE:
                self.outlines.append("")
            after = _NEXT[self.state, piece]
            if piece == PARALLEL:
                self.states.append(after)
            else:
                self.states[-1] = after

    def path(self) -> "Lane":
        """Return a new path of the block that waits for its paths."""
        return Lane(depth=self.nesting, in_path=True)

    def _refusal(self, piece: str, tags: frozenset[str], max_branches: int, max_nesting: int) -> RequestError:
        if piece == PARALLEL and self.state in ("text", "conclusion"):
            why = f"{PARALLEL} opens block {max_nesting + 1} within others: at most {max_nesting} may be open"
            return RequestError(why, code="limit", path="text", value=self.nesting + 1)
        if piece == OUTLINE and self.state == "goal":
            why = f"a block has more than {max_branches} branches: give fewer outlines"
            return RequestError(why, code="limit", path="text", value=len(self.outlines) + 1)
        if self.state == "outline" and piece not in TAGS:
            why = f"the outline {self.outlines[-1]!r} has more than {MAX_OUTLINE} characters: shorten it"
            return RequestError(why, code="limit", path="text", value=self.outlines[-1])
        expected = " or ".join(sorted(tags)) or "a character"
        return RequestError(
            f"{piece!r} cannot come here, inside {self.state}: {expected} is expected",
            code="format",
            path="text",
            value=piece,
        )


def header_of(outline: str) -> list[str]:
    """Return the pieces that a path of this outline begins with."""
    return [PATH, *outline, COLON]


def begins_as(pieces: Sequence[str], outline: str) -> bool:
    """Whether pieces begin as a path of this outline does."""
    header = header_of(outline)
    return list(pieces[: len(header)]) == header
