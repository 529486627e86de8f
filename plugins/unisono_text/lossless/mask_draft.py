"""Mask draft: a network that reads masks drafts all of its tokens in one call (PARD, arXiv:2504.18583).

::

    round      draft reads                      and then keeps of its cache
    1          x_1 … x_c  [M] [M] [M]           x_1 … x_c           masks are forgotten at once
    2          x_{c+1} x_{c+2}  [M] [M] [M]     … x_{c+2}           what was committed since is read with the masks

One call a round, whatever the number of tokens. Two rules fit: ``Matching``, for which the draft draws with the
target's noise (the tokens are those of plain decoding), and ``Rejection``, for which it draws by itself (the law is
the target's). Each token is drawn from its own marginal, which is all that rejection asks for.

Letters: b batch, n drafted tokens, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from unisono.checks import is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.verify import (
    Cache,
    Draw,
    Matching,
    Method,
    Network,
    Prefix,
    Proposal,
    Rejection,
    Round,
    Target,
    sample,
)

from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.mask_chains import ChainSpec


@dataclass(frozen=True)
class MaskDraft:
    """A network draws the next `num_draft` tokens at once: the first behind the prefix, the others from masks.

    Args:
        network: as `unisono.verify` reads it; it knows the masks' ids.
        masks: the id of each step's mask, at least `num_draft` − 1 of them.
        num_draft: tokens of a draft at most.
        cache: makes an empty cache for a number of rows; None reads the whole prefix each time.
        coupled: draw with the target's noise, for `Matching`; else with a noise of its own, for `Rejection`.
        waits: propose nothing in the first round, for a network that reads what the target's evaluation leaves.
    """

    network: Network
    masks: tuple[int, ...]
    num_draft: int = 8
    cache: Callable[[int], Cache] | None = None
    coupled: bool = True
    waits: bool = False

    def __post_init__(self):
        if not is_whole(self.num_draft, 1):
            raise UnisonoError(
                f"num_draft is {self.num_draft!r}: give a whole number of at least 1",
                code="range",
                path="num_draft",
                value=self.num_draft,
            )
        if self.num_draft > len(self.masks) + 1:
            raise UnisonoError(
                f"num_draft={self.num_draft}, but this draft has learnt {len(self.masks)} masks, each for its own "
                f"step: at most {len(self.masks) + 1}",
                code="limit",
                path="num_draft",
                value=self.num_draft,
            )

    @property
    def brings_law(self) -> bool:
        return not self.coupled

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        own = Target(self.network, self.cache, len(prefix.length)) if last is None else last.proposal.carry
        count = prefix.room.clamp_max(self.num_draft)
        n = int(count.max()) if len(count) else 0
        if not n or (self.waits and last is None):
            return Proposal.chain(prefix.tokens[:, :0], torch.zeros_like(count), carry=own)
        positions = own.positions
        masks = torch.tensor(self.masks[: n - 1], dtype=torch.int64, device=count.device)
        question = Proposal.chain(masks.expand(len(count), n - 1), (count - 1).clamp_min(0))
        logits = own(prefix, question)
        if own.cache is not None:
            own.cache.truncate(prefix.length)
        law = draw.law(logits)
        places = prefix.length[:, None] + torch.arange(n, device=count.device)
        tokens = sample(law, prefix.seed, places, random.DRAW if self.coupled else random.PROPOSE)
        return Proposal.chain(
            tokens,
            count,
            law=None if self.coupled else law,
            vocab_size=logits.shape[-1],
            carry=own,
            nfe=1,
            positions=own.positions - positions,
        )


def parallel_draft(
    network: Network,
    masks: tuple[int, ...],
    num_draft: int = 8,
    cache: Callable[[int], Cache] | None = None,
    *,
    coupled: bool = True,
    waits: bool = False,
) -> Method:
    """A draft in one call: verified by `Matching`, or with `coupled` False by `Rejection`; arguments of `MaskDraft`."""
    draft = MaskDraft(network, masks, num_draft, cache, coupled, waits)
    return Method("parallel draft", draft, Matching() if coupled else Rejection())


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
