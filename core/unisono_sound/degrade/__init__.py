"""Degrade: recordings made worse in ways that real ones are: rooms, noise, narrow bands, codecs, losses.

``Degrade(options)(wave, rate, generator)`` is the whole chain; every part serves alone too. All that is random comes
from the generator.
"""

from unisono_sound.degrade.clips import Clips, HeldClips, read_clips, stretch
from unisono_sound.degrade.codecs import companded, mp3, opus
from unisono_sound.degrade.damage import clipped, louder, with_losses
from unisono_sound.degrade.filters import FAMILIES, LowPass, filtered, response
from unisono_sound.degrade.noises import MADE
from unisono_sound.degrade.options import (
    NOISES,
    BandOptions,
    ClipOptions,
    CodecOptions,
    DegradeOptions,
    LevelOptions,
    LossOptions,
    NoiseOptions,
    RoomOptions,
)
from unisono_sound.degrade.pipeline import Applied, Degrade
from unisono_sound.degrade.power import active_power, at_snr, mean_power
from unisono_sound.degrade.rooms import (
    Box,
    decay_seconds,
    draw_box,
    exponential_tail,
    from_direct,
    heard_through,
    image_sources,
)
from unisono_sound.degrade.voices import Babble, Recorded

__all__ = [
    "FAMILIES",
    "MADE",
    "NOISES",
    "Applied",
    "Babble",
    "BandOptions",
    "Box",
    "ClipOptions",
    "Clips",
    "CodecOptions",
    "Degrade",
    "DegradeOptions",
    "HeldClips",
    "LevelOptions",
    "LossOptions",
    "LowPass",
    "NoiseOptions",
    "Recorded",
    "RoomOptions",
    "active_power",
    "at_snr",
    "clipped",
    "companded",
    "decay_seconds",
    "draw_box",
    "exponential_tail",
    "filtered",
    "from_direct",
    "heard_through",
    "image_sources",
    "louder",
    "mean_power",
    "mp3",
    "opus",
    "read_clips",
    "response",
    "stretch",
    "with_losses",
]
