"""Parallel WaveGAN: a WaveNet that makes all samples at once from noise, and a discriminator that hears them.

Yamamoto, Song and Kim (arXiv:1910.11480), sections 2 and 3; the generator is ``wavenet.WaveNet``::

    generator        multi-resolution STFT + 4 · (1 − D(x̂))²        the first term alone for the first 100,000 steps
    discriminator    (1 − D(x))² + D(x̂)²

Differences: AdamW without decay where the paper has RAdam, with a linear warm-up of 2 / (1 − β₂) = 2,000 steps, which
is what rectification amounts to (Ma and Yarats, arXiv:1910.04209); one of the house's schedules, falling to half, where
the paper halves its rate once, after 200,000 of 400,000 steps; spectral convergence is averaged over items, not taken
of the whole batch.

Every sample goes through every layer: at the published sizes this takes some 45 times the CPU time of Vocos, 1.1 s of a
core for a second of sound. What it gains is a waveform made up from noise, as breath is, with no phase to be guessed.

Shapes: b batch, t frames, n samples (t · hop), m mel bins, c channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.errors import RecipeError
from unisono.train.adversarial import Adversarial, Played
from unisono.train.discriminator_losses import Judgement
from unisono_sound.precision import check_precision
from unisono_sound.signal.losses import MultiResolutionSTFTLoss

from unisono_codec.vocoders.sizes import WAVEGAN, WaveGame, WaveNetSizes
from unisono_codec.vocoders.vocoder import Vocoder
from unisono_codec.vocoders.wavenet import WaveNet

SLOPE = 0.2


class ParallelWaveGAN(Adversarial, Vocoder):
    """The vocoder from noise.

    Args:
        network: sizes of the generator.
        stft_resolutions: FFT size, hop and window of each distance of spectra (published: 1024, 120, 600; 2048, 240,
            1200; 512, 50, 240).
        game: the discriminator and when it begins.
    """

    salt: ClassVar[str] = "parallel-wavegan"
    deterministic: ClassVar[bool] = False  # each request has noise of its own
    net: WaveNet
    flat: ClassVar[dict[str, str]] = WAVEGAN

    def __init__(
        self,
        *,
        network: WaveNetSizes = WaveNetSizes(),  # noqa: B008
        stft_resolutions: tuple[tuple[int, int, int], ...] = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)),
        game: WaveGame = WaveGame(),  # noqa: B008
    ):
        super().__init__()
        self.sizes, self.stft_resolutions, self.game = network, stft_resolutions, game
        self.pretrain_steps = game.pretrain_steps
        self.scoring = "squares"
        self.adversarial_weight, self.feature_weight = game.adversarial_weight, 0.0
        self.discriminator_lr = game.lr

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the mel spectrogram of ``facts.mel_spec``."""
        super().build(facts)
        self.net = WaveNet(self.mel_spec, self.sizes)
        self.stft_loss = MultiResolutionSTFTLoss(self.stft_resolutions)

    # ---- as a vocoder --------------------------------------------------------------------------

    def decode(
        self,
        mel: Float[Tensor, "b t m"],
        lengths: Int[Tensor, " b"] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Float[Tensor, "b n"]:
        """Turn log mel spectrograms into waveforms of ``t · hop`` samples, from the noise of one seed per item.

        ``lengths`` are frames; an item's samples do not depend on what stands beyond them, and are
        zero there. Without ``seeds`` each is 0, in ``decode_stream`` too.
        """
        check_precision(self)
        return self.net(mel, lengths, seeds)

    def speak(
        self,
        mel: Float[Tensor, "b t m"],
        lengths: Int[Tensor, " b"],
        requests: Sequence[Vocoder.Request],
        generator: torch.Generator | None,
    ) -> Float[Tensor, "b n"]:
        if generator is None:
            return self.decode(mel, lengths, [request.seed for request in requests])
        return self.decode(mel, lengths, torch.randint(2**62, (len(mel),), generator=generator).tolist())

    # ---- training ------------------------------------------------------------------------------

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        return {"wave": (WaveDiscriminator(self.game.num_layers, self.game.channels), 1.0)}

    def play(self, batch: dict[str, Any]) -> Played:
        fake, real = self.net(batch["mel"], seeds=self.row_seeds(batch)), batch["wave"]
        stft = self.mean(self.stft_loss(fake, real))
        return Played(fake, real, {"loss": stft, "stft": stft})

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.play(batch).parts


class WaveDiscriminator(nn.Module):
    """Says of every sample whether it is real: convolutions without stride, dilations 1, 1, 2, 3 up to the layers less
    two, then 1.

    ::

        wave ─ conv 3 ─ (layers − 2) × conv 3, dilated ─ conv 3 ─ scores, one per sample
    """

    def __init__(self, num_layers: int = 10, channels: int = 64):
        super().__init__()
        if num_layers < 2 or channels < 1:
            message = (
                f"model.game.num_layers={num_layers} must be at least 2, and model.game.channels={channels} at least 1"
            )
            raise RecipeError(
                message,
                code="range",
                path="model.game.num_layers" if num_layers < 2 else "model.game.channels",
                value=min(num_layers, channels),
            )
        dilations = [1, *range(1, num_layers - 1)]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(channels if i else 1, channels, 3, padding=dilation, dilation=dilation))
            for i, dilation in enumerate(dilations)
        )
        self.score = weight_norm(nn.Conv1d(channels, 1, 3, padding=1))

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        x = wave[:, None]
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
        return [Judgement(self.score(x)[:, 0], [])]
