"""Front: what stands before all tokens and is seen by all of them: a class or sentence, and a caption's words.

Shapes: b batch, w places in front, w − 1 words, e channels of the condition, d of the network. Masks: True = there.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.nn.condition import Condition


class Front(nn.Module):
    """Vectors of a condition in front of the tokens; where both have as many channels, the first is as it is.

    Args:
        condition_dim: e.
        dim: d.
        with_words: False where no condition has words.
    """

    def __init__(self, condition_dim: int, dim: int, with_words: bool):
        super().__init__()
        self.told = nn.Identity() if condition_dim == dim else nn.Linear(condition_dim, dim)
        self.words = nn.Linear(condition_dim, dim) if with_words else None

    def forward(self, condition: Condition) -> tuple[Float[Tensor, "b w d"], Bool[Tensor, "b w"]]:
        """Return the vectors, and which of them are there: the first always is."""
        first = self.told(condition.vector)[:, None]
        there = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
        if self.words is None or not condition.words.shape[1]:
            return first, there
        words = self.words(condition.words).to(first.dtype)
        return torch.cat([first, words], 1), torch.cat([there, condition.mask], 1)
