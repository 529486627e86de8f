"""Precision: weights that sound can be made with."""

import torch
from torch import nn
from unisono.errors import RequestError

__all__ = ["check_precision"]


def check_precision(model: nn.Module) -> None:
    """Raise ``RequestError`` where a model's weights have fewer than 32 bits.

    Phases, levels and sums of durations do not bear half precision; ``torch.autocast`` runs in it what can.
    """
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    if dtype.itemsize < 4:
        name = str(dtype).removeprefix("torch.")
        message = (
            f"the weights of this {type(model).__name__} are {name}, and sound is made with 32 bits: call .float(), "
            'and ask under torch.autocast("cuda", torch.bfloat16) for speed'
        )
        raise RequestError(message, code="unsupported", path="dtype", value=name)
