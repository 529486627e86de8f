"""Tiled: a prior of one size for larger pictures, by overlapping windows whose clean estimates are averaged.

At every noise level the picture is cut into windows of the prior's size, `overlap` pixels of which neighbours share;
the last window of a row or column is pinned to the border, so that all have the prior's size. The estimates are
averaged with weights that rise linearly from a window's border over the overlap. All windows of a step are one batch,
and the restorer sees one picture: its measurement may span windows, and the result is consistent with it everywhere.

The published code restores windows one after the other instead, each with the pixels that earlier ones share with it as
known. A prior that looks at a pixel and no further gives the same tiled and whole; any other sees no further than a
window, so that what must agree over long distances (one object, one light) may not.

Shapes: n rows, c channels, H W of the picture, h w of the prior.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.diffusion import Denoiser, NoiseLevels
from unisono.errors import RequestError

__all__ = ["Tiled", "starts"]

AT_ONCE = 256
"""Windows that are evaluated together: memory does not grow with the picture's."""


class Tiled:
    """A ``Denoiser`` of pictures of ``height`` × ``width``. Raises ``RequestError`` for sizes below the prior's."""

    def __init__(self, prior: Denoiser, height: int, width: int, overlap: int | None = None):
        channels, h, w = prior.shape
        overlap = min(h, w) // 2 if overlap is None else overlap
        if not 0 <= overlap < min(h, w):
            raise RequestError(
                f"overlap={overlap} must be from 0 to below the prior's {min(h, w)} pixels",
                code="range",
                path="overlap",
                value=overlap,
            )
        self.prior, self.shape, self.overlap = prior, (channels, height, width), overlap
        tops, lefts = starts(height, h, overlap), starts(width, w, overlap)
        self.places = [(top, left) for top in tops for left in lefts]
        self.weight = _ramp(h, overlap)[:, None] * _ramp(w, overlap)

    @property
    def windows(self) -> int:
        """How many windows a picture has: evaluations of the prior for one of the picture."""
        return len(self.places)

    def noise_levels(self, num_steps: int) -> NoiseLevels:
        """The prior's own."""
        return self.prior.noise_levels(num_steps)

    def x0(
        self, x: Float[Tensor, "n c H W"], alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]
    ) -> Float[Tensor, "n c H W"]:
        """The average of the windows' estimates."""
        _, h, w = self.prior.shape
        cut = torch.cat([x[..., top : top + h, left : left + w] for top, left in self.places])
        alpha, sigma = alpha.repeat(self.windows), sigma.repeat(self.windows)
        at_once = zip(cut.split(AT_ONCE), alpha.split(AT_ONCE), sigma.split(AT_ONCE), strict=True)
        clean = torch.cat([self.prior.x0(*part) for part in at_once])
        total, weight = torch.zeros_like(x), self.weight.to(x)
        share = x.new_zeros(x.shape[2:])
        for (top, left), part in zip(self.places, clean.split(len(x)), strict=True):
            padding = (left, x.shape[3] - left - w, top, x.shape[2] - top - h)
            total = total + torch.nn.functional.pad(part * weight, padding)
            share = share + torch.nn.functional.pad(weight, padding)
        return total / share


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Return where windows of ``size`` begin, the last one pinned to the end. Raises ``RequestError`` if none fits."""
    if length < size:
        raise RequestError(
            f"the picture has {length} pixels along a side, the prior's have {size}: enlarge or pad it first",
            code="shape",
            path="picture",
            value=length,
        )
    found = list(range(0, length - size, size - overlap))
    return [*found, length - size]


def _ramp(size: int, overlap: int) -> Float[Tensor, " n"]:
    """Weights of a window's pixels along one side, above 0."""
    place = torch.arange(size, dtype=torch.float64)
    nearest = torch.minimum(place, size - 1 - place) + 1
    return (nearest / (overlap + 1)).clamp(max=1)
