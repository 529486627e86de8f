"""Network: a noisy spectrum to a clean one, magnitude and phase side by side.

Lu, Ai and Ling, "MP-SENet" (arXiv:2305.13686, conformers) and "Explicit estimation of magnitude and phase spectra in
parallel" (arXiv:2308.08926, transformers)::

    magnitude ^ 0.3 ─┐                                     ┌─ mask decoder ──(×)─ ^ 1/0.3 ─┐
                     ├─ dense encoder ─ N × time-frequency ─┤                             ├─ inverse transform
    phase ───────────┘                                     └─ phase decoder ──────────────┘

Differences: instance norms and recurrences know each item's end, so that an item alone and in a batch agree; attention
looks along its sequences; beyond the ends the transform hears silence, not a mirror (``unisono_sound.signal.phase``).
None of the two is causal.

Shapes: b batch, n samples, t frames, f frequencies. Masks are True where a frame is an item's own.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.nn.modules import Modules
from unisono_sound.signal.phase import CentredTransform, TransformSizes, amplitude, compose

from unisono_restore.mp_senet.blocks import TimeFrequency
from unisono_restore.mp_senet.decoders import MaskDecoder, PhaseDecoder
from unisono_restore.mp_senet.dense import DenseEncoder
from unisono_restore.mp_senet.sizes import SENetSizes
from unisono_restore.mp_senet.spectra import Compressed, compressed, gain_to_unit


class Estimate(NamedTuple):
    """What the network makes of a batch at unit level: compressed spectra, waveforms, and which frames are kept."""

    spectrum: Compressed
    wave: Float[Tensor, "b n"]
    mask: Bool[Tensor, "b t"] | None


class SENet(nn.Module):
    """The network with its transform."""

    def __init__(self, spectrum: TransformSizes, sizes: SENetSizes):
        super().__init__()
        self.sizes = sizes
        self.transform = CentredTransform(spectrum)
        self.encoder = DenseEncoder(sizes.channels, sizes.depth, sizes.short)
        self.blocks: Modules[TimeFrequency] = Modules(TimeFrequency(sizes) for _ in range(sizes.num_blocks))
        self.mask_decoder = MaskDecoder(sizes, spectrum.num_bins)
        self.phase_decoder = PhaseDecoder(sizes)

    def forward(
        self, heard: Compressed, mask: Bool[Tensor, "b t"] | None = None
    ) -> tuple[Float[Tensor, "b t f"], Float[Tensor, "b t f"]]:
        """Return the mask of the compressed magnitude, and the phase."""
        x = torch.stack(heard, dim=1)
        if mask is not None:
            x = x * mask[:, None, :, None]
        x = self.encoder(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        return self.mask_decoder(x, mask), self.phase_decoder(x, mask)

    def estimate(self, noisy: Float[Tensor, "b n"], lengths: Int[Tensor, " b"] | None = None) -> Estimate:
        """Return what is made of sound at unit level; samples beyond an item's length must be zero."""
        spectrum = self.transform(noisy)
        mask = None if lengths is None else self.transform.mask(lengths, spectrum.shape[1])
        heard = compressed(spectrum, self.sizes.compression)
        gain, phase = self(heard, mask)
        # of the magnitude itself, so that silence stays silent: only its compressed form has a floor
        made = compose(amplitude(spectrum, 0.0) * gain.pow(1 / self.sizes.compression), phase)
        wave = self.transform.inverse(made, noisy.shape[1], mask)
        if lengths is not None:
            wave = wave * (torch.arange(wave.shape[1], device=wave.device) < lengths[:, None])
        return Estimate(Compressed(heard.magnitude * gain, phase), wave, mask)

    def enhance(self, noisy: Float[Tensor, "b n"], lengths: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b n"]:
        """Return sound of any level without its noise: twice as loud in is twice as loud out, silence is silence."""
        if lengths is not None:
            noisy = noisy * (torch.arange(noisy.shape[1], device=noisy.device) < lengths[:, None])
        gain = gain_to_unit(noisy, lengths)
        return self.estimate(noisy * gain, lengths).wave / gain
