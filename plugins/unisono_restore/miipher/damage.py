"""Damage: what befalls a crop of clean speech: the six damages of Sidon, and none for some crops.

Reverberation, noise, a band limit, clipping, a codec, lost packets, each for half of the crops (arXiv:2509.17052); what
they are made of is ``unisono_sound.degrade``'s. A share of the crops stays clean, without which a restorer harms what
is whole.

Shapes: n samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from unisono_sound.degrade import (
    BandOptions,
    ClipOptions,
    CodecOptions,
    Degrade,
    DegradeOptions,
    LossOptions,
    NoiseOptions,
    RoomOptions,
)

from unisono_restore.clips import Clip
from unisono_restore.trial import Condition

__all__ = ["SIDON", "Damage", "Others", "conditions"]

SIDON = DegradeOptions(
    room=RoomOptions(share=0.5),
    noise=NoiseOptions(share=0.5, snr_db=(-5.0, 20.0)),
    band=BandOptions(share=0.5),
    clip=ClipOptions(share=0.5),
    codec=CodecOptions(share=0.5),
    loss=LossOptions(share=0.5),
)


@dataclass(frozen=True)
class Damage:
    """Damages a crop, or leaves it with probability ``clean``; called with the crop and a generator, of which every
    choice comes."""

    degrade: Degrade
    clean: float
    rate: int

    def __call__(self, wave: Float[Tensor, "n"], generator: torch.Generator) -> Float[Tensor, "n"]:
        stays = float(torch.rand((), generator=generator)) < self.clean
        return wave if stays or not bool(wave.any()) else self.degrade(wave, self.rate, generator)


@dataclass(frozen=True)
class Others:
    """The training clips, as what a babble is made of."""

    clips: Sequence[Clip]
    rate: int

    def __len__(self) -> int:
        return len(self.clips)

    def wave(self, number: int) -> Float[Tensor, " n"]:
        """Return a whole clip."""
        return self.clips[number].load(0, self.clips[number].num_samples)


def conditions(rate: int, held_out: Sequence[str]) -> list[Condition]:
    """Return the damages that a restorer is measured on, one by one and together, and the kinds of noise that were
    kept from training."""
    tried = {
        "nothing": DegradeOptions(),
        "noise at 5 dB": DegradeOptions(noise=NoiseOptions(share=1.0, snr_db=(5.0, 5.0))),
        "a room": DegradeOptions(room=RoomOptions(share=1.0)),
        "a room, and noise at 10 dB": DegradeOptions(
            room=RoomOptions(share=1.0), noise=NoiseOptions(share=1.0, snr_db=(10.0, 10.0))
        ),
        "a band of 3 kHz": DegradeOptions(band=BandOptions(share=1.0, hz=(3000.0, 3000.0))),
        "a codec": DegradeOptions(codec=CodecOptions(share=1.0)),
    }
    made = [
        Condition(name, Damage(Degrade(options), 0.0, rate), whole=name == "nothing") for name, options in tried.items()
    ]
    known = NoiseOptions().kinds
    if kinds := tuple(kind for kind in held_out if kind in known):
        unheard = DegradeOptions(noise=NoiseOptions(share=1.0, snr_db=(5.0, 5.0), kinds=kinds))
        made.append(Condition(f"{', '.join(kinds)} at 5 dB", Damage(Degrade(unheard), 0.0, rate), seen=False))
    return made
