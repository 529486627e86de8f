"""The diffusion transformer: patches of a noisy picture, modulated by time and condition.

Peebles and Xie, DiT (arXiv:2212.09748), §3.2, adaLN-Zero. Differences:
- Captions are read: their words stand in front of the patches, in the same attention (as in U-ViT, arXiv:2209.12152).
- Queries and keys are normalised (arXiv:2302.05442), so that a high learning rate is safe in bfloat16.
- The vector that modulates may be narrower than the blocks (``condition_dim``): published, modulation is a third of
  all weights.
- Positions are computed for any height and width; variances are not predicted.
- A convolution may follow the last layer (``smooth``, as in U-ViT), so that neighbouring patches can agree at their
  edges: large patches of a small network leave a grid else.

Neither of diffusers' transformers fits: its DiT knows classes alone, draws forgotten ones from the global seed, and
those for text bring encoders of their own.

Shapes: n rows, c channels, h w height and width, p patch size, t tokens, d channels, e channels of the condition.
Masks are True where kept.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.condition import Condition
from unisono.nn.dit import DiTBlock, PatchEmbedding, time_code, zeroed

from unisono_image.models.sizes import DiTSizes


class DiffusionTransformer(nn.Module):
    """Answers for noisy pictures, or latents, of any size that patches cover.

    ::

        time ─ sinusoids ─ MLP ─(+)─ e ─────────────────────────┬─────────────────┐
        condition ─┬─ vector ────┘                              │                 │
                   └─ words ─ linear ─┐ in front                │                 │
        x ─ patches ─ linear + position ─ DiTBlock × num_layers ┴─ norm, modulate ┴─ linear ─ (conv 3) ─ pictures

    Args:
        sizes: of the network; with ``smooth`` a 3 × 3 convolution follows, which changes nothing at the start.
        channels: of the pictures.
        condition_dim: channels of the condition and of time's code.
        with_words: False where no condition has words.
    """

    def __init__(self, sizes: DiTSizes, channels: int, condition_dim: int, with_words: bool = True):
        super().__init__()
        patch_size, dim = sizes.patch_size, sizes.dim
        self.channels, self.patch_size, self.dim = channels, patch_size, dim
        self.embed = PatchEmbedding(channels, patch_size, dim)
        self.words = nn.Linear(condition_dim, dim) if with_words else None
        self.time = nn.Sequential(nn.Linear(256, condition_dim), nn.SiLU(), nn.Linear(condition_dim, condition_dim))
        self.blocks = nn.ModuleList(DiTBlock(dim, sizes.num_heads, condition_dim) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulate = zeroed(nn.Linear(condition_dim, 2 * dim))
        self.out = zeroed(nn.Linear(dim, channels * patch_size**2))
        self.smooth = _dirac(nn.Conv2d(channels, channels, 3, padding=1)) if sizes.smooth else nn.Identity()

    def forward(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n c h w"]:
        """Return what each row's objective asks for, at its ``time``."""
        p, rows, columns = self.patch_size, x.shape[2] // self.patch_size, x.shape[3] // self.patch_size
        e = self.time(time_code(time, 256).to(next(self.time.parameters()).dtype)) + condition.vector
        tokens = self.embed(x)
        mask, front = None, 0
        if self.words is not None:
            front = condition.words.shape[1]
            tokens = torch.cat([self.words(condition.words).to(tokens.dtype), tokens], dim=1)
            mask = F.pad(condition.mask, (0, rows * columns), value=True)
        for block in self.blocks:
            tokens = block(tokens, e, mask)
        shift, scale = self.modulate(F.silu(e))[:, None].chunk(2, dim=-1)
        tokens = self.out(self.norm(tokens[:, front:]) * (1 + scale) + shift)
        return self.smooth(rearrange(tokens, "b (r k) (c p q) -> b c (r p) (k q)", r=rows, p=p, q=p))


def _dirac(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.dirac_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
