"""Rivals: how narrow sound is tried, and what fills the upper band without a model.

Shapes: n samples, t frames, f frequencies.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from unisono_sound.signal.phase import CentredTransform, TransformSizes

from unisono_restore.ap_bwe.band import KEPT, WIDE, Edge
from unisono_restore.ap_bwe.narrow import Narrow, NarrowOptions, resampled
from unisono_restore.facts import BandFacts
from unisono_restore.trial import Condition

__all__ = ["conditions", "copied_up", "cut_off"]


def conditions(facts: BandFacts, rate: int, trained: Mapping[str, Any]) -> list[Condition]:
    """Return the conditions of a model: ``trained`` are the options of its data, as its recipe has them."""
    known = NarrowOptions(**{**trained, "filters": tuple(trained.get("filters", ("resampler",)))}) if trained else None
    tried: dict[str, dict[str, Any]] = {
        f"resampled to {facts.from_rate} Hz": {"filters": ("resampler",)},
        "elliptic filter": {"filters": ("elliptic",), "lowest_cutoff": facts.lowest_cutoff},
        "µ-law": {"mu_law": 1.0},
        "Opus": {"opus": 1.0},
    }
    found = []
    for name, options in tried.items():
        narrow = NarrowOptions(from_rate=facts.from_rate, **options)
        families = ("resampler",) if known is None else known.filters
        seen = set(narrow.filters) <= set(families)
        if narrow.mu_law or narrow.opus:
            seen = known is not None and bool(known.mu_law if narrow.mu_law else known.opus)
        found.append(Condition(name, Narrow(narrow, rate), seen))
    return found


def cut_off(wave: Float[np.ndarray, "n"], rate: int) -> Float[np.ndarray, "n"]:
    """Bring a sound to the rate that its measured end needs and back, by a windowed sinc: nothing is left above it."""
    sound = torch.from_numpy(np.asarray(wave, np.float32))
    edge = Edge(rate)
    edge.hear(sound[None])
    cutoff = edge.cutoff()
    if not 0 < cutoff < WIDE * rate / 2:
        return sound.numpy()
    return resampled(sound, rate, 2 * cutoff).numpy()


def copied_up(wave: Float[np.ndarray, "n"], rate: int) -> Float[np.ndarray, "n"]:
    """Fill the band above a sound's end with the upper half of the band below it, copied up as often as it takes and
    falling by 6 dB up to half the rate."""
    sound = torch.from_numpy(np.asarray(wave, np.float32))[None]
    edge = Edge(rate)
    edge.hear(sound)
    cutoff = edge.cutoff()
    if not 0 < cutoff < WIDE * rate / 2:
        return np.asarray(wave, np.float32)
    transform = CentredTransform(TransformSizes(n_fft=512, win_length=512, hop_length=128))
    spectrum = transform(sound)
    end = max(2, int(KEPT * cutoff / rate * 512))
    place = torch.arange(spectrum.shape[2] - end)
    copy = spectrum[..., end - end // 2 + place % (end // 2)] * 10 ** (-6 / 20 * place / len(place))
    return transform.inverse(torch.cat([spectrum[..., :end], copy], dim=2), sound.shape[1])[0].numpy()
