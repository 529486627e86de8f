"""Repeatability: randomness per step, and one plugin set on all ranks."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from unisono import plugin as plugins
from unisono.errors import PluginError
from unisono.train.strategies.sharded import data_ranks


class StepSeed(Callback):
    """Draw each training step's noise (dropout) from (seed, step, rank) and nothing else.

    Layers such as dropout read the process-wide generator and take no other. Setting it per step makes a
    resumed run equal an uninterrupted one without saving any generator state; it is put back afterwards.
    """

    def __init__(self, seed: int):
        self.base = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed)))
        self._before: torch.Tensor | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._before = torch.random.get_rng_state()
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        rank, _ = data_ranks(trainer)  # processes that share a layer drop the same
        seed = (self.base + 1_000_003 * step + rank) % 2**63
        if pl_module.device.type == "cpu":  # torch.random would write a traceback for devices that are not in use
            torch.default_generator.manual_seed(seed)
        else:
            torch.random.manual_seed(seed)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        if self._before is not None:
            torch.random.set_rng_state(self._before)
            self._before = None


class SamePlugins(Callback):
    """Compare (plugin, distribution, version) over all ranks once, at the start."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1:
            return
        mine = sorted(found.identity for found in plugins.discover().values())
        everyone: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(everyone, mine)
        for rank, theirs in enumerate(everyone):
            if theirs != everyone[0]:
                raise PluginError(
                    f"rank {rank} has other plugins than rank 0: {theirs} against {everyone[0]}; "
                    "install the same versions on every machine",
                    code="conflict",
                    value=rank,
                )
