"""Split: which part of a corpus is held out for validation.

One rule for all data: groups (recordings of one sentence, takes of one picture, texts that are equal) are ranked by a
hash of their names and taken in that order until they hold what is wanted. So the choice depends on the names alone,
not on the order in which files are listed, on a run's seed or on what else there is: two models of one corpus hold out
the same, and a corpus that grows keeps most of its split.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from unisono.data.sampler import derive_seed
from unisono.errors import DataError

Name = TypeVar("Name", str, bytes)


def hold_out(
    sizes: Mapping[Name, float],
    wanted: float,
    *,
    seed: int | None = None,
    rank: Callable[[Name], Any] | None = None,
    may_take_all: bool = False,
) -> set[Name]:
    """Return the names of the groups to hold out: at least ``wanted`` of their sizes, none for 0.

    Args:
        sizes: of each group, in any unit: its items, seconds or characters.
        seed: draws another split; None is the corpus' own, which does not depend on a run.
        rank: what a group is ranked by; by default a hash of its name. Ties go by name.
        may_take_all: of a corpus' own test part, say, where none need be left; else ``DataError`` is raised where
            all groups would be held out.
    """
    key = rank or (lambda name: derive_seed("split", name) if seed is None else derive_seed("split", seed, name))
    held: set[Name] = set()
    have = 0.0
    for name in sorted(sizes, key=lambda name: (key(name), name)):
        if have >= wanted:
            break
        held.add(name)
        have += sizes[name]
    if held and len(held) == len(sizes) and not may_take_all:
        raise DataError(
            f"val_size={wanted:g} leaves nothing to train on: of {len(sizes)} groups (what is equal is "
            "one) all would be held out; lower it, or give more data",
            code="empty",
            path="val_size",
            value=wanted,
        )
    return held
