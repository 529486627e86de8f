"""Trial: pictures made on the spot, of the prior's size, for previews and checks; nothing is learnt of them.

Items: ``image`` float32 [3, size, size] in [−1, 1].
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from unisono.data import Audit, DataModule, collate_items, derive_seed

from unisono_inverse.facts import RestorerFacts

__all__ = ["TrialData", "trial_picture"]


def trial_picture(number: int, height: int, width: int) -> Float[np.ndarray, "3 h w"]:
    """Return a picture in [0, 1]: a slope of two colours with a disc and a bar in two others."""
    draws = np.random.default_rng(derive_seed("trial", number)).random(20)
    down, right = np.mgrid[:height, :width].astype(float)
    down, right = (down + 0.5) / height, (right + 0.5) / width
    colours = draws[:12].reshape(4, 3, 1, 1)
    slope = draws[12] * down + (1 - draws[12]) * right
    picture = colours[0] * (1 - slope) + colours[1] * slope
    disc = np.hypot(down - 0.25 - 0.5 * draws[13], right - 0.25 - 0.5 * draws[14]) < 0.12 + 0.15 * draws[15]
    bar = np.abs(draws[16] * down + (1 - draws[16]) * right - 0.2 - 0.5 * draws[17]) < 0.05 + 0.05 * draws[18]
    return np.where(disc, colours[2], np.where(bar, colours[3], picture)).astype(np.float32)


class _Pictures:
    def __init__(self, numbers: range, side: int):
        self.numbers, self.side = numbers, side

    def __len__(self) -> int:
        return len(self.numbers)

    def size(self, index: int) -> int:
        return self.side

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        picture = trial_picture(self.numbers[index], self.side, self.side)
        return {"image": torch.from_numpy(picture) * 2 - 1}


class TrialData(DataModule):
    """Pictures to try a restorer on.

    Args:
        size: pixels a side, which must be those of the prior.
        num_items: how many.
        batch_size, num_workers: as of every data set.
    """

    def __init__(self, *, size: int = 32, num_items: int = 8, batch_size: int = 4, num_workers: int = 0):
        super().__init__(batch_size=batch_size, num_workers=num_workers)
        self.side, self.num_items = size, num_items

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pictures")
        self.facts = RestorerFacts(size=self.side)
        self.train_set = _Pictures(range(self.num_items), self.side)
        for number in self.train_set.numbers:
            audit.keep(f"trial-{number}")
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)
