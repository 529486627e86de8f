"""OptimSpec: AdamW and its learning-rate schedule, as a recipe's ``optim:`` section gives them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from unisono.errors import RecipeError


@dataclass(frozen=True)
class OptimSpec:
    """AdamW and its schedule, as in a recipe's ``optim:`` section.

    ``schedule`` runs from the end of the linear warm-up to the last step: ``constant``, ``cosine`` (to
    ``min_lr_ratio``), ``linear`` (likewise) or ``inverse_sqrt`` (Vaswani et al. 2017, §5.3, relative to the
    warm-up). ``clip_norm`` 0 switches clipping off. Weight decay spares biases, norms and embeddings.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 1e-6
    warmup_steps: int = 100
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    min_lr_ratio: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self):
        for name, value in (("lr", self.lr), ("eps", self.eps)):
            if not 0 < value < math.inf:
                raise RecipeError(f"optim.{name}={value} must be above 0")
        for name, value in (
            ("weight_decay", self.weight_decay),
            ("warmup_steps", self.warmup_steps),
            ("min_lr_ratio", self.min_lr_ratio),
            ("clip_norm", self.clip_norm),
        ):
            if not 0 <= value < math.inf:
                raise RecipeError(f"optim.{name}={value} must be at least 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"optim.betas={list(self.betas)} must each be in [0, 1)")

    def factor(self, step: int, total_steps: int) -> float:
        """Return the learning rate at a step, relative to ``lr``."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "inverse_sqrt":
            return math.sqrt(max(self.warmup_steps, 1) / max(step, 1))
        span = max(total_steps - self.warmup_steps, 1)
        progress = min((step - self.warmup_steps) / span, 1.0)
        shape = 1 - progress if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * shape

    def optimizer(self, module: nn.Module) -> torch.optim.AdamW:
        """Make AdamW over a module's trainable parameters."""
        decayed, spared = [], []
        embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
        for parameter in module.parameters():
            if parameter.requires_grad:
                plain = parameter.ndim >= 2 and id(parameter) not in embeddings
                (decayed if plain else spared).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": spared, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.lr, betas=self.betas, eps=self.eps)

    def scheduler(self, optimizer: torch.optim.Optimizer, total_steps: int | Callable[[], int]):
        """Make the per-step learning-rate schedule; a function is asked for the run's length at each step."""

        def factor(step: int) -> float:
            return self.factor(step, total_steps() if callable(total_steps) else total_steps)

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
