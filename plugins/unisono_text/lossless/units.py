"""Lexical units: what a model is confident of behind masks is emitted without verification (LUD): lossy.

Sun et al., 2024, "Decoding at the Speed of Thought: Harnessing Parallel Decoding of Lexical Units for LLMs"
(arXiv:2405.15208). One evaluation a round:

::

    x_1 … x_c   d_1 d_2   M M M
            │         │   │ │ │
            .         x   e_1 …      x is the model's own next token, e_1 … what it says behind the masks

d is what was emitted behind the masks of the round before. x is emitted always, then e_1, e_2, … while the model's
probability of every one, x included, is above alpha. The next round reads them as text, with new masks behind.

Each e is a token of a marginal: it was drawn without knowing what came before it. So the text does not follow the
model's law; the lower alpha, the further from it, and the fewer evaluations. With alpha near 1 it is plain decoding.
Probabilities are those of the network at temperature 1, whatever the temperature of the draw. Differs: nothing here
keeps units from repeating, as the paper's decoding does.

Shapes: b batch, n nodes, k masks, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError
from unisono.verify import Draw, Method, Prefix, Proposal, Round, Target, Verdict

from unisono_text.lossless.entry import Entry, Means

ALPHA = 0.9
"""Where a request does not say."""


@dataclass(frozen=True)
class MaskedSpan:
    """Propose what was said behind masks in the last round, and put masks behind it.

    The masks are nodes that are not real. Every row has its own number of proposed tokens, so that its masks begin
    elsewhere than another's: nodes are a chain all the same, of tokens first and masks then.

    Args:
        tokens: ids of the masks.
        alpha: tokens are proposed while the probability of each, and of the token before them, is above it.
    """

    tokens: tuple[int, ...]
    alpha: float = ALPHA
    brings_law = True

    def __post_init__(self):
        if not self.tokens:
            raise UnisonoError("no masks: give at least one id", code="empty", path="tokens", value=self.tokens)
        check_alpha(self.alpha)

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        k, device = len(self.tokens), prefix.tokens.device
        masks = torch.tensor(self.tokens, dtype=torch.int64, device=device)
        count, said, law = torch.zeros_like(prefix.length), prefix.tokens[:, :0], None
        if last is not None:
            said, law, count = self._said(prefix, last, draw)
        n = int(count.max()) + k if len(count) else k
        at = (
            torch.arange(n, device=device) - count[:, None]
        )  # negative: a token; 0 to k − 1: a mask; k and more: padding
        tokens = masks[at.clamp(0, k - 1)]
        if said.shape[1]:
            tokens = torch.where(at < 0, said[:, torch.arange(n, device=device).clamp_max(k - 1)], tokens)
        wide = None if law is None else torch.nn.functional.pad(law[:, :n], (0, 0, 0, max(n - k, 0)))
        return Proposal(tokens, at < 0, torch.arange(n, device=device) - 1, law=wide, carry=count)

    def _said(self, prefix: Prefix, last: Round, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """What was said behind the last round's masks, the laws of it, and how much of it is confident."""
        k, device = len(self.tokens), prefix.tokens.device
        logits = last.logits if last.logits.dim() == 3 else last.logits[:, :, 0]
        row = torch.arange(len(logits), device=device)
        behind = last.proposal.carry[:, None] + 1 + torch.arange(k, device=device)
        laws = logits[row[:, None], behind].double()
        said = draw(laws, prefix.seed, prefix.length[:, None] + torch.arange(k, device=device))
        law = laws.softmax(-1)
        own = logits[row, last.leaf].double().softmax(-1).gather(1, last.verdict.token[:, None])
        sure = torch.cat([own, law.gather(2, said[:, :, None])[:, :, 0]], 1) > self.alpha
        # Masks stood behind all that was proposed: what they say is void where a part of it was not committed.
        whole = (last.verdict.accepted == last.proposal.carry)[:, None]
        count = (sure & whole).long().cumprod(1)[:, 1:].sum(1)
        return said, law, torch.minimum(count, prefix.room)


@dataclass(frozen=True)
class Confident:
    """Accept a node while its proposer's probability of every node up to it is above `alpha`: lossy.

    What the target thinks of them is not asked. The proposal must be a chain that holds the distribution from which
    each token was drawn.

    Args:
        alpha: in (0, 1).
    """

    alpha: float = ALPHA
    lossless = False

    def __post_init__(self):
        check_alpha(self.alpha)

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Float[Tensor, "b n+1 v"], draw: Draw) -> Verdict:
        n, device = proposal.tokens.shape[1], proposal.tokens.device
        nodes = torch.arange(n, device=device)
        if bool(proposal.real.any()) and proposal.law is None:
            raise UnisonoError(
                "confidence is read from the law of each proposed token, and this proposal has none: use Matching",
                code="unsupported",
                path="proposal",
            )
        if proposal.parent is not None and not torch.equal(proposal.parent, nodes - 1):
            raise UnisonoError(
                "confidence ends a chain, and this proposal is a tree: use Typical", code="unsupported", path="proposal"
            )
        accepted = torch.zeros_like(prefix.length)
        if proposal.law is not None:
            inside = proposal.tokens.clamp_max(proposal.law.shape[-1] - 1)  # masks have ids behind the vocabulary
            p = proposal.law.gather(2, inside[:, :, None])[:, :, 0]
            accepted = (proposal.real & (p > self.alpha)).long().cumprod(1).sum(1)
        positions = prefix.length[:, None] + torch.arange(n + 1, device=device)
        drawn = draw(logits, prefix.seed, positions)
        return Verdict(nodes.expand(len(accepted), n), accepted, drawn.gather(1, accepted[:, None])[:, 0], drawn)


def lexical_units(tokens: Sequence[int], alpha: float = ALPHA) -> Method:
    """Emit what the model says behind masks (ids `tokens`) while it is confident: lossy, one evaluation a round."""
    return Method("lexical units", MaskedSpan(tuple(tokens), alpha), Confident(alpha))


def check_alpha(alpha: float) -> None:
    """Raise ``UnisonoError`` for an alpha that is not in (0, 1)."""
    if not is_real(alpha, 0, 1) or not 0 < alpha < 1:
        raise UnisonoError(
            f"alpha={alpha!r} must be above 0 and below 1: a token is emitted where its probability is above it",
            code=fault_of(alpha),
            path="alpha",
            value=alpha,
        )


def _lud(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    if not means.look_ahead:
        raise UnisonoError(
            "decoding='lud' needs masks behind which the model was tuned to speak: take a text/space, or a text/pass",
            code="unsupported",
            path="decoding",
            value="lud",
        )
    return lexical_units(means.look_ahead[: options["num_draft"]], options["alpha"])


LUD = Entry("lud", "lossy", _lud, {"alpha": ALPHA, "num_draft": None})
