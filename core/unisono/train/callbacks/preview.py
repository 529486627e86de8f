"""Previews: at each validation the model synthesizes a few fixed requests, within a time budget.

Requests are spread over the ranks, so that rank 0 stalls nobody, and each rank stops when its budget is
spent. What was made goes to ``previews/`` in the run folder and to the loggers that take it. It is made in inference
mode. Whatever goes wrong with a preview is told once, and training goes on.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn

from unisono.errors import UnisonoError
from unisono.media import Media
from unisono.model import Model
from unisono.train.loggers import boards
from unisono.train.strategies.sharded import Sharded
from unisono.train.strategies.whole import gathered, is_sharded


class Previews(Callback):
    """Synthesize ``model.preview_requests()`` after each validation."""

    def __init__(self, folder: Path, seconds: float, stopping: Callable[[], bool] = lambda: False):
        self.folder = folder
        self.stopping = stopping
        self.seconds = seconds
        self._silenced = False
        self._told: set[str] = set()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or self._silenced:
            return
        assert isinstance(pl_module, Model)
        if isinstance(trainer.strategy, Sharded) and trainer.strategy.sizes.tensor > 1:
            self._silenced = True
            self._tell("no previews: layers are shared by processes, which would all have to make the same one")
            return
        training = pl_module.training
        pl_module.eval()
        try:
            # whole on every rank, so that each may take its own steps
            with gathered(pl_module), torch.inference_mode(not is_sharded(pl_module)), torch.no_grad():
                self._make(trainer, pl_module)
        finally:
            pl_module.train(training)

    def _make(self, trainer: Trainer, model: Model) -> None:
        until = time.perf_counter() + self.seconds
        try:
            requests = list(model.preview_requests())
            for index, request in list(enumerate(requests))[trainer.global_rank :: trainer.world_size]:
                if time.perf_counter() > until or self.stopping():
                    break
                try:
                    (made,) = model.synthesize([request])
                    self._keep(trainer, index, made)
                except UnisonoError:
                    raise
                except Exception as error:  # of a model, a library or a medium: none is worth a training
                    self._tell(f"preview {index} failed: {type(error).__name__}: {error}", type(error).__name__)
        except UnisonoError as error:  # no vocoder attached, say: it will be so at every validation
            self._silenced = True
            self._tell(f"no previews: {error}")
        except Exception as error:
            self._silenced = True
            self._tell(f"no previews: {type(error).__name__}: {error}")

    def _tell(self, sentence: str, kind: str = "") -> None:
        if kind not in self._told:
            self._told.add(kind)
            rank_zero_warn(f"{sentence:.400}; training goes on")

    def _keep(self, trainer: Trainer, index: int, made: Media) -> None:
        stem = f"step-{trainer.global_step:07d}-{index}"
        suffix = made.suffixes[0]
        made.save(self.folder / f"{stem}{suffix}")
        figure = made.plot()
        # A medium that is a picture itself keeps its name.
        figure.savefig(self.folder / f"{stem}{'-figure' if suffix.lower() == '.png' else ''}.png", dpi=100)
        for board in boards(trainer.loggers) if trainer.is_global_zero else ():
            made.log(board, f"preview/{index}", trainer.global_step, figure)
