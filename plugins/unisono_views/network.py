"""Network: a diffusion transformer over the patches of all views, which attend to one another.

The published system tiles six views into one picture, so that a latent 2-D U-Net's self-attention runs over all of them
(Edelstein et al., Sharp-It, arXiv:2412.02631; the tiling is Zero123++'s, arXiv:2310.15110). Here the same joint
attention runs over the views' patches, in the blocks of DiT (arXiv:2212.09748). A patch knows its view by the ray
through its middle, not by a number: views and cameras in another order give the same views in that order.

Shapes: b batch, v views, s pixels a side, p patch size, t tokens of a view, d channels, e channels of the condition,
w words. Masks are True where kept.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.condition import Condition
from unisono.nn.dit import DiTBlock, PatchEmbedding, time_code, zeroed

from unisono_views.cameras import Cameras


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Sizes of the transformer.

    patch_size: side of a patch, which divides that of a view.
    dim, num_layers, num_heads: of the blocks.
    smooth: whether a convolution follows, so that patches agree at their edges.
    """

    patch_size: int = 16
    dim: int = 1280
    num_layers: int = 32
    num_heads: int = 16
    smooth: bool = False


class MultiViewTransformer(nn.Module):
    """Answers with what must be added to the degraded views.

    ::

        time ─ sinusoids ─ MLP ─(+)─ e ─────────────────────────────────────────┬──────────────────┐
        caption ─┬─ vector ──────┘                                              │                  │
                 └─ words ─ linear ─────────────────────┐ in front              │                  │
        noisy, degraded ─ patches ─ linear + place ─(+)─ v · t tokens ─ DiTBlock × num_layers ─ norm, modulate ─ linear
        cameras ─ rays of the patches ─ MLP ─────────┘                                                  (─ conv 3)

    Args:
        sizes: of the network.
        condition_dim: channels of the condition and of time's code.
        with_words: False where no condition has words.
        cross_view: whether the views of a set attend to one another; else each attends to itself and to the words.
    """

    def __init__(self, sizes: NetworkSizes, condition_dim: int, with_words: bool = True, cross_view: bool = True):
        super().__init__()
        patch_size, dim = sizes.patch_size, sizes.dim
        self.patch_size, self.cross_view = patch_size, cross_view
        self.embed = PatchEmbedding(6, patch_size, dim)
        self.rays = nn.Sequential(nn.Linear(6, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.words = nn.Linear(condition_dim, dim) if with_words else None
        self.time = nn.Sequential(nn.Linear(256, condition_dim), nn.SiLU(), nn.Linear(condition_dim, condition_dim))
        self.blocks = nn.ModuleList(DiTBlock(dim, sizes.num_heads, condition_dim) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulate = zeroed(nn.Linear(condition_dim, 2 * dim))
        self.out = zeroed(nn.Linear(dim, 3 * patch_size**2))
        self.smooth = _dirac(nn.Conv2d(3, 3, 3, padding=1)) if sizes.smooth else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "b v 3 s s"],
        coarse: Float[Tensor, "b v 3 s s"],
        time: Float[Tensor, " b"],
        condition: Condition,
        rays: Float[Tensor, "v t 6"],
    ) -> Float[Tensor, "b v 3 s s"]:
        """Return the correction of the degraded views, at each set's ``time`` in [0, 1000]."""
        b, v, p, rows = len(x), x.shape[1], self.patch_size, x.shape[3] // self.patch_size
        e = self.time(time_code(time, 256).to(self.out.weight.dtype)) + condition.vector
        tokens = self.embed(torch.cat([x, coarse], dim=2).flatten(0, 1)) + self.rays(rays).repeat(b, 1, 1)
        words, mask = condition.words, condition.mask
        if self.cross_view:
            tokens = rearrange(tokens, "(b v) t d -> b (v t) d", v=v)
        else:
            e, words, mask = (repeat(part, "b ... -> (b v) ...", v=v) for part in (e, words, mask))
        seen, front = None, 0
        if self.words is not None:
            front = words.shape[1]
            seen = F.pad(mask, (0, tokens.shape[1]), value=True)
            tokens = torch.cat([self.words(words).to(tokens.dtype), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, e, seen)
        shift, scale = self.modulate(F.silu(e))[:, None].chunk(2, dim=-1)
        tokens = self.out(self.norm(tokens[:, front:]) * (1 + scale) + shift)
        views = rearrange(
            tokens.reshape(b * v, -1, tokens.shape[-1]), "n (r k) (c p q) -> n c (r p) (k q)", r=rows, p=p, q=p
        )
        return self.smooth(views).unflatten(0, (b, v))


def patch_rays(cameras: Cameras, grid: int) -> Float[Tensor, "v t 6"]:
    """Return the rays through the middles of ``grid`` × ``grid`` patches of each view, row by row.

    Plücker coordinates: a ray's direction, and its moment (camera × direction), which every point of the ray shares.
    """
    origins, directions = cameras.rays(grid)
    directions = directions.flatten(1, 2)
    moments = torch.linalg.cross(origins[:, None].expand_as(directions), directions)
    return torch.cat([directions, moments], dim=-1).float()


def _dirac(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.dirac_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
