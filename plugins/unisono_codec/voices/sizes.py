"""Sizes: the groups of a token voice's ``model:`` section in recipe format 2, and where format 1 had them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConformerSizes:
    """Sizes of a Conformer, SoundStorm's as published."""

    dim: int = 1024
    num_layers: int = 12
    num_heads: int = 16
    filter_dim: int = 4096
    kernel_size: int = 5
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class DurationSizes:
    """What predicts durations: channels, dropout, and the longest that is predicted for one symbol, in mel frames."""

    dim: int = 128
    dropout: float = 0.1
    max_frames_per_symbol: int = 100


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of the losses beside the tokens' cross-entropy, and that one's label smoothing.

    duration_weight: of the squared error of log durations.
    align_weight: of the prompt aligner's cross-entropy.
    """

    duration_weight: float = 0.1
    align_weight: float = 0.1
    label_smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DecodingDefaults:
    """How a voice fills tokens, where a request does not say.

    level_steps: evaluations for each level; None is 16 and then one for each.
    temperature, choice_temperature: of the draw, in levels with more than one step, and of the noise in which tokens
        are kept first.
    """

    level_steps: list[int] | None = None
    temperature: float = 1.0
    choice_temperature: float = 1.0


NETWORK = {
    name: f"network.{name}" for name in ("dim", "num_layers", "num_heads", "filter_dim", "kernel_size", "dropout")
}
"""Where recipe format 1's sizes of the Conformer are."""
