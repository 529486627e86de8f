"""Alignment by the prior: which frames are which symbol's, by each one's mean mel (Glow-TTS, arXiv:2005.11129, §3.1).

Shapes: b batch, s symbols, t frames, m mel bins, n frames of a crop.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from unisono.duration import search


def prior_scores(mean: Float[Tensor, "b s m"], mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b t s"]:
    """Return log N(mel; mean, 1) of each frame and symbol, by products of matrices, in float32."""
    mean, mel = mean.float(), mel.float()
    squares = mel.square().sum(-1)[..., None] + mean.square().sum(-1)[:, None]
    return mel @ mean.mT - 0.5 * (squares + mel.shape[-1] * math.log(2 * math.pi))


@torch.no_grad()
def prior_durations(
    mean: Float[Tensor, "b s m"],
    mel: Float[Tensor, "b t m"],
    symbol_lengths: Int[Tensor, " b"],
    mel_lengths: Int[Tensor, " b"],
    ids: Sequence[str],
) -> Int[Tensor, "b s"]:
    """Return durations in frames of the likeliest monotonic alignment, each symbol at least one."""
    with torch.autocast(mel.device.type, enabled=False):
        return search(prior_scores(mean, mel), symbol_lengths, mel_lengths, ids=ids)


def prior_loss(mean: Float[Tensor, "b t m"], mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b t m"]:
    """Return −log N(mel; mean, 1) of each number."""
    return 0.5 * ((mel - mean.float()).square() + math.log(2 * math.pi))


class Crop(NamedTuple):
    """Frames cut out of each item: ``frames`` [b, n], and ``inside``, which of them exist."""

    frames: Int[Tensor, "b n"]
    inside: Bool[Tensor, "b n"]

    def cut(self, x: Shaped[Tensor, "b t m"]) -> Shaped[Tensor, "b n m"]:
        """Return these frames, 0 where there is none."""
        index = self.frames.clamp(max=x.shape[1] - 1)[..., None].expand(-1, -1, x.shape[2])
        return x.gather(1, index) * self.inside[..., None]


def crops(lengths: Int[Tensor, " b"], size: int, seeds: Sequence[int]) -> Crop:
    """Return ``size`` frames of each item from a place that its seed chooses; all frames of shorter ones."""
    starts = [
        int(torch.randint(max(length - size, 0) + 1, (), generator=torch.Generator().manual_seed(seed)))
        for length, seed in zip(lengths.tolist(), seeds, strict=True)
    ]
    places = torch.arange(min(size, int(lengths.max())), device=lengths.device)
    index = torch.tensor(starts, device=lengths.device)[:, None] + places
    return Crop(index, index < lengths[:, None])
