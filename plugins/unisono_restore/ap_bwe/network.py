"""Network: AP-BWE's generator, which makes wide amplitudes and phases of narrow ones side by side.

Lu, Ai, Sheng and Ling, "Towards high-quality and efficient speech bandwidth extension with parallel amplitude and phase
prediction" (arXiv:2401.06387), section III.

Differences: the amplitude's head begins at zero, so that an untrained generator returns the amplitude that it is given;
the phase of what is below the amplitude's floor is near 0, rather than that of a rounding; beyond its ends a waveform
is silent and not mirrored; frames outside of an item are masked; a frame in which nothing sounds stays silent.

Shapes: b batch, n samples, t frames, f frequencies, d channels. Masks are True where a frame is kept.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.wide import wide
from unisono_sound.signal.phase import CentredTransform, TransformSizes, compose, phase

from unisono_restore.ap_bwe.sizes import BandSizes

__all__ = ["FLOOR", "BandNet", "Spectrum", "log_amplitude"]

FLOOR = 1e-4
"""What amplitudes are raised by before their logarithm is taken."""


class Spectrum(NamedTuple):
    """A spectrum by its log amplitude and its phase."""

    log_amplitude: Float[Tensor, "b t f"]
    phase: Float[Tensor, "b t f"]

    @property
    def complex(self) -> Complex[Tensor, "b t f"]:
        """The spectrum itself, floor included."""
        return compose(self.log_amplitude.exp(), self.phase)


class Stream(nn.Module):
    """The layers of one stream: a stem, and blocks that the two streams go through side by side."""

    def __init__(self, num_bins: int, sizes: BandSizes):
        super().__init__()
        self.stem = nn.Conv1d(num_bins, sizes.dim, kernel_size=7, padding=3)
        self.stem_norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(sizes.dim, sizes.intermediate_dim, kernel_size=7, layer_scale=1 / sizes.num_blocks)
            for _ in range(sizes.num_blocks)
        )
        self.norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None  # all of them have one
                nn.init.zeros_(module.bias)

    def begin(self, x: Float[Tensor, "b t f"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        """Apply the stem."""
        if mask is not None:
            x = x * mask[..., None]
        return self.stem_norm(self.stem(x.mT).mT)


class BandNet(nn.Module):
    """The generator.

    ::

        log |X| ─┬─ conv 7 ─ LayerNorm ─(+)─ ConvNeXt ─(+)─ … ─ LayerNorm ─ Linear ─(+)─ log |Y|
                 └───────────────────────┼────────────────────────────────────────────┘
                                        (+) each way, before each pair of blocks
                                         │
        ∠X ──────── conv 7 ─ LayerNorm ─(+)─ ConvNeXt ─(+)─ … ─ LayerNorm ─ 2 × Linear ─ atan2 ─ ∠Y

    The amplitude's stream takes the phase's in first; the phase's takes what comes of that.
    """

    def __init__(self, spectrum: TransformSizes, sizes: BandSizes):
        super().__init__()
        self.transform = CentredTransform(spectrum)
        self.amplitudes = Stream(spectrum.num_bins, sizes)
        self.phases = Stream(spectrum.num_bins, sizes)
        self.amplitude_head = nn.Linear(sizes.dim, spectrum.num_bins)
        nn.init.zeros_(self.amplitude_head.weight)
        nn.init.zeros_(self.amplitude_head.bias)
        self.real_head = nn.Linear(sizes.dim, spectrum.num_bins)
        self.imaginary_head = nn.Linear(sizes.dim, spectrum.num_bins)

    @property
    def reach(self) -> int:
        """Samples on each side of a sample that it depends on: a window, the convolutions, a window."""
        sizes = self.transform.sizes
        return 2 * sizes.reach + 3 * (1 + len(self.amplitudes.blocks)) * sizes.hop_length

    def predict(self, heard: Spectrum, mask: Bool[Tensor, "b t"] | None = None) -> Spectrum:
        """Return the wide spectrum of a narrow one; the heads are in float32."""
        loud, turn = self.amplitudes.begin(heard.log_amplitude, mask), self.phases.begin(heard.phase, mask)
        for loud_block, turn_block in zip(self.amplitudes.blocks, self.phases.blocks, strict=True):
            loud = loud + turn
            turn = turn + loud
            loud, turn = loud_block(loud, mask), turn_block(turn, mask)
        with torch.autocast(loud.device.type, enabled=False):
            log_amplitude = heard.log_amplitude + self.amplitude_head(self.amplitudes.norm(wide(loud)))
            turn = self.phases.norm(wide(turn))
            return Spectrum(log_amplitude, torch.atan2(self.imaginary_head(turn), self.real_head(turn)))

    def forward(self, wave: Float[Tensor, "b n"], lengths: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b n"]:
        """Make narrow waveforms wide; samples beyond an item's ``lengths`` do not matter, and are zero."""
        num_samples = wave.shape[1]
        mask = inside = None
        if lengths is not None:
            inside = torch.arange(num_samples, device=wave.device) < lengths[:, None]
            wave = wave.masked_fill(~inside, 0)
            mask = self.transform.mask(lengths, self.transform.sizes.frames(num_samples))
        spectrum = self.transform(wave)
        made = self.predict(self.analysed(spectrum), mask)
        sounding = (spectrum != 0).any(-1, keepdim=True)
        wave = self.transform.inverse(made.complex * sounding, num_samples, mask)
        return wave if inside is None else wave.masked_fill(~inside, 0)

    def analysed(self, spectrum: Complex[Tensor, "b t f"]) -> Spectrum:
        """Return what the network hears of a spectrum."""
        return Spectrum(log_amplitude(spectrum), phase(spectrum, FLOOR))


def log_amplitude(spectrum: Complex[Tensor, "b t f"]) -> Float[Tensor, "b t f"]:
    """Return ``log(|X| + FLOOR)``."""
    return (spectrum.abs() + FLOOR).log()
