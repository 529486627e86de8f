"""Grammar: which words may follow, as an enumerated automaton; generation under it ends, and is a score.

States of a bar of ``length`` steps, of which the last bar of a piece may have fewer than the others::

    open(tied)     after Bar                   a Position
    at(p, tied)    after Position p            a Pitch; Tie, if p = 0 and the bar before ended in a sounding note
    held(p)        after Pitch or Tie          a Duration of at most length - p
    free(c)        after a note up to step c   a later Position from c on; Bar or Empty, in the last bar Edge
    empty          after Empty, or at first    Bar or Empty, in the last bar Edge
    closed         after the last Edge         nothing

Positions only grow within a bar, so a bar of n steps has at most 3 n + 1 words.

Shapes: l lengths of a bar (0 to bar_steps), s states, w words; ``*b`` any.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unisono_music.models.band.words import BAR, EDGE, EMPTY, TIE, Words

CLOSED, VOID, OPEN, OPEN_TIED = range(4)
"""States that belong to no step; ``VOID`` is "empty" above."""


@dataclass(frozen=True, eq=False)
class Grammar:
    """Tables of the automaton, in which a pair (length of the current bar, state) is where a voice is.

    allowed: [2, l, s, w], whether a word may follow; the first axis is whether this is the last bar.
    move: [l, s, w], the state that a word leads to; the length changes with ``Bar`` and ``Empty``, to that of the bar
        that they begin. 0, which is ``closed``, for words that may not follow.
    """

    words: Words
    allowed: Bool[Tensor, "two l s w"]
    move: Int[Tensor, "l s w"]

    @classmethod
    def of(cls, words: Words) -> "Grammar":
        """Enumerate the states of a vocabulary."""
        steps = words.bar_steps
        free, at, held = _places(steps)
        count = held(steps)
        allowed = torch.zeros(2, steps + 1, count, len(words), dtype=torch.bool)
        move = torch.zeros(steps + 1, count, len(words), dtype=torch.int64)

        def follow(length: int, state: int, word: int, to: int, when: tuple[bool, bool] = (True, True)) -> None:
            allowed[:, length, state, word] = torch.tensor(when)
            move[length, state, word] = to

        for length in range(steps + 1):
            endings = [(VOID, False), *((free(c), c == length) for c in range(1, length + 1))]
            for state, sounding in endings:
                follow(length, state, BAR, OPEN_TIED if sounding else OPEN, (True, False))
                follow(length, state, EMPTY, VOID, (True, False))
                follow(length, state, EDGE, CLOSED, (False, True))
            for p in range(length):
                for state, tied in ((OPEN, False), (OPEN_TIED, True), *((free(c), False) for c in range(1, p + 1))):
                    follow(length, state, words.position(p), at(p, tied and p == 0))
                for tied in (False, True)[: 2 if p == 0 else 1]:
                    for pitch in range(words.num_pitches):
                        follow(length, at(p, tied), words.pitch(pitch), held(p))
                    if tied:
                        follow(length, at(p, tied), TIE, held(p))
                for duration in range(1, length - p + 1):
                    follow(length, held(p), words.duration(duration), free(p + duration))
        return cls(words, allowed, move)

    def longest(self, length: int) -> int:
        """Return the most words of a bar of so many steps, its ``Bar`` with them."""
        return 3 * length + 1

    def legal(
        self, last: Bool[Tensor, "*b"], length: Int[Tensor, "*b"], state: Int[Tensor, "*b"]
    ) -> Bool[Tensor, "*b w"]:
        """Return the words that may follow."""
        return self.allowed.to(state.device)[last.long(), length, state]

    def states(self, words: Int[Tensor, "*b t"], lengths: Int[Tensor, "*b t"]) -> Int[Tensor, "*b t"]:
        """Return the state after each word of sequences that begin with ``Edge``.

        ``lengths`` are of the bar that each word belongs to, where a ``Bar`` belongs to the bar that it begins.
        """
        move = self.move.to(words.device)
        state = torch.full(words.shape[:-1], VOID, device=words.device)
        after = [state]
        for number in range(1, words.shape[-1]):
            state = move[lengths[..., number - 1], state, words[..., number]]
            after.append(state)
        return torch.stack(after, -1)


def _places(steps: int):
    """The numbers of the states ``free(c)``, ``at(p, tied)`` and ``held(p)``."""

    def free(c: int) -> int:
        return OPEN_TIED + c

    def at(p: int, tied: bool) -> int:
        return OPEN_TIED + steps + 1 + (p + 1 if p or tied else 0)

    def held(p: int) -> int:
        return OPEN_TIED + 2 * steps + 2 + p

    return free, at, held
