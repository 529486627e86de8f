"""Export: the folder that holds a trained model as numbers and text, and nothing that can run.

``load``, ``save_export`` and ``export_run`` are what users call; the rest is for the verbs, plugins and tests.
"""

from unisono.export.about import About
from unisono.export.card import Card, render_card
from unisono.export.layout import ALLOWED_SUFFIXES, CARD, CONFIG, FORMAT, INFO, RECIPE, WEIGHTS, check_tree
from unisono.export.names import Package, Source, find, locate, packages
from unisono.export.read import load, load_component, load_model, parse_components, read_info
from unisono.export.training_state import (
    export_run,
    find_training_state,
    newest_run,
    read_training_state,
    read_weights,
)
from unisono.export.weights import export_state
from unisono.export.write import portable, save_export

__all__ = [
    "ALLOWED_SUFFIXES",
    "CARD",
    "CONFIG",
    "FORMAT",
    "INFO",
    "RECIPE",
    "WEIGHTS",
    "About",
    "Card",
    "Package",
    "Source",
    "check_tree",
    "export_run",
    "export_state",
    "find",
    "find_training_state",
    "load",
    "load_component",
    "load_model",
    "locate",
    "newest_run",
    "packages",
    "parse_components",
    "portable",
    "read_info",
    "read_training_state",
    "read_weights",
    "render_card",
    "save_export",
]
