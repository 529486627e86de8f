"""Short runs: a tiny recipe trained for a few steps in a test's folder, what it left, and a callback that ends it."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from unisono.recipe import Recipe
from unisono.train import train

QUIET = ("--trainer.enable_model_summary=false", "--run.preview_seconds=0")


def recipe(folder: Path, *overrides: str, name: str = "codec/vocos-tiny", steps: int = 4) -> Recipe:
    """A recipe that trains a few steps, prints little and previews nothing."""
    return Recipe.read(name, [f"--run.dir={folder}", f"--trainer.max_steps={steps}", *QUIET, *overrides])


def fit(recipe: Recipe, **kwargs: Any) -> Any:
    """Train, and return the run's result."""
    result = train(recipe, progress=False, **kwargs)
    assert result is not None
    return result


def last(result: Any) -> dict[str, Any]:
    """The state that a run left."""
    return torch.load(result.folder / "checkpoints/last.ckpt", weights_only=True)


class Kill(Callback):
    """Ends a run with a ``KeyError`` before a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KeyError("killed")
