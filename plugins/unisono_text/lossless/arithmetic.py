"""Arithmetic sampling: diverse samples of one prompt, drawn side by side (Vilnis et al., 2023, arXiv:2210.15458).

A sample is a number in [0, 1): each token is the one whose interval of the distribution function holds it, and the
interval is stretched to [0, 1) for the next. N samples start on a lattice of N numbers with one random shift. Each
alone follows the model; together they spread over it evenly, as N independent ones do not, and need nothing of each
other.

One token per evaluation: the draw at a position depends on those before it, so that nothing can be proposed.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from unisono.masked import ArithmeticCodes, Canvas, Layout, StepContext
from unisono.verify import Draw, Method, Nothing, Prefix, Proposal, Verdict


@dataclass
class Coded:
    """Draw the next token by a row's code: row seeds m·n … m·n + n − 1 are the lattice of n = `num_samples`.

    It remembers the codes: make one for each call of ``decode``.
    """

    num_samples: int
    lossless = True
    _memo: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, prefix: Prefix, proposal: Proposal, logits: Tensor, draw: Draw) -> Verdict:
        b, device = len(logits), logits.device
        canvas = Canvas.blank(Layout.sequence(1, logits.shape[-1]), prefix.seed, device=device)
        neither: Any = None  # codes look at neither network nor plan
        moment = StepContext(canvas, neither, neither, self._memo)
        tokens = ArithmeticCodes(self.num_samples)(
            draw.law(logits[:, :1]).log(), prefix.length[:, None], ~prefix.done[:, None], moment
        )
        path = torch.zeros(b, 0, dtype=torch.int64, device=device)
        return Verdict(path, torch.zeros(b, dtype=torch.int64, device=device), tokens[:, 0])


def arithmetic(num_samples: int) -> Method:
    """One token per evaluation, drawn by arithmetic codes: each row follows the target's law."""
    return Method("arithmetic", Nothing(), Coded(num_samples))
