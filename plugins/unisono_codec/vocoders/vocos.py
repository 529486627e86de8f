"""Vocos: a vocoder that predicts Fourier coefficients frame by frame and inverts them.

Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders for
high-quality audio synthesis" (arXiv:2306.00814). Every layer runs at the frame rate; the inverse
STFT does all the upsampling, which is why it is fast.

Differences from the paper: "same" padding, so that t frames give exactly t · hop samples; the input
is shifted so that zero means silence, and zero padding is therefore silence before and after;
padding frames of a batch are masked in every convolution and in the overlap-add, so that an item
alone and in a batch agree. ``Vocos`` trains without a GAN, on the distance of spectra;
``gan.VocosGAN`` adds discriminators; ``harmonic.HarmonicNet`` replaces the head.

Shapes: b batch, t frames, n samples (t · hop), m mel bins, f frequencies, d channels.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.graphs import Graphs
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.wide import wide
from unisono_sound.signal import MelSpec, istft_same
from unisono_sound.signal.losses import LogMelLoss, MultiResolutionSTFTLoss
from unisono_sound.signal.stft import overlap_add, same_padding

from unisono_codec.vocoders.sizes import VOCOS, VocosObjective, VocosSizes
from unisono_codec.vocoders.vocoder import SILENCE, Vocoder

MAX_MAGNITUDE = 1e2
"""The published limit on a predicted magnitude: exp() of an untrained layer can be anything."""


class VocosNet(nn.Module):
    """The generator.

    ::

        log mel ─ conv 7 ─ LayerNorm ─ N × ConvNeXt 7 ─ LayerNorm ─ Linear ─┬─ exp, clip ─┐
                                                                          └─ cos, sin ──┴─ ISTFT

    It sees ``context`` frames on each side of a frame; beyond that nothing matters.
    """

    window: Tensor

    def __init__(
        self,
        mel_spec: MelSpec,
        dim: int,
        intermediate_dim: int,
        num_blocks: int,
        num_outputs: int | None = None,
    ):
        super().__init__()
        self.mel_spec = mel_spec
        self.embed = nn.Conv1d(mel_spec.n_mels, dim, kernel_size=7, padding=3)
        self.embed_norm = nn.LayerNorm(dim, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(dim, intermediate_dim, kernel_size=7, layer_scale=1 / num_blocks) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_outputs or mel_spec.n_fft + 2)
        self.register_buffer("window", torch.hann_window(mel_spec.n_fft), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def context(self) -> int:
        """Frames on each side that a frame's samples depend on: convolutions, then windows."""
        overlap = math.ceil((self.mel_spec.n_fft / self.mel_spec.hop_length - 1) / 2)
        return 3 * (1 + len(self.blocks)) + overlap

    def features(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        """Return what the head reads, in at least float32."""
        x = (mel - SILENCE) / -SILENCE
        if mask is not None:
            x = x * mask[..., None]
        x = self.embed_norm(self.embed(x.mT).mT)
        for block in self.blocks:
            x = block(x, mask)
        with torch.autocast(x.device.type, enabled=False):
            return self.norm(wide(x))

    def coefficients(
        self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Complex[Tensor, "b t f"]:
        """Predict the short-time Fourier coefficients."""
        x = self.features(mel, mask)
        # A phase in bfloat16 is off by up to 1 % of a turn.
        with torch.autocast(x.device.type, enabled=False):
            log_magnitude, phase = self.head(x).chunk(2, dim=-1)
            magnitude = log_magnitude.exp().clamp(max=MAX_MAGNITUDE)
            if mask is not None:
                magnitude = magnitude * mask[..., None]
            return torch.complex(magnitude * phase.cos(), magnitude * phase.sin())

    def forward(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b n"]:
        """Turn log mels into waveforms; samples beyond an item's ``lengths`` (frames) are zero."""
        mask = self.mask(mel, lengths)
        return self.invert(self.coefficients(mel, mask), mask)

    def teach(self, batch: dict[str, Tensor]) -> tuple[Float[Tensor, "b n"], dict[str, tuple[Tensor, Tensor]]]:
        """Return a training batch's waveforms, and losses of what they are made from: values and where
        they count. There are none here."""
        return self(batch["mel"]), {}

    def stream(self, chunks: Iterable[Float[Tensor, "b t m"]]) -> Iterator[Float[Tensor, "b n"]]:
        """Turn mel chunks of any length into waves that join up to the whole."""
        context, hop = self.context, self.mel_spec.hop_length
        held, done = None, 0  # frames kept, and how many of them are spoken already
        for chunk in chunks:
            held = chunk if held is None else torch.cat([held, chunk], dim=1)
            ready = held.shape[1] - context
            if ready > done:
                yield self(held)[:, done * hop : ready * hop]
                drop = max(ready - context, 0)
                held, done = held[:, drop:], ready - drop
        if held is not None and held.shape[1] > done:
            yield self(held)[:, done * hop :]

    def graph_form(self) -> nn.Module:
        """Return the network on real numbers, log mels [1, t, m] to waves [1, n]; see ``graphs``."""
        from unisono_codec.vocoders.graphs import VocosProducts

        return VocosProducts(self)

    def mask(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None) -> Bool[Tensor, "b t"] | None:
        """Return which frames are an item's own; None where all are."""
        if lengths is None:
            return None
        return torch.arange(mel.shape[1], device=mel.device) < lengths.to(mel.device)[:, None]

    def invert(self, spectrum: Complex[Tensor, "b t f"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b n"]:
        """Transform coefficients back; where ``mask`` ends an item, so does its waveform."""
        n_fft, hop = self.mel_spec.n_fft, self.mel_spec.hop_length
        wave = istft_same(spectrum, n_fft, hop, self.window)
        if mask is None:
            return wave
        # The overlap-add was normalised as if padding had sounded; undo that at each item's end.
        gain = self._envelope(torch.ones_like(mask)) / self._envelope(mask).clamp(min=1e-8)
        return (wave * gain).masked_fill(~mask.repeat_interleave(hop, dim=1), 0.0)

    def _envelope(self, mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b n"]:
        hop = self.mel_spec.hop_length
        left, _ = same_padding(self.mel_spec.n_fft, hop)
        frames = mask[..., None] * self.window.square()
        return overlap_add(frames, hop)[:, left : left + mask.shape[1] * hop]


class Vocos(Vocoder):
    """The vocoder without a GAN: multi-resolution STFT and log-mel distances only.

    Cheap and stable to train, a little buzzy; ``vocos-gan`` can go on from it.

    Args:
        network: sizes of the generator.
        source: ``none``, as published, or ``harmonic``: pulses and noise that the network filters (see
            ``harmonic``); needs data with ``pitch: true``.
        objective: weights of the losses; the pitch's counts where there is a source.
    """

    net: VocosNet
    flat: ClassVar[dict[str, str]] = VOCOS

    def __init__(
        self,
        *,
        network: VocosSizes = VocosSizes(),  # noqa: B008
        source: Literal["none", "harmonic"] = "none",
        objective: VocosObjective = VocosObjective(),  # noqa: B008
    ):
        super().__init__()
        self.network, self.source, self.objective = network, source, objective

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the mel spectrogram of ``facts.mel_spec``."""
        super().build(facts)
        sizes = (self.mel_spec, self.network.dim, self.network.intermediate_dim, self.network.num_blocks)
        if self.source == "harmonic":
            if not self.facts.pitch:
                message = "model.source=harmonic learns from the recordings' pitch: set data.pitch=true"
                raise RecipeError(message, code="conflict", path="model.source", value="harmonic")
            from unisono_codec.vocoders.harmonic import HarmonicNet

            self.net = HarmonicNet(*sizes)
        else:
            self.net = VocosNet(*sizes)
        self.mel_loss = LogMelLoss(self.mel_spec)
        self.stft_loss = MultiResolutionSTFTLoss()

    # ---- as a graph ----------------------------------------------------------------------------

    def graph_form(self) -> nn.Module:
        """Return what turns log mels [1, t, m] into waves [1, n] on real numbers, to be part of a graph."""
        return self.net.graph_form()

    @torch.no_grad()
    def graph_modules(self) -> Graphs:
        """Return one graph, ``wave``; over a harmonic source it goes on from piece to piece."""
        from unisono_codec.vocoders.graphs import wave_graph

        mels = [self._mel(request) for request in self.preview_requests()]
        return wave_graph(self.net, mels)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        wave, beside = self.net.teach(batch)
        target = batch["wave"]
        everyone = torch.ones(len(target), dtype=torch.bool, device=target.device)
        mel = self.global_mean(self.mel_loss(wave, target), everyone)
        stft = self.global_mean(self.stft_loss(wave, target), everyone)
        parts = {name: self.global_mean(*counted) for name, counted in beside.items()}
        loss = stft + self.objective.mel_weight * mel + self.objective.pitch_weight * sum(parts.values())
        return {"loss": loss, "mel": mel, "stft": stft, **parts}
