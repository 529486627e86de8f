"""Prompts: recordings whose voice is asked for, prepared as training recordings were; and buzzes to try a model with.

Shapes: n samples.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import RequestError
from unisono_sound.corpus import SoundOptions, level, trim
from unisono_sound.signal import resample

from unisono_convert.request import ConversionRequest
from unisono_convert.sound import source_of

__all__ = ["buzz", "prepared", "prompt_of"]

SECONDS = (0.3, 60.0)
"""How short and how long a prompt may be."""
SILENT = 1e-3
"""A prompt whose samples lie this near to their middle is silent."""


def prompt_of(request: ConversionRequest, rate: int, sound: SoundOptions) -> Float[Tensor, "n"]:
    """Return a request's prompt at a rate, trimmed and levelled.

    Raises ``RequestError`` for one that cannot be read, is too short, too long or silent.
    """
    field = "prompt" if request.prompt is not None else "prompt_samples"
    source = source_of(request.prompt, request.prompt_samples, request.prompt_rate or rate, field)
    shortest, longest = SECONDS
    held, count = [], 0
    for block in source.blocks():
        held.append(block)
        count += len(block)
        if count > longest * source.rate:
            message = f"the prompt is longer than {longest:g} s: give a shorter one"
            raise RequestError(message, code="limit", path=field, value=longest)
    if count < shortest * source.rate:
        seconds = count / source.rate
        message = f"the prompt holds {seconds:.2f} s: give at least {shortest:g} s"
        raise RequestError(message, code="range", path=field, value=seconds)
    wave = torch.from_numpy(np.concatenate(held))
    if float(wave.max() - wave.min()) < 2 * SILENT:  # an offset is no voice either
        message = "the prompt is silent: give a recording of a voice"
        raise RequestError(message, code="empty", path=field, value=request.prompt)
    return prepared(resample(wave, source.rate, rate), rate, sound)


def prepared(wave: Float[Tensor, "k"], rate: int, sound: SoundOptions) -> Float[Tensor, "n"]:
    """Return a recording trimmed and levelled as training recordings were."""
    return level(trim(wave, rate, sound.trim_db, sound.pad_seconds)[0], rate, sound.loudness_dbfs)


def buzz(hertz: float, rate: int) -> list[float]:
    """Half a second of a tone with harmonics that swells and fades."""
    seconds = np.arange(rate // 2) / rate
    tone = sum(np.sin(2 * np.pi * hertz * k * seconds) / k for k in range(1, 9))
    return (0.1 * np.asarray(tone) * np.sin(np.pi * seconds / seconds[-1])).tolist()
