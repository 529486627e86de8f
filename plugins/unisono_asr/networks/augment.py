"""SpecAugment: parts of a spectrogram are bent and hidden (Park et al., arXiv:1904.08779).

Bands of time and frequency are hidden by torchaudio's ``mask_along_axis``. Time is warped as espnet does it: a place
moves by up to ``warp`` frames, and what lies on either side is stretched (bicubic). torchaudio draws from the global
generator; it is set by the item's seed for the time of the call, and put back.

Shapes: b batch, t frames, m mel channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """What is bent and hidden of each training recording; widths are drawn from 0 up.

    time_masks, time_frames: bands of time, and the most frames of one.
    time_share: no band hides more than this share of a recording, so that short ones stay.
    mel_masks, mel_channels: bands of mel channels, and the most channels of one.
    warp: the most frames by which a place moves; 0 warps nothing.
    """

    time_masks: int = 2
    time_frames: int = 40
    time_share: float = 0.2
    mel_masks: int = 2
    mel_channels: int = 30
    warp: int = 5

    def __post_init__(self):
        for name in ("time_masks", "time_frames", "mel_masks", "mel_channels", "warp"):
            if getattr(self, name) < 0:
                path = f"model.augment.{name}"
                message = f"{path}={getattr(self, name)} must be at least 0"
                raise RecipeError(message, code="range", path=path, value=getattr(self, name))
        if not 0 <= self.time_share <= 1:
            path = "model.augment.time_share"
            raise RecipeError(f"{path}={self.time_share} must be from 0 to 1", code="range", path=path)

    def __call__(
        self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"], seeds: Sequence[int]
    ) -> Float[Tensor, "b t m"]:
        """Return standardised mels with parts set to their mean, 0; each recording by its own seed."""
        result = torch.zeros_like(mel)
        for row, (length, seed) in enumerate(zip(lengths.tolist(), seeds, strict=True)):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                result[row, :length] = self.one(mel[row, :length])
        return result

    def one(self, mel: Float[Tensor, "t m"]) -> Float[Tensor, "t m"]:
        """Bend and hide parts of one recording, by the global generator."""
        from torchaudio.functional import mask_along_axis

        image = self._warped(mel).mT[None]
        for _ in range(self.mel_masks):
            image = mask_along_axis(image, min(self.mel_channels, image.shape[1]), 0.0, axis=1)
        for _ in range(self.time_masks):
            image = mask_along_axis(image, self.time_frames, 0.0, axis=2, p=self.time_share)
        return image[0].mT

    def _warped(self, mel: Float[Tensor, "t m"]) -> Float[Tensor, "t m"]:
        size = len(mel)
        if not self.warp or size <= 2 * self.warp + 1:
            return mel
        centre = int(torch.randint(self.warp + 1, size - self.warp, ()))
        moved = centre + int(torch.randint(-self.warp, self.warp + 1, ()))
        parts = zip((mel[:centre], mel[centre:]), (moved, size - moved), strict=True)
        return torch.cat([_stretched(part, wanted) for part, wanted in parts])


def _stretched(mel: Float[Tensor, "t m"], size: int) -> Float[Tensor, "k m"]:
    return F.interpolate(mel[None, None], (size, mel.shape[1]), mode="bicubic", align_corners=False)[0, 0]
