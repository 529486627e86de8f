"""Sizes: the groups of Parallel Tacotron's ``model:`` section."""

from dataclasses import dataclass
from typing import Literal

from unisono.nn.fft import FFTSizes
from unisono.nn.lconv import LConvSizes


@dataclass(frozen=True, kw_only=True)
class TacotronSizes:
    """The network's sizes.

    dim: channels throughout.
    encoder_convs, encoder_layers: convolutions and transformer blocks of the text encoder.
    encoder_heads, encoder_filter_dim, encoder_kernel_size: of its transformer blocks.
    posterior_layers, duration_layers, decoder_layers: blocks of lightweight convolutions.
    posterior_kernel_size, duration_kernel_size, decoder_kernel_size: taps of these.
    lconv_heads: heads of them all.
    speaker_dim: channels of a speaker, where there are several.
    bottleneck_dim: channels through which the rest of the network sees latents.
    norm_first: each LayerNorm before its branch, not as published: learns at a high rate from the start.
    """

    dim: int = 256
    encoder_convs: int = 3
    encoder_layers: int = 6
    encoder_heads: int = 2
    encoder_filter_dim: int = 1024
    encoder_kernel_size: int = 5
    posterior_layers: int = 5
    posterior_kernel_size: int = 17
    duration_layers: int = 4
    duration_kernel_size: int = 3
    decoder_layers: int = 6
    decoder_kernel_size: int = 17
    lconv_heads: int = 8
    speaker_dim: int = 64
    bottleneck_dim: int = 32
    dropout: float = 0.1
    norm_first: bool = False
    max_frames_per_symbol: int = 200

    def lconv(self, kernel_size: int) -> LConvSizes:
        """Return the sizes of blocks of so many taps."""
        return LConvSizes(
            dim=self.dim,
            num_heads=self.lconv_heads,
            kernel_size=kernel_size,
            dropout=self.dropout,
            norm_first=self.norm_first,
        )

    def transformer(self) -> FFTSizes:
        """Return the sizes of the text encoder's blocks."""
        return FFTSizes(
            dim=self.dim,
            num_heads=self.encoder_heads,
            head_dim=self.dim // self.encoder_heads,
            filter_dim=self.encoder_filter_dim,
            kernel_size=self.encoder_kernel_size,
            dropout=self.dropout,
            norm_first=self.norm_first,
        )


@dataclass(frozen=True, kw_only=True)
class LatentSizes:
    """What the latents are.

    level: one vector for each symbol (``phoneme``), or one for each item (``global``).
    dim: coordinates of a vector.
    prior: ``standard`` is N(0, 1). ``learned`` is one that the divergence is measured from by speaker (``global``), or
        one that is read from the text beside it (``phoneme``).
    posterior: what a symbol's is made of: the frames that it attends to (``attention``), or its own (``durations``).
    """

    level: Literal["phoneme", "global"] = "phoneme"
    dim: int = 8
    prior: Literal["standard", "learned"] = "standard"
    posterior: Literal["attention", "durations"] = "attention"


@dataclass(frozen=True, kw_only=True)
class TacotronObjective:
    """The losses and their weights.

    reconstruction: ``l1`` frame by frame with known durations, or ``soft-dtw`` with the predicted ones, of which only
        the total is supervised; each is summed over the decoder's blocks.
    duration_weight: of the absolute error in frames, per symbol.
    align_weight: of the aligner's losses.
    kl_weight: of the divergence of a latent vector in nats, at the end of its ramp.
    kl_start, kl_steps: step from which the divergence counts, and over how many more steps it grows to its full weight.
    prior_weight: of the loss of a prior that reads the text. No other weights learn from it, but clipping sees it.
    free_nats: what each coordinate of a latent may hold without being paid for.
    """

    reconstruction: Literal["l1", "soft-dtw"] = "l1"
    duration_weight: float = 0.1
    align_weight: float = 1.0
    kl_weight: float = 0.01
    kl_start: int = 6000
    kl_steps: int = 44000
    prior_weight: float = 0.1
    free_nats: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SoftDTWOptions:
    """Soft-DTW's numbers, in sums over mel bins of the standardised spectrogram.

    gamma: how soft its minimum is.
    warp_penalty: what a step costs that is not along the diagonal; as many as mel bins as published.
    band: how many (pooled) frames a path may be off the diagonal; an item whose predicted length is off by more is left
        out of the reconstruction of that step, and counted in ``outside``.
    pool_frames: frames that are averaged before they are compared; 1 is none, as published.
    """

    gamma: float = 0.05
    warp_penalty: float = 128.0
    band: int = 60
    pool_frames: int = 1


@dataclass(frozen=True, kw_only=True)
class Stages:
    """From which step of the run something is used; a run begins by repetition and frame by frame before.

    learned_from: the learned upsampling, where ``upsampling`` is learned.
    soft_dtw_from: soft-DTW, where ``objective.reconstruction`` is soft-dtw; from there on no durations are needed.
    """

    learned_from: int = 0
    soft_dtw_from: int = 0
