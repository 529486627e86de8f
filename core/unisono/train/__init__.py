"""Training: Lightning's Trainer with what a generator needs around it."""

from unisono.train.run import RunResult, train

__all__ = ["RunResult", "train"]
