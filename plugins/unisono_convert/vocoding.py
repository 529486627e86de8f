"""Vocoding: converted mels to one sound, piece by piece, joined where pieces overlap.

Each piece is vocoded with the last frames of the one before it, and takes over from it within these frames; so a
vocoder hears no edge where the sound has none. Shapes: t frames, m mel channels, n samples.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from unisono_sound.signal import GriffinLim
from unisono_sound.vocoder import Vocoder

from unisono_convert.corpus.facts import ConversionFacts

__all__ = ["Joining", "griffin_lim"]

OVERLAP_FRAMES = 16


class Joining:
    """Vocodes mels one after the other: ``push`` returns the samples that are settled, ``flush`` the last ones."""

    def __init__(self, vocoder: Vocoder):
        self.vocoder, self.hop = vocoder, vocoder.mel_spec.hop_length
        self.tail: Float[Tensor, "t m"] | None = None
        self.waiting: Float[Tensor, " n"] = torch.zeros(0)

    def push(self, mel: Float[Tensor, "t m"] | None, num_samples: int) -> Float[Tensor, "n"]:
        """Take the mel of a piece of ``num_samples``, or None for silence."""
        if mel is None:
            done, self.tail, self.waiting = self.flush(), None, torch.zeros(num_samples)
            return done
        before = 0 if self.tail is None else len(self.tail)
        joined = mel if self.tail is None else torch.cat([self.tail, mel])
        wave = self.vocoder.decode(joined[None])[0].float().cpu()[: before * self.hop + num_samples]
        done = self.waiting
        if before:
            span = before * self.hop
            rise = (torch.arange(span) + 0.5) / span
            faded = self.waiting[-span:] * (1 - rise) + wave[:span] * rise
            done, wave = torch.cat([self.waiting[:-span], faded]), wave[span:]
        keep = min(OVERLAP_FRAMES, num_samples // self.hop)
        self.tail = mel[len(mel) - keep :] if keep and num_samples == len(mel) * self.hop else None
        settled = torch.cat([done, wave[: len(wave) - keep * self.hop]])
        self.waiting = wave[len(wave) - keep * self.hop :]
        return settled

    def flush(self) -> Float[Tensor, "n"]:
        """Return the samples that waited for another piece."""
        done, self.waiting, self.tail = self.waiting, torch.zeros(0), None
        return done


def griffin_lim(facts: ConversionFacts) -> GriffinLim:
    """The built-in vocoder without weights, by explicit choice only."""
    return GriffinLim(facts.mel_spec)
