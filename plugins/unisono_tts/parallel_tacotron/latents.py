"""Latents: what a recording holds that its text does not say: a Gaussian of a few coordinates, by symbol or by item.

::

    mel, speaker ─ Linear ─ positions ─ LConv × posterior_layers ─ frames ─┬─ mean over time ──────┬─ Gaussian ─ z
    text ─ queries ────────────────────────────────────────── attention ───┘ or over what is seen ─┘
    z, speaker, text ─ Linear ─ tanh ─ LayerNorm ─ the bottleneck that the rest of the network sees

The prior stands in for the recording where there is none.

Shapes: b batch, s symbols, t frames, m mel bins, d channels, e channels of a speaker (0 where there is one), z latent
coordinates, q bottleneck channels. Latents are [b, s, z], those of an item [b, 1, z]. Masks are True where kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.duration import Alignment
from unisono.nn.attention import attend
from unisono.nn.fft import keep, sinusoids
from unisono.nn.lconv import LConvStack
from unisono.nn.variational import Gaussian, GaussianHead

from unisono_tts.parallel_tacotron.sizes import LatentSizes, TacotronSizes


class Posterior(nn.Module):
    """The Gaussian of each symbol's latent, or of an item's, from the recording."""

    def __init__(self, sizes: TacotronSizes, latents: LatentSizes, n_mels: int, speaker_dim: int):
        super().__init__()
        dim = sizes.dim
        self.latents = latents
        self.mel_in = nn.Linear(n_mels + speaker_dim, dim)
        self.blocks = LConvStack(sizes.posterior_layers, sizes.lconv(sizes.posterior_kernel_size))
        self.attends = latents.level == "phoneme" and latents.posterior == "attention"
        if self.attends:
            self.text_norm = nn.LayerNorm(dim)
            self.queries, self.keys, self.values = (nn.Linear(dim, dim) for _ in range(3))
        self.head = GaussianHead(dim, latents.dim)

    def forward(
        self,
        mel: Float[Tensor, "b t m"],
        speaker: Float[Tensor, "b e"],
        text: Float[Tensor, "b s d"],
        masks: tuple[Bool[Tensor, "b s"], Bool[Tensor, "b t"]],
        alignment: Alignment | None = None,
    ) -> Gaussian:
        """``alignment`` is what ``posterior: durations`` goes by."""
        src_mask, tgt_mask = masks
        along = speaker[:, None].expand(-1, mel.shape[1], -1)
        x = F.relu(self.mel_in(torch.cat([mel, along], -1)))
        frames = self.blocks(x + sinusoids(x.shape[1], x.shape[2], x.device).to(x), tgt_mask)
        if self.latents.level == "global":
            return self.head(frames.sum(1, keepdim=True) / tgt_mask.sum(1)[:, None, None])
        if self.attends:
            places = sinusoids(text.shape[1], text.shape[2], text.device).to(text)
            queries, keys, values = self.queries(self.text_norm(text) + places), self.keys(frames), self.values(frames)
            seen = attend(queries[:, None], keys[:, None], values[:, None], tgt_mask[:, None, None])
        else:
            assert alignment is not None  # the model gives it where it is known
            seen = alignment.pool(frames)
        return self.head(keep(seen, src_mask))


class StandardPrior(nn.Module):
    """N(0, 1): of each symbol, or of an item."""

    def __init__(self, latents: LatentSizes):
        super().__init__()
        self.latents = latents

    def forward(
        self,
        text: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"],
        speaker: Int[Tensor, " b"],
        vector: Float[Tensor, "b e"],
    ) -> Gaussian:
        """Return the prior; ``speaker`` is the row of ``vector``."""
        places = 1 if self.latents.level == "global" else text.shape[1]
        return Gaussian.standard(text.new_zeros(len(text), places, self.latents.dim, dtype=torch.float32))


class SpeakerPrior(nn.Module):
    """A Gaussian of each speaker for an item's latent, N(0, 1) at first; the divergence is measured from it."""

    def __init__(self, latents: LatentSizes, num_speakers: int):
        super().__init__()
        self.table = nn.Embedding(num_speakers, 2 * latents.dim)
        nn.init.zeros_(self.table.weight)

    def forward(
        self,
        text: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"],
        speaker: Int[Tensor, " b"],
        vector: Float[Tensor, "b e"],
    ) -> Gaussian:
        return Gaussian(*self.table(speaker)[:, None].float().chunk(2, -1))


class TextPrior(nn.Module):
    """A Gaussian of each symbol, read from the text, to which no gradient flows from it."""

    def __init__(self, sizes: TacotronSizes, latents: LatentSizes, speaker_dim: int):
        super().__init__()
        self.text_in = nn.Linear(sizes.dim + speaker_dim, sizes.dim)
        self.blocks = LConvStack(2, sizes.lconv(sizes.duration_kernel_size))
        self.head = GaussianHead(sizes.dim, latents.dim)

    def forward(
        self,
        text: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"],
        speaker: Int[Tensor, " b"],
        vector: Float[Tensor, "b e"],
    ) -> Gaussian:
        along = vector[:, None].expand(-1, text.shape[1], -1)
        return self.head(self.blocks(self.text_in(torch.cat([text, along], -1).detach()), mask))


class Bottleneck(nn.Module):
    """What the rest of the network sees of latents: a few channels for each symbol."""

    def __init__(self, sizes: TacotronSizes, latents: LatentSizes, speaker_dim: int):
        super().__init__()
        self.project = nn.Linear(latents.dim + speaker_dim + sizes.dim, sizes.bottleneck_dim)
        self.norm = nn.LayerNorm(sizes.bottleneck_dim)

    def forward(
        self,
        latents: Float[Tensor, "b l z"],
        speaker: Float[Tensor, "b e"],
        text: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"],
    ) -> Float[Tensor, "b s q"]:
        """Latents of an item, [b, 1, z], are those of each of its symbols."""
        places = (-1, text.shape[1], -1)
        seen = torch.cat([latents.to(text).expand(places), speaker[:, None].expand(places), text], -1)
        return keep(self.norm(self.project(seen).tanh()), mask)
