"""Schedulers by name, as requests ask for them; `unisono.diffusion.schedulers` has them."""

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
