"""STFT: the "same"-padded short-time Fourier transform and its exact inverse.

"Same" means: ``(n_fft - hop) / 2`` samples of context on either side, so that ``t * hop`` samples
make exactly ``t`` frames and frame ``i`` is centred on sample ``(i + 1/2) * hop``. The inverse is
the weighted overlap-add of Griffin and Lim (1984), eq. 6: frames are windowed a second time and
divided by the sum of the squared windows, which undoes ``stft_same`` exactly and is the
least-squares answer otherwise.

Shapes: b batch, n samples, t frames, f = n_fft // 2 + 1 frequencies, w window length.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor


def same_padding(n_fft: int, hop: int) -> tuple[int, int]:
    """Return how many samples of context "same" framing needs on the left and on the right."""
    left = (n_fft - hop) // 2
    return left, n_fft - hop - left


def stft_same(
    wave: Float[Tensor, "b n"],
    n_fft: int,
    hop: int,
    window: Float[Tensor, "w"],
    pad_mode: str = "reflect",
) -> Complex[Tensor, "b t f"]:
    """Transform a waveform into ``n // hop`` frames.

    ``pad_mode`` is "reflect", "constant" (zeros), or "none" where ``wave`` brings its own context.
    Raises ``ValueError`` if the waveform is too short to reflect.
    """
    left, right = same_padding(n_fft, hop)
    if pad_mode != "none":
        if pad_mode == "reflect" and wave.shape[-1] <= right:
            raise ValueError(
                f"a waveform of {wave.shape[-1]} samples is too short for n_fft={n_fft}, "
                f"hop={hop}: reflection needs at least {right + 1} samples"
            )
        wave = F.pad(wave[:, None], (left, right), mode=pad_mode)[:, 0]
    spectrum = torch.stft(wave, n_fft, hop, window.shape[0], window, center=False, return_complex=True)
    return spectrum.transpose(1, 2)


def istft_same(
    spectrum: Complex[Tensor, "b t f"], n_fft: int, hop: int, window: Float[Tensor, "w"]
) -> Float[Tensor, "b n"]:
    """Transform ``t`` frames back into exactly ``t * hop`` samples; ``hop`` is at most ``n_fft /
    2``."""
    if not 0 < hop <= n_fft // 2:
        raise ValueError(f"hop={hop} must lie between 1 and n_fft / 2 = {n_fft // 2} to overlap")
    short = n_fft - window.shape[0]
    window = F.pad(window, (short // 2, short - short // 2))
    num_frames = spectrum.shape[1]
    frames = torch.fft.irfft(spectrum, n_fft, dim=-1) * window
    envelope = window.square().expand(1, num_frames, n_fft)
    left, _ = same_padding(n_fft, hop)
    inside = slice(left, left + num_frames * hop)
    return overlap_add(frames, hop)[:, inside] / overlap_add(envelope, hop)[:, inside]


def overlap_add(frames: Float[Tensor, "b t w"], hop: int) -> Float[Tensor, "b n"]:
    """Add frames up at their places, ``hop`` samples apart: ``n >= (t - 1) * hop + w`` samples."""
    num_batch, num_frames, width = frames.shape
    num_parts = -(-width // hop)
    parts = F.pad(frames, (0, num_parts * hop - width)).unflatten(-1, (num_parts, hop))
    out = frames.new_zeros(num_batch, num_frames + num_parts - 1, hop)
    for i in range(num_parts):
        out[:, i : i + num_frames] += parts[:, :, i]
    return out.flatten(1)
