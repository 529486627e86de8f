"""Vocos: a vocoder that predicts Fourier coefficients frame by frame and inverts them.

Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders for
high-quality audio synthesis" (arXiv:2306.00814). Every layer runs at the frame rate; the inverse
STFT does all the upsampling, which is why it is fast.

Differences from the paper: "same" padding, so that t frames give exactly t · hop samples; the input
is shifted so that zero means silence, and zero padding is therefore silence before and after;
padding frames of a batch are masked in every convolution and in the overlap-add, so that an item
alone and in a batch agree. ``Vocos`` trains without a GAN, on the distance of spectra;
``gan.VocosGAN`` adds discriminators.

Shapes: b batch, t frames, n samples (t · hop), m mel bins, f frequencies, d channels.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Bool, Complex, Float, Int
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.audio import LogMel, MelInverse, MelSpec, istft_same, read_audio
from unisono.audio.losses import LogMelLoss, MultiResolutionSTFTLoss
from unisono.audio.mel import LOG_FLOOR
from unisono.audio.stft import overlap_add, same_padding
from unisono.errors import CheckpointError, RequestError
from unisono.media import Audio
from unisono.model import Model, OnStep, Request
from unisono.nn.convnext import ConvNeXtBlock

SILENCE = math.log(LOG_FLOOR)
"""The log mel of digital silence."""

MAX_MAGNITUDE = 1e2
"""The published limit on a predicted magnitude: exp() of an untrained layer can be anything."""


class VocosNet(nn.Module):
    """The generator.

    ::

        log mel ─ conv 7 ─ LayerNorm ─ N × ConvNeXt 7 ─ LayerNorm ─ Linear ─┬─ exp, clip ─┐
                                                                          └─ cos, sin ──┴─ ISTFT

    It sees ``context`` frames on each side of a frame; beyond that nothing matters.
    """

    def __init__(
        self,
        mel_spec: MelSpec,
        dim: int,
        intermediate_dim: int,
        num_blocks: int,
        prior: MelInverse | None = None,
    ):
        super().__init__()
        self.mel_spec = mel_spec
        self.prior = prior
        self.embed = nn.Conv1d(mel_spec.n_mels, dim, kernel_size=7, padding=3)
        self.embed_norm = nn.LayerNorm(dim, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(dim, intermediate_dim, kernel_size=7, layer_scale=1 / num_blocks)
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, mel_spec.n_fft + 2)
        self.register_buffer("window", torch.hann_window(mel_spec.n_fft), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    @property
    def context(self) -> int:
        """Frames on each side that a frame's samples depend on: convolutions, then windows."""
        overlap = math.ceil((self.mel_spec.n_fft / self.mel_spec.hop_length - 1) / 2)
        return 3 * (1 + len(self.blocks)) + overlap

    def coefficients(
        self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Complex[Tensor, "b t f"]:
        """Predict the short-time Fourier coefficients."""
        x = (mel - SILENCE) / -SILENCE
        if mask is not None:
            x = x * mask[..., None]
        x = self.embed_norm(self.embed(x.mT).mT)
        for block in self.blocks:
            x = block(x, mask)
        # A phase in bfloat16 is off by up to 1 % of a turn.
        with torch.autocast(x.device.type, enabled=False):
            log_magnitude, phase = self.head(self.norm(x.float())).chunk(2, dim=-1)
            if self.prior is not None:
                log_magnitude = log_magnitude + self.prior(mel).clamp(min=LOG_FLOOR).log()
            magnitude = log_magnitude.exp().clamp(max=MAX_MAGNITUDE)
            if mask is not None:
                magnitude = magnitude * mask[..., None]
            return torch.complex(magnitude * phase.cos(), magnitude * phase.sin())

    def forward(
        self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b n"]:
        """Turn log mels into waveforms; samples beyond an item's ``lengths`` (frames) are zero."""
        n_fft, hop = self.mel_spec.n_fft, self.mel_spec.hop_length
        if lengths is None:
            return istft_same(self.coefficients(mel), n_fft, hop, self.window)
        mask = torch.arange(mel.shape[1], device=mel.device) < lengths.to(mel.device)[:, None]
        wave = istft_same(self.coefficients(mel, mask), n_fft, hop, self.window)
        # The overlap-add was normalised as if padding had sounded; undo that at each item's end.
        gain = self._envelope(torch.ones_like(mask)) / self._envelope(mask).clamp(min=1e-8)
        return (wave * gain).masked_fill(~mask.repeat_interleave(hop, dim=1), 0.0)

    def _envelope(self, mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b n"]:
        hop = self.mel_spec.hop_length
        left, _ = same_padding(self.mel_spec.n_fft, hop)
        frames = mask[..., None] * self.window.square()
        return overlap_add(frames, hop)[:, left : left + mask.shape[1] * hop]


class Vocos(Model):
    """The vocoder without a GAN: multi-resolution STFT and log-mel distances only.

    Cheap and stable to train, a little buzzy; ``vocos-gan`` can go on from it.

    Args:
        dim: channels of the blocks (published: 512).
        intermediate_dim: channels inside a block (published: 1536).
        num_blocks: ConvNeXt blocks (published: 8).
        mel_inverse: let the network correct the least-squares inverse of the mel instead of making the
            magnitudes from nothing (not in the paper); saves much of a short training.
        mel_weight: weight of the log-mel distance beside the STFT distance.
    """

    Media: ClassVar[type[Audio]] = Audio
    text_field: ClassVar[str] = "audio"

    class Request(Request):
        """A recording to analyse and resynthesise, or a log mel spectrogram."""

        audio: str | None = Field(None, description="path of a recording to resynthesise")
        mel: Annotated[
            list[list[float]] | None,
            BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x),
        ] = Field(
            None, description="natural-log mel spectrogram, frames by bins, to turn into sound"
        )

        @model_validator(mode="after")
        def _one_source(self):
            if (self.audio is None) == (self.mel is None):
                raise ValueError("give either audio, a path, or mel, a list of frames")
            return self

    def __init__(
        self,
        dim: int = 512,
        intermediate_dim: int = 1536,
        num_blocks: int = 8,
        mel_inverse: bool = False,
        mel_weight: float = 1.0,
    ):
        super().__init__()
        self.dim = dim
        self.intermediate_dim = intermediate_dim
        self.num_blocks = num_blocks
        self.mel_inverse = mel_inverse
        self.mel_weight = mel_weight
        self._previews: list[Vocos.Request] = []

    def build(self, facts: dict[str, Any]) -> None:
        """Build for the mel spectrogram of ``facts["mel_spec"]``."""
        super().build(facts)
        self.mel_spec = MelSpec.from_dict(facts["mel_spec"])
        prior = MelInverse(self.mel_spec, num_updates=4) if self.mel_inverse else None
        self.net = VocosNet(
            self.mel_spec, self.dim, self.intermediate_dim, self.num_blocks, prior
        )
        self.log_mel = LogMel(self.mel_spec)
        self.mel_loss = LogMelLoss(self.mel_spec)
        self.stft_loss = MultiResolutionSTFTLoss()

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a vocoder of another mel spectrogram."""
        its = facts.get("mel_spec")
        if its != self.facts["mel_spec"]:
            raise CheckpointError(
                f"run.init_from speaks mels of {its}, the data has {self.facts['mel_spec']}: "
                "prepare the data likewise"
            )

    # ---- as a vocoder --------------------------------------------------------------------------

    def decode(
        self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b n"]:
        """Turn log mel spectrograms into waveforms of ``t · hop`` samples.

        ``lengths`` are frames; an item's samples do not depend on what stands beyond them, and are
        zero there.
        """
        return self.net(mel, lengths)

    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Turn mel chunks [b, t, m] of any t into waves [b, n] that join up to ``decode``.

        Output lags ``net.context`` frames behind, which is all that the network sees ahead. Each
        chunk costs twice as many frames on top: prefer chunks longer than that.
        """
        context, hop = self.net.context, self.mel_spec.hop_length
        held, done = None, 0  # frames kept, and how many of them are spoken already
        for chunk in chunks:
            held = chunk if held is None else torch.cat([held, chunk], dim=1)
            ready = held.shape[1] - context
            if ready > done:
                yield self.net(held)[:, done * hop : ready * hop]
                drop = max(ready - context, 0)
                held, done = held[:, drop:], ready - drop
        if held is not None and held.shape[1] > done:
            yield self.net(held)[:, done * hop :]

    @torch.no_grad()
    def synthesize(
        self,
        requests: Sequence["Vocos.Request"],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Audio]:
        """Resynthesise each request's recording, or speak its spectrogram. Deterministic."""
        mels = [self._mel(request) for request in requests]
        lengths = torch.tensor([len(mel) for mel in mels], device=self.device)
        padded = nn.utils.rnn.pad_sequence(mels, batch_first=True, padding_value=SILENCE)
        waves = self.decode(padded, lengths).float().cpu()
        if on_step is not None:
            on_step(1, 1)
        hop, rate = self.mel_spec.hop_length, self.mel_spec.sample_rate
        return [
            Audio(wave[None, : length * hop].numpy(), rate)
            for wave, length in zip(waves, lengths.tolist(), strict=True)
        ]

    def _mel(self, request: "Vocos.Request") -> Float[Tensor, "t m"]:
        if request.mel is not None:
            widths = {len(frame) for frame in request.mel}
            if widths != {self.mel_spec.n_mels}:
                raise RequestError(
                    f"mel has frames of {sorted(widths)} bins: give at least one frame, "
                    f"each of {self.mel_spec.n_mels} bins"
                )
            return torch.tensor(request.mel, device=self.device)
        wave, _ = read_audio(request.audio, self.mel_spec.sample_rate)
        wave = wave.to(self.device)
        hop, needed = self.mel_spec.hop_length, self.mel_spec.n_fft
        if len(wave) < needed:
            wave = F.pad(wave, (0, needed - len(wave)))
        return self.log_mel(wave[None, : len(wave) // hop * hop])[0]

    def preview_requests(self) -> list["Vocos.Request"]:
        """Two excerpts of the validation data; before any validation, a gliding buzz, long and short."""
        if self._previews:
            return self._previews
        seconds = torch.arange(self.mel_spec.sample_rate) / self.mel_spec.sample_rate
        phase = 2 * math.pi * (110 * seconds + 55 * seconds.square())
        buzz = sum(torch.sin(k * phase) / k for k in range(1, 12)) * 0.1
        hop = self.mel_spec.hop_length
        wave = buzz[None, : len(buzz) // hop * hop].to(self.device)
        mel = self.log_mel(wave)[0].cpu()
        return [self.Request(mel=mel), self.Request(mel=mel[: len(mel) // 3])]

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        wave, target = self.net(batch["mel"]), batch["wave"]
        everyone = torch.ones(len(target), dtype=torch.bool, device=target.device)
        mel = self.global_mean(self.mel_loss(wave, target), everyone)
        stft = self.global_mean(self.stft_loss(wave, target), everyone)
        return {"loss": stft + self.mel_weight * mel, "mel": mel, "stft": stft}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if batch_idx == 0:
            self._previews = [self.Request(mel=mel.cpu()) for mel in batch["mel"][:2]]
        super().validation_step(batch, batch_idx)

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": batch["mel"].shape[0] * batch["mel"].shape[1]}
