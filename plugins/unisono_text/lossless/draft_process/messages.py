"""Messages: what a target and its draft process tell each other, as tuples that begin with their name.

::

    to the worker      load (network)   open (session, Opened)   commit (session, version, Commit)   ping (number)
    from the worker    up ()   ready ()   chain (session, version, Chain)   pong (number)   error (session, error)

A session is one batch; a version is one commit in it. Nothing is ever interrupted: a chain names the last commit that
it knows of and lists the whole draft behind that, so that whoever reads it can compare.
"""

from dataclasses import dataclass

from unisono.verify import Draw


@dataclass(frozen=True)
class Opened:
    """A batch of rows to draft for.

    Attributes:
        tokens: the prompt of each row.
        limit: tokens of a row at most, with its prompt.
        seeds: one per row: the draft draws with the target's noise.
        end: the token behind which nothing is drafted.
        draw: the target's settings.
        ahead: tokens that a row may be drafted ahead of what is committed.
        cache: whether keys and values are kept.
        device: where the network reads.
    """

    tokens: list[list[int]]
    limit: int
    seeds: list[int]
    end: int | None
    draw: Draw
    ahead: int
    cache: bool
    device: str


@dataclass(frozen=True)
class Commit:
    """What was committed since the last message: from `starts` on, `tokens`; `steps` to draft, None: as many as fit."""

    starts: list[int]
    tokens: list[list[int]]
    done: list[bool]
    steps: int | None = None


@dataclass(frozen=True)
class Chain:
    """What is drafted of each row: from `starts` on, `drafts`; and what all of it cost so far."""

    starts: list[int]
    drafts: list[list[int]]
    nfe: int
    positions: int
    vocab_size: int | None


class LostError(Exception):
    """A draft process that does not answer any more, and why."""
