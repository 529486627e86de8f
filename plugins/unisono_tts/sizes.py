"""Sizes: the groups of a voice's ``model:`` section in recipe format 2, and where format 1 had them."""

from dataclasses import dataclass
from typing import Literal

from unisono.nn.fft import FFTSizes


@dataclass(frozen=True, kw_only=True)
class NetworkSizes(FFTSizes):
    """A feed-forward transformer's sizes, and how many blocks lie before and behind the repetition."""

    encoder_layers: int = 6
    decoder_layers: int = 6


@dataclass(frozen=True, kw_only=True)
class PredictorSizes:
    """What predicts per symbol: channels, dropout, and the longest duration."""

    dim: int = 256
    dropout: float = 0.1
    max_frames_per_symbol: int = 200


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The losses' weights; ``mel`` is ``mse`` as published, or ``l1``, which blurs less."""

    mel: Literal["mse", "l1"] = "mse"
    duration_weight: float = 1.0
    align_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PitchObjective(Objective):
    """With the weights of the squared errors of pitch and energy."""

    duration_weight: float = 0.1
    pitch_weight: float = 0.1
    energy_weight: float = 0.1


@dataclass(frozen=True, kw_only=True)
class AlignerSchedule:
    """How the aligner learns, in steps.

    align_steps: steps at the start that train the aligner alone, before there is anything to repeat; the schedule of
        the learning rate, with its warm-up, begins anew after them.
    prior_steps: over how many steps the aligner's prior fades to nothing; 0 keeps it, as published.
    binarise_start: step from which the alignment is pulled to its hard path, and
    binarise_steps: over how many steps that grows to its full weight.
    """

    align_steps: int = 0
    prior_steps: int = 0
    binarise_start: int = 1000
    binarise_steps: int = 1000


NETWORK = ("dim", "encoder_layers", "decoder_layers", "num_heads", "head_dim", "filter_dim", "kernel_size", "dropout")
FLAT = {
    **{name: f"network.{name}" for name in (*NETWORK, "norm_first")},
    "predictor_dim": "predictor.dim",
    "predictor_dropout": "predictor.dropout",
    "max_frames_per_symbol": "predictor.max_frames_per_symbol",
    "mel_loss": "objective.mel",
    **{f"{name}_weight": f"objective.{name}_weight" for name in ("duration", "align")},
    **{name: f"aligner.{name}" for name in ("align_steps", "prior_steps", "binarise_start", "binarise_steps")},
}
"""Where recipe format 1's arguments of FastSpeech are."""
