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

from collections.abc import Callable
from dataclasses import dataclass

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
        places = prefix.length[:, None] + torch.arange(n, device=count.device)
        law = None if self.coupled else draw.law(logits)
        tokens = draw(logits, prefix.seed, places) if law is None else sample(law, prefix.seed, places, random.PROPOSE)
        return Proposal.chain(
            tokens,
            count,
            law=law,
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
