"""WaveFit: a vocoder that corrects a waveform a few times, trained on what it says each time.

Koizumi et al. (arXiv:2210.01029); the iteration is ``wavefit_net``, its network ``wavefit_unet``. Of T iterates y_t,
all of which the discriminators judge::

    generator        mean over t of  [ hinge(D(y_t)) + 10 · FM(y_t) + 2.5 · SC(y_t) + 2.5 · |log S − log S(y_t)| ]
    discriminators   hinge(D(x)) + mean over t of hinge(−D(y_t))

as the paper has it for LibriTTS: SC is spectral convergence, S magnitudes at three resolutions, D the discriminators of
MelGAN at three rates, FM the mean distance of their features. Differences: zero means silence in the mel; spectral
convergence is averaged over items, not taken of the whole batch; ``wavefit_net`` and ``wavefit_noise`` name their own.

The level of each iterate is corrected over the whole item, so that a waveform cannot be begun before its mel is known:
``decode_stream`` is refused.

Shapes: b batch, t frames, n samples (t · hop), m mel bins.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError, RequestError
from unisono.train.adversarial import Adversarial, Played
from unisono_sound.precision import check_precision
from unisono_sound.signal.losses import MultiResolutionSTFTLoss

from unisono_codec.vocoders.vocoder import Vocoder
from unisono_codec.vocoders.wavefit_judge import LAYERS, WaveScales
from unisono_codec.vocoders.wavefit_net import WaveFitNet, with_peak
from unisono_codec.vocoders.wavefit_sizes import WaveFitGame, WaveFitObjective, WaveFitSizes


class WaveFit(Adversarial, Vocoder):
    """The vocoder by fixed-point iteration.

    Args:
        network: sizes of the U-Net.
        num_iterations: T, from 1 on; the network is made for it (published: 2, 3 and 5).
        gain: what each iterate's level is corrected to: ``power``, that of the mel, as published; ``peak``, 0.9, as
            in Miipher.
        objective: weights beside the adversarial loss.
        game: the discriminators.
    """

    salt: ClassVar[str] = "wavefit"
    deterministic: ClassVar[bool] = False  # each request has noise of its own
    net: WaveFitNet

    def __init__(
        self,
        *,
        network: WaveFitSizes = WaveFitSizes(),  # noqa: B008
        num_iterations: int = 5,
        gain: Literal["power", "peak"] = "power",
        objective: WaveFitObjective = WaveFitObjective(),  # noqa: B008
        game: WaveFitGame = WaveFitGame(),  # noqa: B008
    ):
        super().__init__()
        if num_iterations < 1:
            message = f"model.num_iterations={num_iterations} must be at least 1"
            raise RecipeError(message, code="range", path="model.num_iterations", value=num_iterations)
        self.sizes, self.num_iterations = network, num_iterations
        self.gain: Literal["power", "peak"] = gain
        self.objective, self.game = objective, game
        self.pretrain_steps = game.pretrain_steps
        self.feature_weight = game.feature_weight / LAYERS  # the core adds layers up, the paper averages them
        self.discriminator_lr = game.lr

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the mel spectrogram of ``facts.mel_spec``."""
        super().build(facts)
        self.net = WaveFitNet(self.mel_spec, self.sizes, self.num_iterations, self.gain)
        self.stft_loss = MultiResolutionSTFTLoss(self.objective.stft_resolutions)

    # ---- as a vocoder --------------------------------------------------------------------------

    def decode(
        self,
        mel: Float[Tensor, "b t m"],
        lengths: Int[Tensor, " b"] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Float[Tensor, "b n"]:
        """Turn log mel spectrograms into waveforms of ``t · hop`` samples, from the noise of one seed per item.

        ``lengths`` are frames; an item's samples do not depend on what stands beyond them, and are
        zero there. Without ``seeds`` each is 0.
        """
        check_precision(self)
        return self.net(mel, lengths, seeds)

    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Raise ``RequestError``: the level of every sample depends on the whole mel."""
        message = (
            "codec/wavefit corrects the level over a whole mel, which a stream does not know: call decode with all of "
            "it, or give a vocoder that streams, such as codec/vocos"
        )
        raise RequestError(message, code="unsupported", path="decode_stream")

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
        return {"scales": (WaveScales(self.game.scales, self.game.channels, self.game.most_channels), 1.0)}

    def play(self, batch: dict[str, Any]) -> Played:
        """Return all iterates of each item, the first of all items first."""
        fake = torch.cat(list(self.net.iterates(batch["mel"], seeds=self.row_seeds(batch))))
        real = with_peak(batch["wave"]) if self.gain == "peak" else batch["wave"]
        stft = self.mean(self.stft_loss(fake, real.repeat(self.num_iterations, 1)))
        return Played(fake, real, {"loss": self.objective.stft_weight * stft, "stft": stft})

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.play(batch).parts
