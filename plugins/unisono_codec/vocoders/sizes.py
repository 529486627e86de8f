"""Sizes: the groups of a vocoder's ``model:`` section in recipe format 2, and where format 1 had them."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class VocosSizes:
    """Sizes of Vocos.

    dim: channels of the blocks (published: 512).
    intermediate_dim: channels inside a block (published: 1536).
    num_blocks: ConvNeXt blocks (published: 8).
    """

    dim: int = 512
    intermediate_dim: int = 1536
    num_blocks: int = 8


@dataclass(frozen=True, kw_only=True)
class VocosObjective:
    """Weights of the log-mel distance beside the STFT distance, and of the pitch's cross entropy."""

    mel_weight: float = 1.0
    pitch_weight: float = 0.2


@dataclass(frozen=True, kw_only=True)
class VocosGANObjective(VocosObjective):
    """Weights beside the adversarial losses.

    mel_weight: of the log-mel distance (published: 45).
    pitch_weight: of the pitch's cross entropy, where there is a source.
    stft_weight: of the multi-resolution STFT distance (published: none), which a training too short for the game to
        settle needs.
    """

    mel_weight: float = 45.0
    pitch_weight: float = 1.0
    stft_weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class VocosGame:
    """Discriminators and when they begin.

    resolution_weight: weight of the multi-resolution discriminators (published: 0.1).
    periods: of the multi-period discriminators.
    period_channels: channels of their layers (published: 32, 128, 512, 1024, 1024).
    resolutions: FFT size and hop of the multi-resolution discriminators.
    resolution_channels: channels of their layers (published: 64).
    pretrain_steps: steps on the distance of spectra alone before the game begins.
    """

    resolution_weight: float = 0.1
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    resolutions: tuple[tuple[int, int], ...] = ((1024, 256), (2048, 512), (512, 128))
    resolution_channels: int = 64
    pretrain_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class WaveNetSizes:
    """Sizes of Parallel WaveGAN's generator.

    upsample_factors: how the mel is brought to the sample rate; their product is the hop.
    num_layers: dilated convolutions (published: 30).
    num_stacks: stacks that share them, dilations 1, 2, 4 and so on in each (published: 3).
    channels: of the residual (published: 64).
    gate_channels: inside a layer, half of them gates (published: 128).
    skip_channels: of what layers add up to (published: 64).
    kernel_size: of the dilated convolutions, odd (published: 3).
    mel_context: frames on each side that the mel's own convolution sees (published code: 2).
    """

    upsample_factors: tuple[int, ...] = (4, 4, 4, 4)
    num_layers: int = 30
    num_stacks: int = 3
    channels: int = 64
    gate_channels: int = 128
    skip_channels: int = 64
    kernel_size: int = 3
    mel_context: int = 2


@dataclass(frozen=True, kw_only=True)
class WaveGame:
    """The discriminator of Parallel WaveGAN and when it begins.

    adversarial_weight: weight of its judgement (published: 4).
    num_layers: its dilated convolutions (published: 10).
    channels: of these (published: 64).
    lr: its learning rate, relative to ``optim.lr`` (published: 0.5).
    pretrain_steps: steps on the distance of spectra alone (published: 100,000).
    """

    adversarial_weight: float = 4.0
    num_layers: int = 10
    channels: int = 64
    lr: float = 0.5
    pretrain_steps: int = 100_000


VOCOS = {
    **{field.name: f"network.{field.name}" for field in fields(VocosSizes)},
    **{field.name: f"objective.{field.name}" for field in fields(VocosObjective)},
}
"""Where recipe format 1's arguments of Vocos are."""
VOCOS_GAN = {
    **VOCOS,
    "stft_weight": "objective.stft_weight",
    **{field.name: f"game.{field.name}" for field in fields(VocosGame)},
}
"""Where recipe format 1's arguments of Vocos GAN are."""
WAVEGAN = {
    **{field.name: f"network.{field.name}" for field in fields(WaveNetSizes)},
    "adversarial_weight": "game.adversarial_weight",
    "discriminator_layers": "game.num_layers",
    "discriminator_channels": "game.channels",
    "discriminator_lr": "game.lr",
    "pretrain_steps": "game.pretrain_steps",
}
"""Where recipe format 1's arguments of Parallel WaveGAN are."""
