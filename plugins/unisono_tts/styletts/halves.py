"""Halves: alignments at half the frame rate, at which the decoder reads text (arXiv:2205.15439).

A pair of frames takes each symbol by its share of the two: whole frames stay what they are for pace, pauses and times,
an utterance may have any number of frames, and a symbol may last one of them. The published code aligns pairs of frames
instead, cuts an odd frame off, and has no room for a symbol shorter than a pair.

Shapes: b batch, s symbols, t frames, h = ⌈t / 2⌉ pairs of frames.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.duration import Alignment

from unisono_tts.styletts.blocks import halved, within


def in_pairs(alignment: Alignment) -> Alignment:
    """Return a hard alignment on pairs of frames; the last symbol fills the pair of an odd frame."""
    durations, lengths = alignment.durations, alignment.src_lengths
    last = (lengths - 1).clamp(min=0)[:, None]
    filled = durations.scatter_add(1, last, (alignment.tgt_lengths % 2)[:, None].to(durations))
    return Alignment.from_durations(filled.double() / 2, lengths, halved(alignment.tgt_lengths))


def pair_shares(posterior: Float[Tensor, "b t s"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b h s"]:
    """Return the mean of a soft alignment over each pair of frames; an odd frame is a pair of its own. 0 beyond."""
    pad = posterior.shape[1] % 2
    inside = within(lengths, posterior.shape[1])[..., None].to(posterior)
    rows = torch.nn.functional.pad(posterior * inside, (0, 0, 0, pad)).unflatten(1, (-1, 2)).sum(2)
    count = torch.nn.functional.pad(inside, (0, 0, 0, pad)).unflatten(1, (-1, 2)).sum(2)
    return rows / count.clamp(min=1)


def distance_to_path(soft: Float[Tensor, "b t s"], path: Alignment) -> Float[Tensor, "b t"]:
    """Return the mean absolute difference, over an item's symbols, of a soft alignment and a monotonic path."""
    known = path.src_mask[:, None]
    return ((soft - path.matrix().to(soft)).abs() * known).sum(2) / path.src_lengths[:, None]
