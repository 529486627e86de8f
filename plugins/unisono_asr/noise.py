"""Noise: log mels that speech is heard in: of recordings, or of a noise that is made.

Shapes: t frames, m mel channels.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit
from unisono_sound.degrade import MADE, read_clips
from unisono_sound.signal import LogMel, MelSpec

STEADY = tuple(kind for kind in MADE if kind != "speech")
"""Kinds of noise that are made without the speech that they are added to."""
SECONDS = 20.0
"""How long a made noise is, of which stretches are taken."""


class Noise:
    """Log mels of noise, joined; stretches of them are taken anywhere."""

    def __init__(self, mel: Float[Tensor, "t m"]):
        self.mel = mel

    def stretch(self, num_frames: int, place: float) -> Float[Tensor, "t m"]:
        """Return so many frames from a place in [0, 1) on, going round at the end."""
        start = int(place * len(self.mel))
        return self.mel[(start + torch.arange(num_frames)) % len(self.mel)]


def read_noise(source: str, spec: MelSpec, audit: Audit) -> Noise:
    """Make a noise of ``STEADY``, or read a folder of recordings.

    Raises ``DataError`` for a folder without a usable recording; recordings that cannot be used go to the audit.
    """
    log_mel = LogMel(spec)
    if source in STEADY:
        nothing = torch.zeros(round(SECONDS * spec.sample_rate))
        noise = MADE[source](nothing, spec.sample_rate, torch.Generator().manual_seed(0))
        return Noise(log_mel(0.1 * noise[None] / noise.square().mean().sqrt())[0])
    clips = read_clips(source, spec.sample_rate, audit, "data.variation.noise", least_samples=spec.n_fft)
    return Noise(torch.cat([log_mel(wave[None])[0] for wave in clips.waves]))
