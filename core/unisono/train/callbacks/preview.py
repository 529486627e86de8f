"""Previews: at each validation the model synthesizes a few fixed requests, within a time budget.

Requests are spread over the ranks, so that rank 0 stalls nobody, and each rank stops when its budget is
spent. What was made goes to ``previews/`` in the run folder and to TensorBoard.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn

from unisono.errors import UnisonoError
from unisono.media import Audio, Text


class Previews(Callback):
    """Synthesize ``model.preview_requests()`` after each validation."""

    def __init__(self, folder: Path, seconds: float):
        self.folder = folder
        self.seconds = seconds
        self._silenced = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or self._silenced:
            return
        requests = list(pl_module.preview_requests())  # type: ignore[operator]
        mine = list(enumerate(requests))[trainer.global_rank :: trainer.world_size]
        until = time.perf_counter() + self.seconds
        training = pl_module.training
        pl_module.eval()
        try:
            for index, request in mine:
                if time.perf_counter() > until:
                    break
                with torch.inference_mode():
                    (made,) = pl_module.synthesize([request])  # type: ignore[operator]
                self._keep(trainer, index, made)
        except UnisonoError as error:  # no vocoder attached, say: told once, and training goes on
            self._silenced = True
            rank_zero_warn(f"no previews: {error}")
        finally:
            pl_module.train(training)

    def _keep(self, trainer: Trainer, index: int, made: Any) -> None:
        stem = self.folder / f"step-{trainer.global_step:07d}-{index}"
        made.save(stem.with_suffix(made.suffixes[0]))
        figure = made.plot()
        figure.savefig(stem.with_suffix(".png"), dpi=100)
        board = getattr(trainer.logger, "experiment", None) if trainer.is_global_zero else None
        if board is not None and hasattr(board, "add_figure"):
            board.add_figure(f"preview/{index}", figure, trainer.global_step)
            if isinstance(made, Audio):
                samples = torch.from_numpy(np.ascontiguousarray(made.waveform[:1]))
                board.add_audio(f"preview/{index}", samples, trainer.global_step, made.sample_rate)
            elif isinstance(made, Text):
                # It is read as Markdown: indented, a text stays what it is.
                lines = "\n".join(f"    {line}" for line in made.text.split("\n"))
                board.add_text(f"preview/{index}", lines, trainer.global_step)
