"""Mask methods: pard, pard-speculative and parallelspec by name, and what drafts for them.

A draft that reads no masks is refused: it would draft token by token, which is another method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from unisono.errors import UnisonoError
from unisono.verify import Method, Network

from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.mask_chains import ChainSpec
from unisono_text.lossless.mask_draft import parallel_draft


@runtime_checkable
class ReadsMasks(Protocol):
    """A model that predicts tokens at masks; its masks' ids, by step, and what of them it was trained on."""

    mask_ids: tuple[int, ...]
    chain: ChainSpec


@runtime_checkable
class LeavesStates(Protocol):
    """A target that leaves its states behind for a draft of its own."""

    @property
    def draft(self) -> Network: ...


UNTOLD = 8
"""Tokens of a draft where neither the request nor the draft says how many."""


def _of_draft(decoding: str, coupled: bool) -> Callable[[Means, Mapping[str, Any], Any], Method]:
    def make(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
        if means.draft is None:
            raise UnisonoError(
                f"decoding={decoding!r} needs a draft that reads masks: a text/pard, same tokenizer",
                code="missing",
                path="draft",
            )
        if isinstance(means.component, ReadsMasks):
            masks, count = _masks(means.component, options["num_draft"])
        else:
            # A published draft of transformers says its mask in its config.
            mask = getattr(getattr(getattr(means.draft, "model", None), "config", None), "pard_token", None)
            if mask is None:
                what = type(means.component or means.draft).__name__
                raise UnisonoError(
                    f"decoding={decoding!r} with a draft that reads no masks ({what}): give a text/pard, or a model of "
                    "transformers with pard_token in its config; decoding='coupled' drafts with any, token by token",
                    code="unsupported",
                    path="draft" if means.component is None else "components.draft",
                    value=what,
                )
            count = options["num_draft"] or UNTOLD
            masks = (int(mask),) * (count - 1)
        return parallel_draft(means.draft, masks, count, cache, coupled=coupled)

    return make


def _on_states(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    if not isinstance(means.target, LeavesStates) or not isinstance(means.model, ReadsMasks):
        raise UnisonoError(
            "decoding='parallelspec' needs a draft on the model's own states: take a text/parallelspec",
            code="unsupported",
            path="decoding",
            value="parallelspec",
        )
    masks, count = _masks(means.model, options["num_draft"])
    return parallel_draft(means.target.draft, masks, count, cache, waits=True)


def _masks(model: ReadsMasks, num_draft: int | None) -> tuple[tuple[int, ...], int]:
    """Return the masks that a model can read, and how many tokens are drafted."""
    count = num_draft or model.chain.num_draft
    if model.chain.own_masks:
        return model.mask_ids, count
    return model.mask_ids[:1] * (count - 1), count


MASK_DRAFTS = (
    Entry("pard", "token by token", _of_draft("pard", True), {"num_draft": None}, role="draft"),
    Entry("pard-speculative", "in law", _of_draft("pard-speculative", False), {"num_draft": None}, role="draft"),
    Entry("parallelspec", "token by token", _on_states, {"num_draft": None}),
)
