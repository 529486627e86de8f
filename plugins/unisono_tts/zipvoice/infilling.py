"""Infilling: what is hidden, what the field is told of the rest, and guidance (ZipVoice, arXiv:2506.13053, §3).

Shapes: b batch, n rows of the network, t frames, m mel bins. Masks are True where a frame is hidden, to be filled in.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono_tts.zipvoice.parts import mask_of
from unisono_tts.zipvoice.zipformer import Zipformer

EARLY = 0.5
"""The time down to which guidance leads away from a missing text alone, twice as strongly; later from both missing."""


def hidden(
    lengths: Int[Tensor, " b"], share: Float[Tensor, " b"], place: Float[Tensor, " b"], frames: int
) -> Bool[Tensor, "b t"]:
    """Return one stretch of each item: ``share`` of its frames, at least one, at ``place`` in [0, 1] of the rest."""
    size = (share * lengths).long().clamp(min=1)
    first = (place * (lengths - size + 1)).long().minimum(lengths - size)
    places = torch.arange(frames, device=lengths.device)
    return (places >= first[:, None]) & (places < (first + size)[:, None])


@dataclass(frozen=True, eq=False)
class Canvas:
    """Items to be filled in.

    Attributes:
        text: what the text tells each frame, [b, t, m]; all 0 for no text.
        mel: the standardised mel where it is known, 0 elsewhere.
        masked: which frames are to be filled in.
        lengths: frames of each item.
        start: the noise that each item begins with, where something is known.
        guidance: scale of each item; 1 is unguided.
    """

    text: Float[Tensor, "b t m"]
    mel: Float[Tensor, "b t m"]
    masked: Bool[Tensor, "b t"]
    lengths: Int[Tensor, " b"]
    start: Float[Tensor, "b t m"]
    guidance: Float[Tensor, " b"]

    def velocity(
        self, net: Zipformer, x: Float[Tensor, "n t m"], t: Float[Tensor, " n"], row: Int[Tensor, " n"]
    ) -> Float[Tensor, "n t m"]:
        """Return the guided velocity of each row; that of a known frame is the straight way from its noise to itself.

        With w = guidance − 1 it is c + w·(c − u): u without a text, and after ``EARLY`` without what is known; before,
        w counts twice. A published guidance of w is a scale of 1 + w here.
        """
        text, mel, lengths = self.text[row], self.mel[row], self.lengths[row]
        weight = (self.guidance[row] - 1).to(x)
        if bool((weight == 0).all()):
            answer = net(torch.cat([x, text, mel], -1), lengths, t)
        else:
            late = (t < EARLY).to(x)
            bare = torch.cat([x, torch.zeros_like(text), mel * (1 - late)[:, None, None]], -1)
            both = torch.cat([torch.cat([x, text, mel], -1), bare])
            told, untold = net(both, lengths.repeat(2), t.repeat(2)).chunk(2)
            answer = told + (weight * (2 - late))[:, None, None] * (told - untold)
        return torch.where(self.masked[row][..., None], answer, self.start[row] - mel)

    def finished(self, x: Float[Tensor, "b t m"]) -> Float[Tensor, "b t m"]:
        """Return filled items, the known frames as they were given, to the bit; 0 beyond an item's length."""
        filled = torch.where(self.masked[..., None], x, self.mel)
        return torch.where(mask_of(self.lengths, x.shape[1])[..., None], filled, 0.0)
