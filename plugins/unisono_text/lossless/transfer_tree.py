"""Transfer tree: guesses that stand at each node of the last tree are tried as the next one (arXiv:2404.12022).

::

    evaluation   root and nodes of the tree, each with its pseudo states behind it: verify and guess at once
    next tree    the likeliest tokens of the pseudo states behind the last node that held

The network is `unisono_text.lossless.hidden_transfer`'s; its guesses read as extra heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from unisono.errors import UnisonoError
from unisono.verify import Method, medusa, tree_of

from unisono_text.lossless.entry import Entry, Means

GUESSED = 64
"""Columns of an evaluation that are given pseudo states at most: a tree's root, and 63 nodes."""


@runtime_checkable
class GuessesStates(Protocol):
    """A model that guesses so many tokens behind the next one, by states in its middle."""

    @property
    def num_transfers(self) -> int: ...


def transferred_tree(tree: Sequence[Sequence[int]] = tree_of((3, 2))) -> Method:
    """A tree of a model's own guesses, verified by `Matching`.

    Raises:
        UnisonoError: for a tree of `GUESSED` nodes or more, some of which would have no guesses behind them.
    """
    if len(tree) >= GUESSED:
        raise UnisonoError(
            f"a tree of {len(tree)} nodes, each with its own pseudo states: at most {GUESSED - 1}",
            code="limit",
            path="tree",
            value=len(tree),
        )
    return replace(medusa(tree), name="hidden transfer")


def _made(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    tree, steps = options["tree"], means.model.num_transfers if isinstance(means.model, GuessesStates) else 0
    if len(tree) > steps or not tree:
        raise UnisonoError(
            f"decoding='hidden-transfer' with a tree of depth {len(tree)}, but the model guesses {steps} tokens ahead: "
            + ("give a tree of 1 to that many levels" if steps else "take a text/hidden-transfer"),
            code="shape",
            path="tree",
            value=tree,
        )
    return transferred_tree(tree_of(tree))


HIDDEN_TRANSFER = Entry("hidden-transfer", "token by token", _made, {"tree": (3, 2)})
