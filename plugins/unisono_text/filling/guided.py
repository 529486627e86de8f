"""Guided filling: what a masked model proposes stands as far as a small autoregressive one agrees.

Guided diffusion of FlashDLM (arXiv:2505.21467): in each step the masked model names the likeliest token of every open
position; the autoregressive model reads them all at once, from left to right, and everything up to the first that it
would not have said is committed, with its own word in that place. Published with the likeliest token as the only
agreeable one for some verifiers and looser ones for others; here ``top`` says how many of the guide's likeliest
tokens agree. With 1 the result is the guide's own greedy text, whatever proposes (speculative decoding); with all of
the vocabulary it is the masked model's, in one step for each block.

Differs: the guide reads the whole row in each step and keeps no keys and values.

Shapes: b batch, l positions, k sites, v vocabulary. Masks: True = keep.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.masked import Everything, Plan, StepContext, Strategy

from unisono_text.filling.sampling import LeftToRight

_TOKENS = "guided.tokens"


@dataclass(frozen=True, eq=False)
class Agreement:
    """Of the open positions, those up to the first at which the guide does not agree, it included."""

    guide: Any
    top: int
    static = False

    def __call__(self, score: Float[Tensor, "b l"], at: StepContext) -> Bool[Tensor, "b l"]:
        proposed, window = at.marginals.token, at.window
        heard = at.handle(at.canvas.commit(window, proposed), model=self.guide)
        # What may not stand here, the guide may not say either.
        heard = heard.masked_fill(at.marginals.logits == -torch.inf, -torch.inf)
        better = (heard > heard.gather(-1, proposed[..., None])).sum(-1)
        wrong = (better >= self.top) & window
        at.memo[_TOKENS] = torch.where(wrong, heard.argmax(-1), proposed)
        return window & (wrong.long().cumsum(1) - wrong.long() == 0)

    def rows(self, index: Int[Tensor, " n"]) -> "Agreement":
        return Agreement(self.guide.rows(index), self.top)


@dataclass(frozen=True)
class AgreedToken:
    """The token that stood: what was proposed, or the guide's."""

    exact: ClassVar[bool] = False

    def __call__(
        self, logits: Float[Tensor, "b k v"], sites: Int[Tensor, "b k"], live: Bool[Tensor, "b k"], at: StepContext
    ) -> Int[Tensor, "b k"]:
        return at.memo[_TOKENS].gather(1, sites)


def agreement(guide: Any, top: int) -> Strategy:
    """Return the strategy that asks ``guide`` (`unisono_text.filling.denoise.CausalPrediction`) in each step."""
    return Strategy(Plan(Everything()), LeftToRight(), Agreement(guide, top), AgreedToken(), name="guided")
