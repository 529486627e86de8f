"""Kernels: blurs made on the spot (Gaussian and of motion), as a prior of kernels learns them.

A kernel sums to 1. A diffusion model sees it scaled so that its largest value is 1, and moved to [−1, 1]; `kernel_of`
is the way back: (k + 1)/2, cut at 0, divided by each kernel's own sum.

Shapes: b batch, k side of a kernel.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit, DataModule, collate_items, derive_seed, hold_out
from unisono.errors import DataError

from unisono_inverse.facts import KernelFacts

__all__ = ["KernelData", "KernelSet", "kernel_of", "made_kernel", "state_of"]

SHARE_GAUSSIAN = 0.5


def made_kernel(draws: Any, size: int) -> Float[np.ndarray, "k k"]:
    """Return a kernel of a NumPy generator's numbers: an uneven Gaussian, or the trace of a walk with inertia."""
    down, right = np.mgrid[:size, :size] - size // 2
    if draws.random() < SHARE_GAUSSIAN:
        wide, narrow = size * (0.06 + 0.2 * draws.random(2))
        angle = np.pi * draws.random()
        along = np.cos(angle) * right + np.sin(angle) * down
        across = -np.sin(angle) * right + np.cos(angle) * down
        kernel = np.exp(-0.5 * ((along / wide) ** 2 + (across / narrow) ** 2))
    else:
        count = int(draws.integers(20, 80))
        turn, steps = 2 * np.pi * draws.random(), 0.1 + 0.05 * draws.random()
        turns = turn + np.cumsum(0.3 * draws.random() * draws.standard_normal(count))
        path = steps * np.stack([np.cumsum(np.sin(turns)), np.cumsum(np.cos(turns))])
        path = path - path.mean(1, keepdims=True)
        reach = np.abs(path).max()
        path = path * min(1.0, (size // 2 - 0.5) / reach) if reach > 0 else path
        apart = (down[None] - path[0][:, None, None]) ** 2 + (right[None] - path[1][:, None, None]) ** 2
        kernel = np.exp(-0.5 * apart / 0.45**2).sum(0)
    return (kernel / kernel.sum()).astype(np.float32)


def state_of(kernel: Float[Tensor, "*b k k"]) -> Float[Tensor, "*b k k"]:
    """Return kernels as a diffusion model sees them."""
    return 2 * kernel / kernel.amax((-2, -1), keepdim=True) - 1


def kernel_of(state: Float[Tensor, "*b k k"]) -> Float[Tensor, "*b k k"]:
    """Return the kernels that states stand for, each divided by its own sum; differentiable."""
    positive = ((state + 1) / 2).clamp_min(0)
    return positive / positive.sum((-2, -1), keepdim=True).clamp_min(1e-3)


class KernelSet:
    """A few known kernels, one as likely as the other: the exact prior that the learnt one is tested beside."""

    def __init__(self, kernels: Float[Tensor, "m k k"]):
        self.kernels = kernels
        self.shape = (1, *kernels.shape[1:])

    def denoiser(self) -> Any:
        """Itself."""
        return self

    def noise_levels(self, num_steps: int) -> Any:
        """Levels of the linear schedule."""
        from unisono.diffusion import linear_table, table_levels

        return table_levels(linear_table(), num_steps)

    def x0(self, x: Float[Tensor, "n 1 k k"], alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> Tensor:
        """The mean of the kernels' states, weighted by how well each explains the row."""
        states = state_of(self.kernels.to(x)).flatten(1)
        a, s = alpha.to(x)[:, None], sigma.to(x)[:, None].clamp_min(1e-6)
        far = (x.flatten(1)[:, None] - a[..., None] * states).square().sum(-1)
        return ((-far / (2 * s * s)).softmax(-1) @ states).reshape(x.shape)


def few_kernels(facts: Any) -> KernelSet:
    """Make the built-in set of eight kernels of 9 × 9 pixels."""
    made = [made_kernel(np.random.default_rng(derive_seed("few", number)), 9) for number in range(8)]
    return KernelSet(torch.from_numpy(np.stack(made)))


class _Kernels:
    def __init__(self, numbers: list[int], side: int, fresh: bool):
        self.numbers, self.side, self.fresh = numbers, side, fresh

    def __len__(self) -> int:
        return len(self.numbers)

    def size(self, index: int) -> int:
        return self.side

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        drawn = int(torch.randint(2**62, (), generator=generator)) if self.fresh else self.numbers[index]
        kernel = made_kernel(np.random.default_rng(derive_seed("kernel", drawn)), self.side)
        return {"kernel": state_of(torch.from_numpy(kernel))[None]}


class KernelData(DataModule):
    """Kernels made on the spot, another one each time.

    Items: ``kernel`` float32 [1, size, size] in [−1, 1].

    Args:
        size: pixels a side, odd.
        num_items: of an epoch.
        val_size: kernels that are validated on, the same each time.
        batch_size, num_workers: as of every data set.
    """

    def __init__(
        self, *, size: int = 9, num_items: int = 8192, val_size: int = 256, batch_size: int = 256, num_workers: int = 0
    ):
        super().__init__(batch_size=batch_size, num_workers=num_workers)
        if size < 3 or size % 2 == 0:
            raise DataError(f"data.size={size} must be odd and at least 3", code="value", path="data.size", value=size)
        self.side, self.num_items, self.val_size = size, num_items, val_size

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("kernels")
        ids = {f"kernel-{number}": 1 for number in range(self.num_items + self.val_size)}
        held = set(hold_out(ids, self.val_size)) if self.val_size else set()
        for name in ids:
            audit.keep(name)
        train = [n for n, name in enumerate(ids) if name not in held]
        self.train_set = _Kernels(train, self.side, fresh=True)
        self.val_set = _Kernels([n for n, name in enumerate(ids) if name in held], self.side, fresh=False)
        self.facts = KernelFacts(size=self.side)
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)
