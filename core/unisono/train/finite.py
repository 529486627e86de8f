"""Finite: a step whose loss or gradient is NaN or infinite is not taken.

The check comes before the optimiser's step, so that the weights stay finite: the run stops with the step, the part of
the loss and the items of the batch, or, with ``run.skip_nonfinite``, leaves the step out and counts it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from unisono.data import ReplayableLoader
from unisono.errors import UnisonoError
from unisono.model import Model
from unisono.train.callbacks.checkpoints import KeepState
from unisono.train.states.boundary import Boundary
from unisono.train.strategies.whole import local

MOST_IN_A_ROW = 100
"""Steps in a row that are skipped before the run stops all the same."""
MOST_NAMED = 8


class NonFiniteError(UnisonoError):
    """A loss or a gradient is NaN or infinite.

    Attributes:
        step: steps that were finished before.
        parts: parts of the loss (``loss`` where it has none), else parameters, that are not finite.
        rows: the indices of the batch's items in the training set, over all ranks.
    """

    def __init__(self, message: str, step: int, parts: list[str], rows: list[int]):
        super().__init__(message, code="value", path=parts[0] if parts else None, value=step)
        self.step, self.parts, self.rows = step, parts, rows


class Finite(Callback):
    """Check each step before it is taken; ``skipped`` counts those that were left out."""

    def __init__(self, skip: bool, keep: KeepState):
        self.skip = skip
        self.keep = keep
        self.skipped = 0
        self._in_a_row = 0
        self._skipped_now = False
        self._stepped = False
        self._boundary = Boundary()
        self._losses: list[Tensor] = []
        self._parts: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._skipped_now = self._stepped = False
        self._boundary.mark(trainer, pl_module)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())
        if isinstance(pl_module, Model):
            for name, value in pl_module.step_losses.items():
                before = self._parts.get(name)  # of a batch whose gradient is accumulated: NaN and infinity stay
                self._parts[name] = value if before is None else before + value

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        losses, parts = self._losses, self._parts
        self._losses, self._parts = [], {}
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        precision = trainer.precision_plugin
        scaled = isinstance(precision, MixedPrecision) and precision.scaler is not None
        # infinite gradients are how a scaler of float16 finds its scale; it skips those steps itself
        if _all_finite(losses if scaled else [*losses, *(p.grad for p in parameters)], trainer, pl_module.device):
            self._stepped = True
            return
        if self.skip and self._in_a_row < MOST_IN_A_ROW:
            for parameter in parameters:
                parameter.grad = None
            self._boundary.restore_buffers()
            self._skipped_now = True
            return
        self._refuse(trainer, pl_module, parts, parameters)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        if self._skipped_now:
            self.skipped += 1
        self._in_a_row = self._in_a_row + 1 if self._skipped_now else 0
        if self.skip:
            pl_module.log("train/skipped", float(self.skipped), rank_zero_only=True)

    def _refuse(
        self, trainer: Trainer, pl_module: LightningModule, parts: dict[str, Tensor], parameters: list[Any]
    ) -> None:
        wrong = {name: float(value) for name, value in parts.items() if not bool(value.isfinite().all())}
        if len(wrong) > 1:
            wrong.pop("loss", None)
        names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        ill = [names.get(id(p), "a parameter") for p in parameters if not bool(local(p.grad).isfinite().all())]
        if trainer.world_size > 1:
            everyone: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(everyone, (wrong, ill))
            wrong = {name: value for theirs, _ in everyone for name, value in theirs.items()}
            ill = list(dict.fromkeys(name for _, theirs in everyone for name in theirs))  # each has parts of its own
        step, rows = trainer.global_step, _rows(trainer)
        if not self._stepped:  # else another optimiser, of discriminators, is a step ahead: what was saved stays
            self._boundary.restore(trainer)
            self.keep.save_before_step(trainer)
        if wrong:
            what = ", ".join(f"train/{name} is {value}" for name, value in wrong.items())
        elif ill:
            more = f" and of {len(ill) - 1} more parameters" if len(ill) > 1 else ""
            what = f"the loss is finite, the gradient of {ill[0]}{more} is not"
        else:
            what = "the loss is not finite"
        items = ", ".join(map(str, rows[: 4 * MOST_NAMED])) + ("…" if len(rows) > 4 * MOST_NAMED else "")
        kept = f"the last finite state is {self.keep.last}" if self.keep.last else "no state was saved before"
        fix = (
            f"{MOST_IN_A_ROW} steps in a row were skipped: lower optim.lr, or look at the data"
            if self.skip
            else "look at these items, lower optim.lr, or leave such steps out with --run.skip_nonfinite=true"
        )
        raise NonFiniteError(
            f"step {step}: {what} (items {items} of the training set); {kept}; {fix}", step, list(wrong) or ill, rows
        )


def _all_finite(values: list[Any], trainer: Trainer, device: torch.device) -> bool:
    """Whether all tensors are finite, on all ranks."""
    parts = [part for value in values if (part := local(value)).numel()]
    wrong = torch.zeros((), device=device)
    if parts:
        wrong = _not_finite(parts, 2, device)
        # a sum of squares may overflow where every value is finite; the largest magnitude cannot, and is 7 × slower
        if bool(wrong):
            wrong = _not_finite(parts, float("inf"), device)
    if trainer.world_size > 1:
        torch.distributed.all_reduce(wrong, torch.distributed.ReduceOp.MAX)
    return not bool(wrong)


def _not_finite(parts: Sequence[Tensor], order: float, device: torch.device) -> Tensor:
    """1 where a norm of a tensor is NaN or infinite, else 0."""
    norms = torch.ops.aten._foreach_norm(parts, order)
    return (~torch.stack([norm.float().to(device) for norm in norms]).isfinite()).any().float()


def _rows(trainer: Trainer) -> list[int]:
    """The items of the batch in progress, over all ranks."""
    loader = trainer.train_dataloader
    if not isinstance(loader, ReplayableLoader):
        return []
    # the loader's position counts finished batches, and this one is not
    epoch, step = loader.position()
    return [int(row) for row in loader.plan.batches(epoch)[step]]
