"""Codecs with residual, grouped and scalar quantisers over encoders and decoders of the published families.

- ``ResidualCodec`` (``codec/rvq``): levels of codebooks, each for what is left over (SoundStream, arXiv:2107.03312;
  EnCodec, arXiv:2210.13438; DAC, arXiv:2306.06546).

Encoder and decoder work at the frame rate (``frames``).

Shapes: b batch, n samples, t token frames, q codebooks, d channels.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from unisono.audio import MelSpec
from unisono.audio.losses import LogMelLoss, MultiResolutionSTFTLoss
from unisono.errors import RecipeError
from unisono.nn.quantize import FactorisedResidualQuantizer, ResidualQuantizer

from unisono_codec.adversarial import Played
from unisono_codec.codec import Codec, CodecNet
from unisono_codec.frames import FrameDecoder, FrameEncoder, FrameSizes


@dataclass(frozen=True)
class Objective:
    """Weights of the losses beside the game.

    mel_weight: of the log-mel distance of the waveform.
    stft_weight: of the multi-resolution STFT distance.
    spectrogram_weight: of the distance of the decoder's own mel.
    pitch_weight: of the pitch's cross entropy, where there is a source.
    commitment_weight, codebook_weight: of the vectors' distance from their codes, as it moves vectors and codes.
    spectrogram_steps: first steps, on the decoder's own mel alone: several times cheaper.
    """

    mel_weight: float = 1.0
    stft_weight: float = 1.0
    spectrogram_weight: float = 1.0
    pitch_weight: float = 0.2
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    spectrogram_steps: int = 0


FRAMES, OBJECTIVE = FrameSizes(), Objective()


class ResidualCodec(Codec):
    """A codec with residual levels.

    Args:
        frames: sizes of encoder and decoder.
        latent_dim: channels of what is quantised.
        codebook_size: codes of each level.
        num_levels: levels.
        codes: ``factorised``: few channels, looked up by angle, learnt by gradient (DAC); ``average``: they follow by
            moving averages (EnCodec).
        code_dim: channels of a factorised code.
        level_dropout: the share of training items coded with fewer levels (DAC: 0.5).
        dead_below: a code used less than this share of an even use is reset.
        objective: weights of the losses.
    """

    def __init__(
        self,
        frames: FrameSizes = FRAMES,
        latent_dim: int = 128,
        codebook_size: int = 1024,
        num_levels: int = 8,
        codes: Literal["factorised", "average"] = "factorised",
        code_dim: int = 8,
        level_dropout: float = 0.5,
        dead_below: float = 0.1,
        objective: Objective = OBJECTIVE,
    ):
        super().__init__()
        self.frames = frames
        self.latent_dim = latent_dim
        self.size = codebook_size
        self.levels = num_levels
        self.codes = codes
        self.code_dim = code_dim
        self.level_dropout = level_dropout
        self.dead_below = dead_below
        self.objective = objective

    def build(self, facts: dict[str, Any]) -> None:
        """Build for the mel spectrogram and the sample rate of ``facts["mel_spec"]``."""
        super().build(facts)
        spec = MelSpec.from_dict(facts["mel_spec"])
        if self.frames.head == "harmonic" and not facts.get("pitch"):
            raise RecipeError("model.frames.head=harmonic learns from the recordings' pitch: set data.pitch=true")
        self.hop_length = spec.hop_length * self.frames.downsampling
        encoder = FrameEncoder(spec, self.frames, self.latent_dim)
        decoder = FrameDecoder(spec, self.frames, self.latent_dim)
        self.net = CodecNet(encoder, self._quantizer(self.latent_dim), decoder)
        self.mel_loss = LogMelLoss(spec)
        self.stft_loss = MultiResolutionSTFTLoss()

    def read_source(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take a vocoder's network for the decoder's head; weights of a codec are taken as they are."""
        if any(name.startswith("net.encoder.") for name in state):
            return state
        return {f"net.decoder.head.{name.removeprefix('net.')}": value for name, value in state.items()}

    def _quantizer(self, dim: int) -> nn.Module:
        sizes = (dim, self.size, self.levels)
        if self.codes == "average":
            return ResidualQuantizer(*sizes, dropout=self.level_dropout, dead_below=self.dead_below)
        return FactorisedResidualQuantizer(
            *sizes, code_dim=self.code_dim, dropout=self.level_dropout, dead_below=self.dead_below
        )

    # ---- training ------------------------------------------------------------------------------

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        return {}

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.play(batch).parts

    def play(self, batch: dict[str, Any]) -> Played:
        """Encode, quantise and decode a batch."""
        weights, real = self.objective, batch["wave"]
        self.check_crop(real)
        z = self.net.encoder(batch[self.net.encoder.reads])
        quantised = self.net.quantizer(z, None, batch["row"])
        alone = self.training and self.global_step < weights.spectrogram_steps
        fake, beside = self.net.decoder.teach(quantised.vectors, batch, alone)
        parts = {name: self.global_mean(*counted) for name, counted in beside.items()}
        parts["commitment"] = self.mean(quantised.commitment.mean(1))
        parts["codebook"] = self.mean(quantised.codebook.mean(1))
        if fake is not None:
            parts["mel"] = self.mean(self.mel_loss(fake, real))
            parts["stft"] = self.mean(self.stft_loss(fake, real))
        loss = sum(getattr(weights, f"{name}_weight") * value for name, value in parts.items())
        for level, (perplexity, used) in enumerate(zip(quantised.perplexity, quantised.utilisation, strict=True)):
            parts[f"perplexity_{level}"], parts[f"utilisation_{level}"] = perplexity, used
        return Played(fake, real, {"loss": loss, **parts})
