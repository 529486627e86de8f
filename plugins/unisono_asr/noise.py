"""Noise: log mels that speech is heard in: of recordings, or white.

Shapes: t frames, m mel channels.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit
from unisono.errors import DataError
from unisono_sound.corpus import find_audio
from unisono_sound.signal import LogMel, MelSpec, read_audio

WHITE = "white"
SECONDS = 20.0
"""How long the white noise is, of which stretches are taken."""
MOST_SECONDS = 1800.0
"""Noise that is kept in memory at most."""


class Noise:
    """Log mels of noise, joined; stretches of them are taken anywhere."""

    def __init__(self, mel: Float[Tensor, "t m"]):
        self.mel = mel

    def stretch(self, num_frames: int, place: float) -> Float[Tensor, "t m"]:
        """Return so many frames from a place in [0, 1) on, going round at the end."""
        start = int(place * len(self.mel))
        return self.mel[(start + torch.arange(num_frames)) % len(self.mel)]


def read_noise(source: str, spec: MelSpec, audit: Audit) -> Noise:
    """Read a folder of recordings, or make white noise for ``white``.

    Raises ``DataError`` for a folder without a usable recording; recordings that cannot be read go to the audit.
    """
    log_mel = LogMel(spec)
    if source == WHITE:
        samples = round(SECONDS * spec.sample_rate)
        return Noise(log_mel(0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0)))[0])
    found, seconds = [], 0.0
    manifest = find_audio(Path(source))
    manifest.tell(audit)
    for utterance in manifest:
        try:
            wave, _ = read_audio(utterance.audio, spec.sample_rate)
        except DataError as error:
            audit.drop(utterance.id, "unreadable", str(error))
            continue
        if len(wave) < spec.n_fft or not float(wave.abs().max()) > 0:
            audit.drop(utterance.id, "no noise", "too short, or silent")
            continue
        if seconds > MOST_SECONDS:
            audit.drop(utterance.id, "enough noise", f"{MOST_SECONDS:g} s are kept")
            continue
        found.append(log_mel(wave[None])[0])
        seconds += len(wave) / spec.sample_rate
    if not found:
        message = f"data.variation.noise={source!r} holds no usable recording: give a folder of sounds, or white"
        raise DataError(message, code="empty", path="data.variation.noise", value=source)
    return Noise(torch.cat(found))
