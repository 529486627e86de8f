"""TacotronNet: Parallel Tacotron's parts put together, from symbols, a speaker and latents to spectrograms.

Shapes: b batch, s symbols, t frames, m mel bins, d channels, e channels of a speaker (0 where there is one), l places
of latents (s, or 1 for an item's), z latent coordinates. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.duration import Alignment, LearnedUpsampling

from unisono_tts.parallel_tacotron.latents import Bottleneck, Posterior, SpeakerPrior, StandardPrior, TextPrior
from unisono_tts.parallel_tacotron.network import DurationDecoder, IterativeDecoder, RepeatUpsampling, TextEncoder
from unisono_tts.parallel_tacotron.sizes import LatentSizes, TacotronSizes


class TacotronNet(nn.Module):
    """The network; ``repeats`` and ``learns`` say which kinds of upsampling it has."""

    def __init__(
        self,
        sizes: TacotronSizes,
        latents: LatentSizes,
        *,
        num_symbols: int,
        num_speakers: int,
        n_mels: int,
        repeats: bool,
        learns: bool,
    ):
        super().__init__()
        speaker_dim = sizes.speaker_dim if num_speakers > 1 else 0
        self.embedding = nn.Embedding(num_symbols, sizes.dim)
        self.speaker = nn.Embedding(num_speakers, speaker_dim) if speaker_dim else None
        self.encoder = TextEncoder(sizes)
        self.posterior = Posterior(sizes, latents, n_mels, speaker_dim)
        if latents.prior == "standard":
            self.prior: nn.Module = StandardPrior(latents)
        elif latents.level == "global":
            self.prior = SpeakerPrior(latents, num_speakers)
        else:
            self.prior = TextPrior(sizes, latents, speaker_dim)
        self.bottleneck = Bottleneck(sizes, latents, speaker_dim)
        self.mix = nn.Linear(sizes.dim + sizes.bottleneck_dim + speaker_dim, sizes.dim)
        self.durations = DurationDecoder(sizes)
        self.repeats = RepeatUpsampling(sizes.dim) if repeats else None
        self.upsampler = LearnedUpsampling(sizes.dim) if learns else None
        self.decoder = IterativeDecoder(sizes, n_mels)

    def encode(
        self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"], speaker: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b e"]]:
        """Return what the symbols mean in context, and the speaker."""
        text = self.encoder(self.embedding(symbols), mask)
        return text, text.new_zeros(len(text), 0) if self.speaker is None else self.speaker(speaker)

    def plan(
        self,
        text: Float[Tensor, "b s d"],
        latents: Float[Tensor, "b l z"],
        speaker: Float[Tensor, "b e"],
        mask: Bool[Tensor, "b s"],
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s d"], Float[Tensor, "b s"]]:
        """Return what repetition reads, what learned upsampling reads, and durations in frames."""
        along = speaker[:, None].expand(-1, text.shape[1], -1)
        x = self.mix(torch.cat([text, self.bottleneck(latents, speaker, text, mask), along], -1))
        v, frames = self.durations(x, mask)
        return x, v, frames

    def decode(
        self, x: Float[Tensor, "b s d"], v: Float[Tensor, "b s d"], alignment: Alignment, learned: bool
    ) -> list[Float[Tensor, "b t m"]]:
        """Return the standardised spectrogram of each of the decoder's blocks."""
        if learned:
            assert self.upsampler is not None
            frames, alignment = self.upsampler(v, alignment.durations, alignment.src_lengths)
        else:
            assert self.repeats is not None
            frames = self.repeats(x, alignment)
        return self.decoder(frames, alignment.tgt_mask)
