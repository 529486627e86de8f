"""Mask tree: a model drafts for itself and verifies in one evaluation (Yi et al., 2024, SPACE, arXiv:2402.11809).

Mask tokens ask "what comes here?", as PaSS's look-ahead tokens do. PaSS evaluates the model twice in a round, to ask
and to verify. Here a group of masks stands behind the prefix and behind every candidate, so that the answers are there
wherever the verification ends:

::

    x_c ─┬─ d_1 ─┬─ d_2 ─┬─ m_1 ─ m_2        d  candidates, from the last round's masks
         │       │       └─ (the group read if d_1 and d_2 are accepted)
         │       └─ m_1 ─ m_2                m  masks: read, never committed, never kept
         └─ m_1 ─ m_2

Mask j behind the last accepted token x_a guesses x_{a + 1 + j}: x_{a + 1} is the model's own draw. The k masks of a
group and k candidates take k + (k + 1) k nodes, of which those are left out whose guess no row has room for.

Differences from SPACE: there the model itself is trained with masks; here any network that reads mask tokens will do,
such as ``text/pass`` on its frozen base. Verified by matching, at any temperature, where SPACE is greedy: masks draw
with the noise of the position that they guess.

Letters: b batch, k masks of a group, n nodes, v vocabulary. Masks: True = keep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from unisono.errors import UnisonoError
from unisono.verify import Draw, Matching, Method, Prefix, Proposal, Round, Target, first_head

from unisono_text.lossless.entry import Entry, Means

MOST_MASKS = 32
"""Masks of a group at most: 32 make trees of 1,088 nodes."""


@dataclass(frozen=True)
class MaskTree:
    """Propose what the masks behind the last accepted token said; `tokens` are the masks' ids, the nearest first.

    Raises:
        UnisonoError: for no masks, or more than 32.
    """

    tokens: tuple[int, ...]
    brings_law = False

    def __post_init__(self):
        if not self.tokens:
            raise UnisonoError("no mask tokens: give at least one id", code="empty", path="tokens", value=self.tokens)
        if len(self.tokens) > MOST_MASKS:
            raise UnisonoError(
                f"{len(self.tokens)} masks in a group: as many groups are read at once, give at most {MOST_MASKS}",
                code="limit",
                path="tokens",
                value=len(self.tokens),
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        b, device, k = len(prefix.length), prefix.tokens.device, len(self.tokens)
        deepest = int(prefix.room.max()) if b else 0
        if not deepest:
            return Proposal.chain(prefix.tokens[:, :0], prefix.room)
        drafts = self._guesses(prefix, last, draw)[:, :deepest]
        count = drafts.shape[1]
        # Behind i accepted candidates, mask j guesses the candidate of depth i + j of this round, if there is room.
        parents, masks, places = list(range(-1, count - 1)), [], torch.zeros(count + 1, k, dtype=torch.int64)
        for i in range(count + 1):
            above = i - 1
            for j in range(1, min(k, deepest - 1 - i) + 1):
                parents.append(above)
                masks.append(self.tokens[j - 1])
                above = places[i, j - 1] = len(parents) - 1
        reading = torch.tensor(masks, dtype=torch.int64, device=device).expand(b, len(masks))
        real = torch.zeros(b, len(parents), dtype=torch.bool, device=device)
        real[:, :count] = torch.arange(count, device=device) < prefix.room[:, None]
        return Proposal(
            torch.cat([drafts, reading], 1),
            real,
            torch.tensor(parents, dtype=torch.int64, device=device),
            carry=places.to(device),
        )

    def _guesses(self, prefix: Prefix, last: Round | None, draw: Draw) -> Int[Tensor, "b k"]:
        """Return what the masks behind the last accepted token guess; nothing in the first round.

        A mask that was left out guesses what there is no room for: what stands in its place is never real.
        """
        if last is None:
            return prefix.tokens[:, :0]
        b, device = len(prefix.length), prefix.tokens.device
        mine = last.proposal.carry[last.verdict.accepted]
        logits = first_head(last.logits)[torch.arange(b, device=device)[:, None], mine + 1]
        return draw(logits, prefix.seed, prefix.length[:, None] + torch.arange(len(self.tokens), device=device))


def space(tokens: Sequence[int]) -> Method:
    """Masks in the tree that they propose: lossless token by token, one evaluation per round, see `MaskTree`."""
    return Method("SPACE", MaskTree(tuple(tokens)), Matching())


def _make(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    if not means.look_ahead:
        raise UnisonoError(
            "decoding='space' needs mask tokens: take a text/pass or a text/space",
            code="unsupported",
            path="decoding",
            value="space",
        )
    return space(means.look_ahead[: options["num_draft"]])


ENTRY = Entry("space", "token by token", _make, {"num_draft": None})
"""``num_draft``: masks of a group, and so candidates, at most; all that there are by default."""
