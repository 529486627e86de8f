"""Patch discriminator: judges patches of pictures.

Isola et al. (arXiv:1611.07004), §3.2.2, PatchGAN, as latent diffusion's autoencoders are trained against (Rombach et
al., arXiv:2112.10752, appendix G): a few strided convolutions, and a score for every place. Difference: weights are
normalised in place of activations (weight norm, not batch norm), so that no item depends on another.

Shapes: b batch, h w height and width, k places.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.nn.wide import wide
from unisono.train.discriminator_losses import Judgement


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches, and the features that led there.

    ::

        picture ─ conv 4, ↓2 ─ LeakyReLU ─ … × num_layers ─ conv 4 ─ LeakyReLU ─ conv 4 ─ a score per place
    """

    def __init__(self, channels: int = 64, num_layers: int = 3):
        super().__init__()
        widths = [3, *(channels * min(2**i, 8) for i in range(num_layers + 1))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(narrow, wide, 4, 2 if i < num_layers else 1, padding=2))
            for i, (narrow, wide) in enumerate(pairwise(widths))
        )
        # No bias: a hinge loss pulls it up and down by the same, so that it would drift by rounding alone.
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, 4, padding=2, bias=False))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Judgement]:
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [Judgement(self.score(x).flatten(1), features)]


def perceptual_distance(real: list[Tensor], fake: list[Tensor]) -> Float[Tensor, " b"]:
    """How far features lie apart, layer by layer: the squared distance of vectors of unit length, as in LPIPS (Zhang
    et al., arXiv:1801.03924, eq. 1) with all channels counting the same."""
    total = torch.zeros(len(real[0]), device=real[0].device)
    for r, f in zip(real, fake, strict=True):
        apart = F.normalize(wide(r), dim=1, eps=1e-6) - F.normalize(wide(f), dim=1, eps=1e-6)
        total = total + apart.square().sum(1).mean((1, 2))
    return total / len(real)
