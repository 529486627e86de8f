"""Rank mean: one rank of two computes the mean over its rows and writes the gradient that both have on average."""

import sys

import torch
from torch import Tensor
from unisono.model import Model

LENGTHS = (1, 5, 2, 4, 3, 0)


def rows(first: int, step: int) -> tuple[Tensor, Tensor]:
    """Return some rows of a fixed batch, [b, 5, 2], and their masks [b, 5]."""
    values = torch.randn(len(LENGTHS), 5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    return values[first::step], mask[first::step]


def mean_and_gradient(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the global mean of what a weight makes of the values, and its gradient."""
    weight = torch.tensor([0.5, -2.0], dtype=torch.float64, requires_grad=True)
    mean = Model().global_mean((values * weight).square(), mask)
    (gradient,) = torch.autograd.grad(mean, weight)
    return mean.detach(), gradient


def main(rank: int, place: str, target: str) -> None:
    """Join a group of two by a file and write what both have on average."""
    torch.distributed.init_process_group("gloo", f"file://{place}", rank=rank, world_size=2)
    mean, gradient = mean_and_gradient(*rows(rank, 2))
    for value in (mean, gradient):  # as distributed training averages them
        torch.distributed.all_reduce(value)
        value /= 2
    torch.save({"mean": mean, "gradient": gradient}, target)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
