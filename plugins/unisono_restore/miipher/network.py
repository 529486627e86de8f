"""Network: what Miipher learns beside a frozen encoder: adapters, or a cleaner of its output, and a head for mels.

Karita et al., "Miipher-2: A universal speech restoration model for million-hour scale data restoration"
(arXiv:2505.04457), section 2.2: parallel adapters (He et al., arXiv:2110.04366), one per layer::

    x ─┬─ layer, frozen ───────────────────────(+)─
       └─ LayerNorm ─ Linear ─ ReLU ─ Linear ───┘          the last one begins at zero

An encoder without layers (a log mel, a codec's) has nothing to adapt: its output is cleaned by a stack of ConvNeXt
blocks whose last layer begins at zero, too. Before training, cleaned features are therefore the frozen ones, bit by
bit.

``MelHead`` is not in the paper, whose vocoder reads features: it makes the mel of a vocoder out of them, so that any
vocoder of mels serves any encoder.

Shapes: b batch, t features, k mel frames, m mel bins, d channels.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.modules import Modules
from unisono.nn.wide import wide
from unisono_sound.encoder import FeatureSpec
from unisono_sound.signal import MelSpec

from unisono_restore.miipher.sizes import AdapterSizes, CleanerSizes, HeadSizes

__all__ = ["Adapters", "Cleaner", "MelHead", "MiipherNet"]

MEAN_LOG_MEL = -5.0
"""Where a head begins."""


class Adapters(nn.Module):
    """One adapter per layer; called with a layer's number and input, as an encoder's ``adapt``."""

    def __init__(self, num_layers: int, dim: int, sizes: AdapterSizes):
        super().__init__()
        self.adapters = Modules(Adapter(dim, sizes.bottleneck) for _ in range(num_layers))

    def forward(self, number: int, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what is added to the output of a layer."""
        return self.adapters[number](x)


class Adapter(nn.Module):
    """What is added to the output of one layer."""

    def __init__(self, dim: int, bottleneck: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.up(F.relu(self.down(self.norm(x))))


class Stack(nn.Module):
    """A convolution and ConvNeXt blocks, from ``dim_in`` channels to ``dim_out``; the last layer begins at zero."""

    def __init__(self, dim_in: int, dim_out: int, sizes: CleanerSizes | HeadSizes):
        super().__init__()
        self.embed = nn.Conv1d(dim_in, sizes.dim, kernel_size=7, padding=3)
        self.embed_norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.blocks = Modules(
            ConvNeXtBlock(sizes.dim, sizes.intermediate_dim, kernel_size=7, layer_scale=1 / sizes.num_blocks)
            for _ in range(sizes.num_blocks)
        )
        self.norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.out = nn.Linear(sizes.dim, dim_out)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t e"]:
        x = self.embed_norm(self.embed(x.mT).mT)
        for block in self.blocks:
            x = block(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.out(self.norm(wide(x)))


class Cleaner(Stack):
    """Features to cleaner ones: what the stack says is added to them."""

    def __init__(self, dim: int, sizes: CleanerSizes):
        super().__init__(dim, dim, sizes)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return x + super().forward(x)


class MelHead(nn.Module):
    """Features to log mels: interpolated to the mel's frames, then the stack."""

    def __init__(self, features: FeatureSpec, mel_spec: MelSpec, sizes: HeadSizes):
        super().__init__()
        self.stack = Stack(features.dim, mel_spec.n_mels, sizes)
        nn.init.constant_(self.stack.out.bias, MEAN_LOG_MEL)
        frame_seconds = mel_spec.hop_length / mel_spec.sample_rate
        self.features_per_frame = frame_seconds * features.sample_rate / features.hop_length

    def forward(self, x: Float[Tensor, "b t d"], num_frames: int) -> Float[Tensor, "b k m"]:
        return self.stack(self.at_frames(x, num_frames))

    def at_frames(self, x: Float[Tensor, "b t d"], num_frames: int) -> Float[Tensor, "b k d"]:
        """Return features at the middles of mel frames, on the line between their neighbours; beyond the first and the
        last one, that one."""
        middle = torch.arange(num_frames, dtype=torch.float64, device=x.device) + 0.5
        place = (middle * self.features_per_frame - 0.5).clamp(0, x.shape[1] - 1)
        low = place.floor().long().clamp(max=max(x.shape[1] - 2, 0))
        high = (low + 1).clamp(max=x.shape[1] - 1)
        return torch.lerp(x[:, low], x[:, high], (place - low).to(x.dtype)[:, None])


class MiipherNet(nn.Module):
    """All that is learnt: ``adapters`` or a ``cleaner``, and a ``head`` where features are no mels.

    Args:
        features: of the encoder; None where they are the mels.
        layer: whose output is cleaned, from 1; None for the last.
        mel_spec: of the vocoder.
        adapters, cleaner, head: sizes of what there is of them.
    """

    def __init__(
        self,
        features: FeatureSpec | None,
        layer: int | None,
        mel_spec: MelSpec,
        adapters: AdapterSizes,
        cleaner: CleanerSizes,
        head: HeadSizes,
    ):
        super().__init__()
        self.adapters = self.cleaner = self.head = None
        if features is None:
            self.cleaner = Cleaner(mel_spec.n_mels, cleaner)
            return
        if features.num_layers:
            self.adapters = Adapters(layer or features.num_layers, features.dim, adapters)
        else:
            self.cleaner = Cleaner(features.dim, cleaner)
        self.head = MelHead(features, mel_spec, head)


def spectral_convergence(made: Float[Tensor, "b t d"], true: Float[Tensor, "b t d"]) -> Float[Tensor, " b"]:
    """Return the norm of the difference by that of the truth, of each item."""
    distance = (made - true).square().flatten(1).sum(1)
    # The smallest float under the root keeps its gradient finite where both agree.
    norm = (distance + torch.finfo(torch.float32).tiny).sqrt()
    return norm / true.flatten(1).norm(dim=1).clamp(min=math.sqrt(torch.finfo(torch.float32).tiny))
