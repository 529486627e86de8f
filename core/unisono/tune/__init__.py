"""Tune: hyper-parameter search by Optuna: a recipe, ranges of some of its values, and a logged value to make better."""

from unisono.tune.ranges import Choices, Range, Ranges, looks_like_range, read_range, read_ranges
from unisono.tune.report import Study, Trial
from unisono.tune.search import tune

__all__ = [
    "Choices",
    "Range",
    "Ranges",
    "Study",
    "Trial",
    "looks_like_range",
    "read_range",
    "read_ranges",
    "tune",
]
