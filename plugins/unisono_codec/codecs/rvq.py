"""RVQ codecs: residual, grouped and scalar quantisers over encoders and decoders of the published families.

- ``ResidualCodec`` (``codec/rvq``): levels of codebooks, each for what is left over (SoundStream, arXiv:2107.03312;
  EnCodec, arXiv:2210.13438; DAC, arXiv:2306.06546).
- ``GroupedCodec`` (``codec/grvq``): groups of the channels, each with levels of its own (HiFi-Codec, arXiv:2305.02765).
- ``ScalarCodec`` (``codec/fsq``): finite scalar quantisation (arXiv:2309.15505), one token a frame.

Encoder and decoder each work over samples (``waveform``) or at the frame rate (``frames``); both are built from
options, so that one recipe is EnCodec, another DAC, and a third trains on a CPU. The loss::

    L = λ_mel · mel + λ_stft · stft + λ_wave · |x − x̂| + λ_s · spectrogram + λ_p · pitch
        + β · commitment + γ · codebook + λ_adv · adversarial + λ_feat · features

``objective`` and ``game`` hold the weights. DAC's are mel 15, features 2, adversarial 1, codebook 1, commitment 0.25,
with least squares; EnCodec's are wave 0.1, adversarial 3, features 3, commitment 1, with hinges. Of EnCodec the loss
balancer is left out (weights act on losses, not on gradients), its mel distance is DAC's, its features are not divided
by their mean, and the discriminators move at every step. Scores and features are added up over discriminators, as
published.

Shapes: b batch, n samples, t token frames, q codebooks, d channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn
from unisono.errors import CheckpointError, RecipeError
from unisono.nn.quantize import (
    FactorisedResidualQuantizer,
    GroupedQuantizer,
    Quantizer,
    ResidualQuantizer,
    ScalarQuantizer,
)
from unisono.train.adversarial import Played
from unisono_sound.discriminators import (
    MultiBandDiscriminator,
    MultiPeriodDiscriminator,
    MultiScaleSTFTDiscriminator,
)
from unisono_sound.signal.losses import LogMelLoss, MultiResolutionSTFTLoss, MultiScaleMelLoss

from unisono_codec.codecs.codec import Codec, CodecNet
from unisono_codec.codecs.frames import FrameDecoder, FrameEncoder, FrameSizes
from unisono_codec.codecs.waveform import WaveformDecoder, WaveformEncoder, WaveformSizes


@dataclass(frozen=True)
class Objective:
    """Weights of the losses beside the game.

    mel: which log-mel distance of the waveform: ``single``, of the data's spectrogram, or ``multi``, DAC's seven.
    mel_weight: its weight (DAC: 15).
    stft_weight: of the multi-resolution STFT distance.
    wave_weight: of the mean absolute distance of samples (EnCodec: 0.1).
    spectrogram_weight: of the distance of a frame decoder's own mel.
    pitch_weight: of the pitch's cross entropy, where there is a source.
    commitment_weight, codebook_weight: of the vectors' distance from their codes, as it moves vectors and codes.
    spectrogram_steps: first steps, on a frame decoder's own mel alone: several times cheaper.
    """

    mel: Literal["single", "multi"] = "single"
    mel_weight: float = 1.0
    stft_weight: float = 1.0
    wave_weight: float = 0.0
    spectrogram_weight: float = 1.0
    pitch_weight: float = 0.2
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    spectrogram_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class LevelSizes:
    """Codebooks, one for each level.

    codebook_size: codes of each level.
    num_levels: levels.
    level_dropout: the share of training items coded with fewer levels (DAC: 0.5).
    dead_below: a code used less than this share of an even use is reset.
    """

    codebook_size: int = 1024
    num_levels: int = 8
    level_dropout: float = 0.5
    dead_below: float = 0.1


@dataclass(frozen=True, kw_only=True)
class FactorisedSizes(LevelSizes):
    """Codebooks of few channels, looked up by angle, learnt by gradient; ``code_dim`` is the channels of a code."""

    code_dim: int = 8


@dataclass(frozen=True, kw_only=True)
class CodebookSpec(FactorisedSizes):
    """Codebooks of either kind.

    codes: ``factorised``: few channels, looked up by angle, learnt by gradient (DAC); ``average``: they follow by
        moving averages (EnCodec).
    code_dim: channels of a factorised code.
    """

    codes: Literal["factorised", "average"] = "factorised"


@dataclass(frozen=True)
class Game:
    """Discriminators and what they weigh.

    judges: ``none``; ``dac``, multi-period and multi-band, least squares; ``encodec``, multi-scale STFT, hinges.
    adversarial_weight, feature_weight: of the generator's terms (DAC: 1, 2; EnCodec: 3, 3).
    pretrain_steps: steps without discriminators first.
    periods, period_channels: of the multi-period discriminators.
    windows: of the STFT discriminators, in samples (DAC: 2048, 1024, 512; EnCodec: and 256, 128).
    channels: of the STFT discriminators (published: 32).
    """

    judges: Literal["none", "dac", "encodec"] = "none"
    adversarial_weight: float = 1.0
    feature_weight: float = 2.0
    pretrain_steps: int = 0
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    windows: tuple[int, ...] = (2048, 1024, 512)
    channels: int = 32


FLAT = {field.name: f"codebook.{field.name}" for field in fields(CodebookSpec)}
"""Where recipe format 1's arguments of the codebooks are."""
FRAMES, WAVEFORM, OBJECTIVE, GAME = FrameSizes(), WaveformSizes(), Objective(), Game()


class ResidualCodec(Codec):
    """A codec with residual levels.

    Args:
        encoder, decoder: ``frames`` or ``waveform``.
        frames, waveform: their sizes.
        latent_dim: channels of what is quantised (EnCodec: 128, DAC: 1024).
        codebook: the levels' codebooks.
        objective, game: the losses.
    """

    flat: ClassVar[dict[str, str]] = FLAT

    def __init__(
        self,
        *,
        encoder: Literal["frames", "waveform"] = "frames",
        decoder: Literal["frames", "waveform"] = "frames",
        frames: FrameSizes = FRAMES,
        waveform: WaveformSizes = WAVEFORM,
        latent_dim: int = 128,
        codebook: CodebookSpec = CodebookSpec(),
        objective: Objective = OBJECTIVE,
        game: Game = GAME,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.frames = frames
        self.waveform = waveform
        self.latent_dim = latent_dim
        self.codebook = codebook
        self.objective = objective
        self.game = game
        self.pretrain_steps = game.pretrain_steps
        self.adversarial_weight = game.adversarial_weight
        self.feature_weight = game.feature_weight
        self.scoring = "hinge" if game.judges == "encodec" else "squares"

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the mel spectrogram and the sample rate of ``facts.mel_spec``."""
        super().build(facts)
        spec, framed = self.facts.mel_spec, "frames" in (self.encoder, self.decoder)
        if self.decoder == "frames" and self.frames.head == "harmonic" and not self.facts.pitch:
            message = "model.frames.head=harmonic learns from the recordings' pitch: set data.pitch=true"
            raise RecipeError(message, code="conflict", path="model.frames.head", value="harmonic")
        hops = {spec.hop_length * self.frames.downsampling} if framed else set()
        if "waveform" in (self.encoder, self.decoder):
            hops.add(self.waveform.hop_length)
        if len(hops) > 1:
            message = (
                f"model.waveform.strides make token frames of {self.waveform.hop_length} samples, "
                f"model.frames.downsampling={self.frames.downsampling} and data.mel.hop_length={spec.hop_length} "
                "make others: let them agree"
            )
            raise RecipeError(message, code="conflict", path="model.waveform.strides", value=self.waveform.hop_length)
        (self.hop_length,) = hops
        if self.objective.spectrogram_steps and self.decoder == "waveform":
            message = "model.objective.spectrogram_steps needs decoder: frames, which says a mel of its own"
            raise RecipeError(
                message,
                code="conflict",
                path="model.objective.spectrogram_steps",
                value=self.objective.spectrogram_steps,
            )
        if self.encoder == "frames":
            encoder = FrameEncoder(spec, self.frames, self.latent_dim)
        else:
            encoder = WaveformEncoder(self.waveform, self.latent_dim)
        if self.decoder == "frames":
            decoder = FrameDecoder(spec, self.frames, self.latent_dim)
        else:
            decoder = WaveformDecoder(self.waveform, self.latent_dim)
        self.net = CodecNet(encoder, self._quantizer(self.latent_dim), decoder)
        self.mel_loss = LogMelLoss(spec) if self.objective.mel == "single" else MultiScaleMelLoss(spec.sample_rate)
        self.stft_loss = MultiResolutionSTFTLoss()

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from what knows another mel spectrogram, or, where no mel is read, another sample rate."""
        if "frames" in (self.encoder, self.decoder):
            return super().check_source(facts)
        its, rate = facts.get("mel_spec", {}).get("sample_rate"), self.sample_rate
        if its != rate:
            message = f"run.init_from knows sound at {its} Hz, the data has {rate}: prepare the data likewise"
            raise CheckpointError(message, code="conflict", path="run.init_from", value=its)

    def read_source(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take a vocoder's network for the decoder's head; weights of a codec are taken as they are."""
        if any(name.startswith("net.encoder.") for name in state):
            return state
        return {f"net.decoder.head.{name.removeprefix('net.')}": value for name, value in state.items()}

    def _quantizer(self, dim: int) -> Quantizer:
        book = self.codebook
        sizes, dropout, dead_below = (dim, book.codebook_size, book.num_levels), book.level_dropout, book.dead_below
        if book.codes == "average":
            return ResidualQuantizer(*sizes, dropout=dropout, dead_below=dead_below)
        return FactorisedResidualQuantizer(*sizes, code_dim=book.code_dim, dropout=dropout, dead_below=dead_below)

    # ---- training ------------------------------------------------------------------------------

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        game = self.game
        if game.judges == "none":
            return {}
        # Losses are means over discriminators; published, they are sums.
        count = len(game.windows)
        if game.judges == "encodec":
            return {"stft": (MultiScaleSTFTDiscriminator(game.windows, game.channels), count)}
        return {
            "period": (MultiPeriodDiscriminator(game.periods, game.period_channels), len(game.periods)),
            "band": (MultiBandDiscriminator(game.windows, game.channels), count),
        }

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self._made(batch)[1]

    def play(self, batch: dict[str, Any]) -> Played:
        """Encode, quantise and decode a batch."""
        fake, parts = self._made(batch)
        assert fake is not None, "the game begins while the spectrogram alone is learnt, which makes no wave"
        return Played(fake, batch["wave"], parts)

    def _made(self, batch: dict[str, Any]) -> tuple[Float[Tensor, "b n"] | None, dict[str, Tensor]]:
        """Return a batch's waves, None while the spectrogram alone is learnt, and its losses."""
        weights, real = self.objective, batch["wave"]
        self.check_crop(real)
        z = self.net.encoder(batch[self.net.encoder.reads])
        quantised = self.net.quantizer(z, None, batch["row"])
        if self.training and self.global_step < weights.spectrogram_steps:
            fake, beside = None, self.net.decoder.teach_mel(quantised.vectors, batch)
        else:
            fake, beside = self.net.decoder.teach(quantised.vectors, batch)
        parts = {name: self.global_mean(*counted) for name, counted in beside.items()}
        parts["commitment"] = self.mean(quantised.commitment.mean(1))
        parts["codebook"] = self.mean(quantised.codebook.mean(1))
        if fake is not None:
            if weights.mel_weight:
                parts["mel"] = self.mean(self.mel_loss(fake, real))
            if weights.stft_weight:
                parts["stft"] = self.mean(self.stft_loss(fake, real))
            if weights.wave_weight:
                parts["wave"] = self.mean((fake - real).abs().mean(1))
        loss = reduce(add, [getattr(weights, f"{name}_weight") * value for name, value in parts.items()])
        for level, (perplexity, used) in enumerate(zip(quantised.perplexity, quantised.utilisation, strict=True)):
            parts[f"perplexity_{level}"], parts[f"utilisation_{level}"] = perplexity, used
        return fake, {"loss": loss, **parts}


class GroupedCodec(ResidualCodec):
    """A codec with residual levels for each of several groups of the channels; tokens stand level by level.

    Arguments are those of ``ResidualCodec``, and ``num_groups``; ``codebook.num_levels`` counts for each group
    (HiFi-Codec: 2 groups, 2 levels).
    """

    def __init__(
        self,
        *,
        num_groups: int = 2,
        encoder: Literal["frames", "waveform"] = "frames",
        decoder: Literal["frames", "waveform"] = "frames",
        frames: FrameSizes = FRAMES,
        waveform: WaveformSizes = WAVEFORM,
        latent_dim: int = 128,
        codebook: CodebookSpec = CodebookSpec(num_levels=2),
        objective: Objective = OBJECTIVE,
        game: Game = GAME,
    ):
        super().__init__(
            encoder=encoder,
            decoder=decoder,
            frames=frames,
            waveform=waveform,
            latent_dim=latent_dim,
            codebook=codebook,
            objective=objective,
            game=game,
        )
        if num_groups < 1 or latent_dim % num_groups:
            message = f"model.num_groups={num_groups} must divide model.latent_dim={latent_dim}"
            raise RecipeError(message, code="range", path="model.num_groups", value=num_groups)
        self.groups = num_groups

    @property
    def num_groups(self) -> int:
        return self.groups

    def _quantizer(self, dim: int) -> Quantizer:
        part = dim // self.groups
        return GroupedQuantizer([super(GroupedCodec, self)._quantizer(part) for _ in range(self.groups)], by_level=True)


class ScalarCodec(ResidualCodec):
    """A codec with finite scalar quantisation: one token a frame, no codebook to learn.

    Args:
        scales: levels of each channel of a code; their product is the codebook (the paper's 8, 5, 5, 5 make 1,000;
            8, 8, 8, 8 make 4,096; 8, 8, 8, 5, 5, 5 make 64,000).
        encoder, decoder, frames, waveform, latent_dim, objective, game: as of ``ResidualCodec``.
    """

    flat: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        *,
        scales: tuple[int, ...] = (8, 8, 8, 8),
        encoder: Literal["frames", "waveform"] = "frames",
        decoder: Literal["frames", "waveform"] = "frames",
        frames: FrameSizes = FRAMES,
        waveform: WaveformSizes = WAVEFORM,
        latent_dim: int = 128,
        objective: Objective = OBJECTIVE,
        game: Game = GAME,
    ):
        super().__init__(
            encoder=encoder,
            decoder=decoder,
            frames=frames,
            waveform=waveform,
            latent_dim=latent_dim,
            objective=objective,
            game=game,
        )
        if not scales or min(scales) < 2:
            message = f"model.scales={list(scales)} must be whole numbers of at least 2, one or more"
            raise RecipeError(message, code="range", path="model.scales", value=scales)
        self.scales = scales

    def _quantizer(self, dim: int) -> Quantizer:
        return ScalarQuantizer(dim, self.scales)
