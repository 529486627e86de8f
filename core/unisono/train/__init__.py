"""Training: Lightning's Trainer with what a generator needs around it. Lightning is loaded by the first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unisono.train.run import RunResult, train

__all__ = ["RunResult", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'unisono.train' has no attribute {name!r}")
    return getattr(import_module("unisono.train.run"), name)
