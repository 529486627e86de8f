"""Prediction: the target of a duration predictor, and its exact inverse.

The target is log(1 + d), so that a token of no length is a number and not minus infinity. The way
back is expm1: a target of log1p with an inverse of exp makes every token one frame longer.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unisono.errors import UnisonoError


def log_durations(durations: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + d) in float32, the regression target of a duration predictor."""
    return torch.log1p(durations.float())


def durations_from_log(
    log_durations: Float[Tensor, "*shape"], max_frames: float | None = None
) -> Float[Tensor, "*shape"]:
    """The inverse of `log_durations`, from 0 to `max_frames`; `round_durations` makes it whole."""
    if max_frames is not None and max_frames <= 0:
        raise UnisonoError(
            f"max_frames={max_frames} must be above 0", code="range", path="max_frames", value=max_frames
        )
    return torch.expm1(log_durations.float()).clamp(min=0, max=max_frames)
