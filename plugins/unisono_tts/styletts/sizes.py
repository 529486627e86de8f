"""Sizes: the groups of StyleTTS' ``model:`` section."""

from dataclasses import dataclass

from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class StyleSizes:
    """Sizes of the networks.

    dim: channels of the text, of prosody, and of the decoder behind its upsampling; even (published: 512).
    decoder_dim: channels of the decoder at half the frame rate (published: 1024).
    style_dim: numbers of a style (published: 128).
    picture_dim: channels of the style encoder's first layer, which four blocks double up to ``dim`` (published: 64).
    residual_dim: channels of the text as each block of the decoder is given it again (published: 64).
    text_layers: convolutions of the text encoder (published: 3).
    prosody_layers: recurrent layers in front of the durations (published: 3).
    kernel_size: of the text encoder's convolutions, odd (published: 5).
    dropout: of text, decoder and prosody (published: 0.2).
    duration_dropout: before the durations (published: 0.5).
    max_frames_per_symbol: longest duration.
    """

    dim: int = 512
    decoder_dim: int = 1024
    style_dim: int = 128
    picture_dim: int = 64
    residual_dim: int = 64
    text_layers: int = 3
    prosody_layers: int = 3
    kernel_size: int = 5
    dropout: float = 0.2
    duration_dropout: float = 0.5
    max_frames_per_symbol: int = 200

    def __post_init__(self) -> None:
        if self.dim % 2 or self.dim < 2:
            message = f"model.network.dim={self.dim} must be even: recurrent layers have half of it in each direction"
            raise RecipeError(message, code="shape", path="model.network.dim", value=self.dim)
        if not self.kernel_size % 2:
            message = f"model.network.kernel_size={self.kernel_size} must be odd, so that symbols keep their places"
            raise RecipeError(message, code="shape", path="model.network.kernel_size", value=self.kernel_size)


@dataclass(frozen=True, kw_only=True)
class StyleObjective:
    """The losses' weights.

    mel: of the absolute error of standardised mels, in both stages (published: 5).
    mono: of the absolute difference of the soft and the monotonic alignment (published: 10).
    align: of the aligner's own loss, in place of the recogniser's cross entropy (published: 1).
    duration: of the absolute error of durations in half frames (published: 1).
    pitch: of the smooth absolute error of the standardised logarithm; 5 is about the published 0.1 on hertz.
    energy: of the smooth absolute error of the standardised logarithm (published: 1).
    """

    mel: float = 5.0
    mono: float = 10.0
    align: float = 1.0
    duration: float = 1.0
    pitch: float = 5.0
    energy: float = 1.0


@dataclass(frozen=True, kw_only=True)
class StyleGame:
    """The discriminator of mels and when it begins.

    adversarial_weight: of its judgement (published: 1); 0 trains without it.
    feature_weight: of the distance of its features (published: 0.1).
    gradient_weight: of the penalty on its slope, R1 (published: 1).
    picture_dim: channels of its first layer (published: 64).
    max_dim: most channels of its layers (published: 512).
    pretrain_steps: steps without it.
    """

    adversarial_weight: float = 1.0
    feature_weight: float = 0.1
    gradient_weight: float = 1.0
    picture_dim: int = 64
    max_dim: int = 512
    pretrain_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class StyleSchedule:
    """What is learnt when, in steps.

    align_steps: steps at the start that train the aligner alone.
    prior_steps: over how many steps the aligner's prior fades to nothing; 0 keeps it.
    mono_start: step from which the aligner learns from mels too, and is pulled to its monotonic path
        (published: after 20 of 200 epochs).
    prosody_start: step from which the second stage goes on: prosody is learnt, and all else stays as it is. None is
        never, 0 from the start, which needs ``run.init_from``.
    crop_frames: of an utterance, so many are decoded in training, an even number; shorter ones whole.
    stretch: in the second stage, utterances are this much slower or faster at most (published: 0.25).
    """

    align_steps: int = 0
    prior_steps: int = 0
    mono_start: int = 0
    prosody_start: int | None = None
    crop_frames: int = 192
    stretch: float = 0.25

    def __post_init__(self) -> None:
        if self.crop_frames < 2 or self.crop_frames % 2:
            message = f"model.schedule.crop_frames={self.crop_frames} must be even and at least 2: frames go in pairs"
            raise RecipeError(message, code="range", path="model.schedule.crop_frames", value=self.crop_frames)
        if not 0 <= self.stretch < 1:
            message = f"model.schedule.stretch={self.stretch} must be in [0, 1)"
            raise RecipeError(message, code="range", path="model.schedule.stretch", value=self.stretch)
