"""Voices: noise that is taken from recordings: babble of several clips, and stretches of a folder.

Shapes: n samples.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unisono_sound.degrade.clips import Clips, stretch
from unisono_sound.degrade.draws import uniform, whole
from unisono_sound.degrade.power import active_power


class Babble:
    """Several other clips at once, each as loud as another while it sounds, give or take 3 dB.

    Args:
        clips: what is spoken.
        voices: how many at least and at most.
    """

    def __init__(self, clips: Clips, voices: tuple[int, int] = (4, 8)):
        self.clips, self.voices = clips, voices

    def __call__(self, num_samples: int, generator: torch.Generator, own: int | None = None) -> Float[Tensor, " n"]:
        """Return babble without clip ``own``."""
        total = torch.zeros(num_samples)
        for _ in range(whole(generator, self.voices)):
            voice = stretch(self.clips, num_samples, generator, own)
            level = 10 ** (uniform(generator, (-3.0, 3.0)) / 20)
            total += voice * (level / max(active_power(voice, self.clips.rate), 1e-20) ** 0.5)
        return total


class Recorded:
    """Stretches of recordings of noise."""

    def __init__(self, clips: Clips):
        self.clips = clips

    def __call__(self, num_samples: int, generator: torch.Generator, own: int | None = None) -> Float[Tensor, " n"]:
        return stretch(self.clips, num_samples, generator)
