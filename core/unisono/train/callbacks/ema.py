"""EMA: exponential moving average of the weights, with a warm-up for short runs."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unisono.train.strategies.whole import local, reshard, whole_state


class WeightEMA(Callback):
    """An average of decay ``min(decay, (1 + n) / (10 + n))`` after n updates, sharded as the weights are.

    Without the warm-up an average of decay 0.999 is, after 300 steps, still three quarters the random
    initialisation. Validation, previews and exports use the average; resuming continues from the raw weights.
    The average replaces the weights only after the last state is saved, so that a finished run can be extended.
    States have Lightning's form (``WeightAveraging``), which copies a model, and so cannot be given a sharded one.

    Attributes:
        averages: by name; this rank's part where weights are sharded. Empty before training.
        count: updates so far.
    """

    def __init__(self, decay: float = 0.999):
        self.decay = decay
        self.averages: dict[str, Tensor] = {}
        self.count = 0
        self._weights: dict[str, nn.Parameter] = {}
        self._latest = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(pl_module)
        if not self.averages:
            self._begin()
        for name, weight in self._weights.items():  # a state is read before the model is moved
            self.averages[name] = self.averages[name].to(weight.device)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step <= self._latest:
            return
        self._latest = trainer.global_step
        share = 1.0 if self.count == 0 else 1.0 - min(self.decay, (1 + self.count) / (10 + self.count))
        for name, weight in self._weights.items():
            mean, new = local(self.averages[name]), local(weight)
            if self.count == 0 or not mean.is_floating_point():
                mean.copy_(new)
            else:
                mean.lerp_(new.to(mean), share)
        self.count += 1

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(pl_module)

    @torch.no_grad()
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        reshard(pl_module)
        for name, weight in self._weights.items():
            local(weight).copy_(local(self.averages[name]))

    def state_dict(self) -> dict[str, Any]:
        return {"latest_update_step": self._latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._latest = state_dict["latest_update_step"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self.averages:
            return
        current = checkpoint["state_dict"]
        names = {id(weight): name for name, weight in self._weights.items()}
        averages = {
            name: self.averages[names[id(parameter)]]
            for name, parameter in pl_module.named_parameters(remove_duplicate=False)
            if id(parameter) in names
        }
        checkpoint["current_model_state"] = current
        if not any(isinstance(value, DTensor) for value in current.values()):
            averages = whole_state(averages, bool(current))  # as the weights are given
        checkpoint["state_dict"] = {**current, **averages}
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self.count)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._look(pl_module)
        self._begin()  # the weights are the average, where there was one
        if "current_model_state" in checkpoint:
            self.count = int(checkpoint["averaging_state"]["n_averaged"])
            trainer.strategy.load_model_state_dict({"state_dict": checkpoint["current_model_state"]})

    def _look(self, model: LightningModule) -> None:
        reshard(model)
        self._weights = dict(model.named_parameters())

    @torch.no_grad()
    def _begin(self) -> None:
        self.averages = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def _swap(self, model: LightningModule) -> None:
        """Exchange the weights and their averages; there are none before training."""
        if not self.averages:
            return
        reshard(model)
        for name, weight in self._weights.items():
            mean, new = local(self.averages[name]), local(weight)
            kept = mean.clone()
            mean.copy_(new)
            new.copy_(kept)
