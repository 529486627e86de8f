"""Parallel draft: a diffusion model drafts several tokens in one evaluation (Xiao et al., 2024, arXiv:2410.05589).

::

    prefix  x_1 … x_c  [mask] [mask] [mask]      one evaluation of a masked model: q_1, q_2, q_3
                          x̂      x̂      x̂        each drawn from its own q
    target  one evaluation, then rejection: kept with min(1, p / q)

ParallelSpec trains a drafter that reads mask tokens; a masked diffusion model is such a drafter as it stands. The
draft's law is the product of the marginals. That is not how text is written, but rejection asks only that each token
was drawn from the q that stands beside it: the result follows the target exactly, whatever the drafter.

Every row sees its own prefix and exactly as many masks as are drafted, so that it drafts the same alone and in a
batch: rows of unequal length are evaluated one after the other.

Letters: b batch, n drafted tokens, v vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from unisono.checks import is_whole
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Handle, Layout, random
from unisono.verify import Draw, Method, Prefix, Proposal, Rejection, Round, Target, sample


@dataclass(frozen=True)
class ParallelDraft:
    """A masked model draws the next `num_draft` tokens from its marginals, all at once.

    Args:
        model: as `unisono.masked.Handle` takes it.
        vocab_size: of the model, which must be the target's.
        num_draft: tokens of a draft at most.
        skip: leading tokens of a prefix that the model does not know, such as a start token.
        window: tokens before the draft that the model sees at most; None is all.
    """

    model: Any
    vocab_size: int
    num_draft: int = 4
    skip: int = 0
    window: int | None = None
    brings_law = True

    def __post_init__(self):
        if not is_whole(self.num_draft, 1):
            raise UnisonoError(
                f"num_draft is {self.num_draft!r}: give a whole number of at least 1",
                code="range",
                path="num_draft",
                value=self.num_draft,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        b, device = len(prefix.length), prefix.tokens.device
        count = prefix.room.clamp_max(self.num_draft)
        n = int(count.max()) if b else 0
        tokens = prefix.tokens.new_zeros(b, n)
        law = torch.zeros(b, n, self.vocab_size, dtype=torch.float64, device=device)
        nfe = positions = 0
        sizes = list(zip(prefix.length.tolist(), count.tolist(), strict=True))
        for size, num in sorted({pair for pair in sizes if pair[1]}):
            rows = torch.tensor([i for i, pair in enumerate(sizes) if pair == (size, num)], device=device)
            begin = self.skip if self.window is None else max(self.skip, size - self.window)
            canvas = Canvas.blank(
                Layout.sequence(size - begin + num, self.vocab_size), prefix.seed[rows], device=device
            )
            given = torch.nn.functional.pad(prefix.tokens[rows, begin:size], (0, num))
            canvas = canvas.freeze(given, torch.arange(size - begin + num, device=device) < size - begin)
            handle = Handle(self.model)
            query = (size - begin + torch.arange(num, device=device)).expand(len(rows), num)
            marginals = draw.law(handle(canvas, query))
            where = size + torch.arange(num, device=device).expand(len(rows), num)
            drawn = sample(marginals, prefix.seed[rows], where, random.PROPOSE)
            tokens[rows[:, None], torch.arange(num, device=device)] = drawn
            law[rows[:, None], torch.arange(num, device=device)] = marginals
            nfe, positions = nfe + handle.nfe, positions + handle.positions
        return Proposal.chain(tokens, count, law=law, vocab_size=self.vocab_size, nfe=nfe, positions=positions)


def parallel_speculative(
    model: Any, vocab_size: int, num_draft: int = 4, skip: int = 0, window: int | None = None
) -> Method:
    """A diffusion drafter and residual rejection: the target's law exactly, in one draft evaluation per round."""
    return Method("parallel speculative", ParallelDraft(model, vocab_size, num_draft, skip, window), Rejection())
