"""Clips: what training takes of an utterance, and utterances made slower or faster.

Choices are drawn item by item, so that they are the same on any rank. An utterance that is shorter than a clip is taken
whole; none is left out.

Shapes: b batch, t frames, n frames of a clip (even), c channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from unisono_tts.styletts.blocks import within


@dataclass(frozen=True)
class Clips:
    """Where clips begin, in pairs of frames, how many frames each has, and how many all are padded to (even)."""

    starts: Int[Tensor, " b"]
    lengths: Int[Tensor, " b"]
    size: int

    @property
    def mask(self) -> Bool[Tensor, "b n"]:
        return within(self.lengths, self.size)

    @classmethod
    def whole(cls, lengths: Int[Tensor, " b"]) -> "Clips":
        """Take all of each item."""
        longest = int(lengths.max())
        return cls(torch.zeros_like(lengths), lengths, longest + longest % 2)

    @classmethod
    def drawn(cls, lengths: Int[Tensor, " b"], size: int, seeds: Sequence[int]) -> "Clips":
        """Take ``size`` frames of each item from a place that its seed draws."""
        starts = []
        for length, seed in zip(lengths.tolist(), seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            starts.append(int(torch.randint(max(length - size, 0) // 2 + 1, (), generator=generator)))
        begin = torch.tensor(starts, device=lengths.device)
        return cls(begin, (lengths - 2 * begin).clamp(max=size), size)

    def frames(self, x: Shaped[Tensor, "b t *c"]) -> Shaped[Tensor, "b n *c"]:
        """Return the clips of what has a place per frame; 0 beyond."""
        return _window(x, 2 * self.starts, self.size, self.lengths)

    def pairs(self, x: Shaped[Tensor, "b h *c"]) -> Shaped[Tensor, "b k *c"]:
        """Return the clips of what has a place per pair of frames; 0 beyond."""
        return _window(x, self.starts, self.size // 2, (self.lengths + 1) // 2)


def _window(
    x: Shaped[Tensor, "b t *c"], starts: Int[Tensor, " b"], size: int, lengths: Int[Tensor, " b"]
) -> Shaped[Tensor, "b n *c"]:
    places = (starts[:, None] + torch.arange(size, device=x.device)).clamp(max=x.shape[1] - 1)
    rows = torch.arange(len(x), device=x.device)[:, None]
    inside = within(lengths, size).reshape(len(x), size, *(1,) * (x.ndim - 2))
    return x[rows, places] * inside


def draw_stretch(seeds: Sequence[int], most: float) -> Float[Tensor, " b"]:
    """Return by how much each item is stretched: ``1 + most · r · (2u − 1)`` with r and u uniform on [0, 1).

    The published augmentation; it draws once for a batch.
    """
    drawn = [torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    share = torch.stack(drawn) if drawn else torch.zeros(0, 2, dtype=torch.float64)
    return 1 + most * share[:, 0] * (2 * share[:, 1] - 1)


def stretched(
    x: Float[Tensor, "b t *c"], lengths: Int[Tensor, " b"], wanted: Int[Tensor, " b"]
) -> Float[Tensor, "b n *c"]:
    """Interpolate each item's frames linearly to ``wanted`` frames; 0 beyond."""
    size = int(wanted.max())
    centres = torch.arange(size, device=x.device, dtype=torch.float64) + 0.5
    places = centres * (lengths / wanted.double())[:, None] - 0.5
    places = places.clamp(min=0).minimum((lengths - 1).double()[:, None])
    left = places.floor().long()
    right = (left + 1).minimum((lengths - 1)[:, None])
    rows = torch.arange(len(x), device=x.device)[:, None]
    shape = (len(x), size, *(1,) * (x.ndim - 2))
    share = (places - left).to(x.dtype).reshape(shape)
    return torch.lerp(x[rows, left], x[rows, right], share) * within(wanted, size).reshape(shape)
