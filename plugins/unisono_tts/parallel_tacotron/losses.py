"""Reconstruction losses: each block's spectrogram against the recording, frame by frame or along soft-DTW's paths.

Shapes: b batch, t frames said, u frames recorded, m mel bins. Spectrograms are standardised.
"""

from collections.abc import Sequence

import torch
from einops import reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono.duration import soft_dtw_l1

from unisono_tts.parallel_tacotron.sizes import SoftDTWOptions


def warped_distances(
    mels: Sequence[Float[Tensor, "b t m"]],
    lengths: Int[Tensor, " b"],
    target: Float[Tensor, "b u m"],
    target_lengths: Int[Tensor, " b"],
    options: SoftDTWOptions,
) -> tuple[list[Float[Tensor, " b"]], Bool[Tensor, " b"]]:
    """Return soft-DTW of each spectrogram per recorded frame and mel bin, and which items lie within the band.

    Of those that do not, the distance is 0, and no gradient flows. All blocks are compared in one batch.
    """
    wanted, wanted_lengths = pooled(target, target_lengths, options.pool_frames)
    said, said_lengths = pooled(torch.cat(list(mels)).float(), lengths.repeat(len(mels)), options.pool_frames)
    inside = (said_lengths[: len(target)] - wanted_lengths).abs() <= options.band
    rows = inside.repeat(len(mels)).nonzero()[:, 0]
    distances = said.new_zeros(len(said)) + 0.0 * said.sum()  # a gradient for each, also where nothing is inside
    if len(rows):
        own = rows % len(target)
        values = soft_dtw_l1(
            said[rows],
            wanted[own],
            said_lengths[rows],
            wanted_lengths[own],
            gamma=options.gamma,
            warp_penalty=options.warp_penalty,
            band=options.band,
        )
        distances = distances.index_add(0, rows, values / (wanted_lengths[own] * target.shape[2]))
    return list(distances.split(len(target))), inside


def pooled(
    mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"], size: int
) -> tuple[Float[Tensor, "b p m"], Int[Tensor, " b"]]:
    """Return means over every ``size`` frames, the last one over what is left, and how many there are of each item."""
    if size == 1:
        return mel, lengths
    short = -mel.shape[1] % size
    inside = (torch.arange(mel.shape[1] + short, device=mel.device) < lengths[:, None])[..., None].to(mel)
    sums = reduce(F.pad(mel, (0, 0, 0, short)) * inside, "b (p k) m -> b p m", "sum", k=size)
    counts = reduce(inside, "b (p k) m -> b p m", "sum", k=size)
    return sums / counts.clamp(min=1), (lengths + size - 1) // size
