"""Transfer: conversion without a network: one speaker's statistics in place of the other's. What a model must beat.

::

    recording ─ log pitch, mean and deviation to the target's ─ PSOLA ─ log mel, each channel's likewise ─ vocoder

Shapes: n samples, t frames, m mel channels.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono_sound.signal import LogMel, pitch

from unisono_convert.corpus.facts import ChannelSpread, ConversionFacts
from unisono_convert.corpus.read import HIGHEST_HZ, LOWEST_HZ
from unisono_convert.measure.psola import with_pitch

__all__ = ["Transfer", "moved_mel", "moved_pitch"]


class Transfer:
    """Converts between two speakers of the facts."""

    def __init__(self, facts: ConversionFacts, vocoder: Any):
        self.facts, self.vocoder, self.log_mel = facts, vocoder, LogMel(facts.mel_spec)

    def __call__(self, wave: Float[Tensor, "n"], source: str, target: str) -> Float[Tensor, "n"]:
        """Return a recording of the source, at the facts' rate and level, in the target's voice."""
        spec, facts = self.facts.mel_spec, self.facts
        hertz = pitch(wave, spec, LOWEST_HZ, HIGHEST_HZ).numpy()
        wanted = moved_pitch(hertz, facts.pitch[source], facts.pitch[target])
        bent = torch.from_numpy(with_pitch(wave.numpy(), hertz, wanted, spec.sample_rate, spec.hop_length))
        mel = moved_mel(self.log_mel(bent[None])[0], facts.voices[source], facts.voices[target])
        made = self.vocoder.decode(mel[None])[0].float().cpu()
        return torch.nn.functional.pad(made, (0, len(wave) - len(made)))


def moved_pitch(hertz: Float[np.ndarray, "t"], source: Any, target: Any) -> Float[np.ndarray, "t"]:
    """Return a pitch contour with the target's mean and deviation of log hertz; 0 stays 0."""
    logs = (np.log(np.maximum(hertz, 1.0)) - source.mean) / max(source.std, 1e-3) * target.std + target.mean
    return np.where(hertz > 0, np.exp(logs).clip(LOWEST_HZ, HIGHEST_HZ), 0.0)


def moved_mel(mel: Float[Tensor, "t m"], source: ChannelSpread, target: ChannelSpread) -> Float[Tensor, "t m"]:
    """Return a log mel with the target's mean and deviation in each channel."""
    mean, std, new_mean, new_std = (torch.tensor(part) for part in (source.mean, source.std, target.mean, target.std))
    return (mel - mean) / std.clamp(min=1e-3) * new_std + new_mean
