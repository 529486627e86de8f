"""OptimSpec: the optimiser and its learning-rate schedule, as a recipe's ``optim:`` section gives them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from unisono.errors import RecipeError
from unisono.optim.groups import GroupSpec, Part, parts_of, settle


@dataclass(frozen=True)
class MuonSpec:
    """Muon's own settings; its learning rate and decay are those of ``optim``.

    momentum: of the gradients; Nesterov's where ``nesterov``.
    ns_steps: Newton–Schulz steps of each orthogonalisation.
    adjust: what an update is scaled by: ``match_rms_adamw`` (0.2 √max(rows, columns), arXiv:2502.16982), with which
        AdamW's rate and decay serve, or ``original`` (√max(1, rows / columns)), which wants some 20 times the rate.
    """

    momentum: float = 0.95
    nesterov: bool = True
    ns_steps: int = 5
    adjust: Literal["match_rms_adamw", "original"] = "match_rms_adamw"

    def __post_init__(self):
        if not 0 <= self.momentum < 1:
            raise _refused("muon.momentum", self.momentum, "must be in [0, 1)")
        if not 1 <= self.ns_steps < 100:
            raise _refused("muon.ns_steps", self.ns_steps, "must be from 1 to 99")


@dataclass(frozen=True)
class GaLoreSpec:
    """GaLore's own settings (Zhao et al. 2024, arXiv:2403.03507).

    rank: of the space that gradients of hidden matrices are projected to.
    update_every: steps after which that space is found anew.
    scale: what the projected update is multiplied with (α of the paper).
    """

    rank: int = 128
    update_every: int = 200
    scale: float = 0.25

    def __post_init__(self):
        for name, value in (("rank", self.rank), ("update_every", self.update_every)):
            if value < 1:
                raise _refused(f"galore.{name}", value, "must be at least 1")
        if not 0 < self.scale < math.inf:
            raise _refused("galore.scale", self.scale, "must be above 0 and finite")


@dataclass(frozen=True)
class OptimSpec:
    """The optimiser and its schedule, as in a recipe's ``optim:`` section.

    ``schedule`` runs from the end of the linear warm-up to the last step: ``constant``, ``cosine`` (to
    ``min_lr_ratio``), ``linear`` (likewise) or ``inverse_sqrt`` (Vaswani et al. 2017, §5.3, relative to the
    warm-up). ``clip_norm`` 0 switches clipping off. Weight decay spares biases, norms and embeddings.

    ``optimizer``: ``adamw``, ``muon`` (torch's, for hidden matrices; AdamW for the rest), ``adamw8bit`` (bitsandbytes)
    or ``galore_adamw`` (pytorch-optimizer). ``fused``: one kernel for AdamW's step, on a GPU (``auto``), always or
    never. ``groups``: parameters by pattern, with other rates or decay, or frozen; the first that fits counts.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 1e-6
    warmup_steps: int = 100
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    min_lr_ratio: float = 0.01
    clip_norm: float = 1.0
    optimizer: Literal["adamw", "muon", "adamw8bit", "galore_adamw"] = "adamw"
    fused: Literal["auto"] | bool = "auto"
    groups: tuple[GroupSpec, ...] = ()
    muon: MuonSpec = MuonSpec()
    galore: GaLoreSpec = GaLoreSpec()

    def __post_init__(self):
        for name, value in (("lr", self.lr), ("eps", self.eps)):
            if not 0 < value < math.inf:
                raise _refused(name, value, "must be above 0")
        for name, value in (
            ("weight_decay", self.weight_decay),
            ("warmup_steps", self.warmup_steps),
            ("min_lr_ratio", self.min_lr_ratio),
            ("clip_norm", self.clip_norm),
        ):
            if not 0 <= value < math.inf:
                raise _refused(name, value, "must be at least 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise _refused("betas", list(self.betas), "must each be in [0, 1)")
        if self.fused is True and self.optimizer in ("adamw8bit", "galore_adamw"):
            raise _refused("fused", True, f"does not go with {self.optimizer}, which has no such step", "conflict")

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

    def parts(self, root: nn.Module) -> list[Part]:
        """Return a model's parameters in groups, frozen ones included; raises ``RecipeError`` for wrong patterns."""
        return parts_of(root, self.groups, self.weight_decay, self.optimizer in ("muon", "galore_adamw"))

    def algorithm(self, part: Part) -> str:
        """Return by which algorithm a part is trained."""
        if self.optimizer in ("muon", "galore_adamw") and not part.hidden:
            return "adamw"
        return self.optimizer

    def settle(self, root: nn.Module) -> None:
        """Freeze what ``groups`` freeze; done before a strategy wraps the model, and by ``make`` again."""
        settle(root, self.groups)

    def make(self, module: nn.Module, root: nn.Module | None = None, scaled: bool = False) -> torch.optim.Optimizer:
        """Make the optimiser of a module's trainable parameters.

        Patterns name parameters as ``root`` has them, the module itself where not given. ``scaled`` says that a
        gradient scaler (precision 16-mixed) is at work, which fused steps and clipping do not go with.

        Raises ``RecipeError`` for wrong patterns and where nothing is left to train, and ``MissingExtra``.
        """
        from unisono.optim.make import make

        root = module if root is None else root
        self.settle(root)
        inside = {id(parameter) for parameter in module.parameters()}
        parts, all_parts = [], self.parts(root)
        if self.optimizer in ("muon", "galore_adamw") and not any(part.hidden for part in all_parts):
            raise _refused(
                "optimizer", self.optimizer, "is for matrices inside repeated layers, and none is trained: take adamw",
                "unsupported",
            )  # fmt: skip
        for part in all_parts:
            named = [(name, parameter) for name, parameter in part.named if id(parameter) in inside]
            if named and not part.frozen:
                parts.append(Part(part.group, part.weight_decay, part.hidden, named=named))
        if not parts:
            raise RecipeError(
                f"optim.groups freeze every parameter of {type(module).__name__}: leave one to train",
                code="empty",
                path="optim.groups",
            )
        return make(self, parts, scaled)

    def scheduler(self, optimizer: torch.optim.Optimizer, total_steps: int | Callable[[], int]):
        """Make the per-step learning-rate schedule; a function is asked for the run's length at each step."""

        def factor(step: int) -> float:
            return self.factor(step, total_steps() if callable(total_steps) else total_steps)

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _refused(name: str, value: Any, why: str, code: Any = "range") -> RecipeError:
    return RecipeError(f"optim.{name}={value} {why}", code=code, path=f"optim.{name}", value=value)
