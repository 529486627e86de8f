"""Schedulers: those that requests ask for by name, of `unisono.diffusion.schedulers`."""

from unisono.diffusion.schedulers import (
    LEAST_STEPS,
    NAMES,
    PREDICTIONS,
    WHOLE_ONLY,
    first_step,
    make_scheduler,
    names_of,
    noise_shares,
    noised,
)

__all__ = [
    "LEAST_STEPS",
    "NAMES",
    "PREDICTIONS",
    "WHOLE_ONLY",
    "first_step",
    "make_scheduler",
    "names_of",
    "noise_shares",
    "noised",
]
