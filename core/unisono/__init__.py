"""Unisono: train and use non-autoregressive generators of speech, sound, images, motion and text.

Importing this package loads no torch; the heavy names below are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from unisono.plugin import PLUGIN_API, Plugin, Verb

__version__ = "0.1.0"

_LAZY = {
    "load": "unisono.export",
    "Model": "unisono.model",
    "Request": "unisono.request",
    "OptimSpec": "unisono.optim",
    "Synthesizer": "unisono.synthesis",
    "Recipe": "unisono.recipe",
    "DataModule": "unisono.data",
    "Audio": "unisono.media",
    "Image": "unisono.media",
    "Media": "unisono.media",
    "Segment": "unisono.media",
    "Text": "unisono.media",
    "UnisonoError": "unisono.errors",
}

if TYPE_CHECKING:
    from unisono.data import DataModule
    from unisono.errors import UnisonoError
    from unisono.export import load
    from unisono.media import Audio, Image, Media, Segment, Text
    from unisono.model import Model
    from unisono.optim import OptimSpec
    from unisono.recipe import Recipe
    from unisono.request import Request
    from unisono.synthesis import Synthesizer

__all__ = [
    "PLUGIN_API",
    "Audio",
    "DataModule",
    "Image",
    "Media",
    "Model",
    "OptimSpec",
    "Plugin",
    "Recipe",
    "Request",
    "Segment",
    "Synthesizer",
    "Text",
    "UnisonoError",
    "Verb",
    "__version__",
    "load",
]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'unisono' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
