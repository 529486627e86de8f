"""Evaluators: where the rows of a round are evaluated. This one: here, in one batch.

Evaluators over several devices are in `unisono.diffusion.devices`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.diffusion.chain.tree import rows
from unisono.diffusion.limits import whole

Evaluate = Callable[[Any, Int[Tensor, " n"], Int[Tensor, " n"]], Any]


class Evaluator(Protocol):
    """Evaluates the rows of a round; `pure` False says that outputs depend on earlier calls."""

    @property
    def pure(self) -> bool: ...

    def __call__(self, evaluate: Evaluate, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        """The outputs of all rows, in their order."""
        ...

    def agree(self, counts: Sequence[int]) -> list[int]:
        """The accepted steps per lane, the same for all who take part."""
        ...


@dataclass(frozen=True)
class Local:
    """One call on this device; `multiple` pads the rows, so that a compiled network sees few batch sizes."""

    multiple: int = 1

    @property
    def pure(self) -> bool:
        return True

    def __post_init__(self):
        whole("Local.multiple", self.multiple)

    def __call__(self, evaluate: Evaluate, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        n = len(step)
        if n % self.multiple == 0:
            return evaluate(x, step, sample)
        index = torch.arange(-(-n // self.multiple) * self.multiple, device=step.device).clamp_max(n - 1)
        return rows(evaluate(rows(x, index), step[index], sample[index]), slice(n))

    def agree(self, counts: Sequence[int]) -> list[int]:
        return list(counts)
