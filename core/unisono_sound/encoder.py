"""Encoder: what a model that works on features of speech needs of the component that makes them.

A protocol and no base class: a recogniser, a codec, an encoder of a third party or ``LogMelEncoder`` satisfies it as it
stands. An encoder is frozen where it is a component. What is learnt beside its layers comes in by ``adapt``: what that
returns for the number and the input of a layer is added to the layer's output::

    x_{i+1} = layer_i(x_i) + adapt(i, x_i)

Shapes: b batch, n samples, t features, d channels.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono.errors import RequestError

from unisono_sound.signal.mel import LogMel, MelSpec

__all__ = ["Adapt", "Encoder", "FeatureSpec", "Features", "LogMelEncoder", "check_layer"]

Adapt = Callable[[int, Float[Tensor, "b t d"]], Float[Tensor, "b t d"]]


@dataclass(frozen=True)
class FeatureSpec:
    """What a feature means.

    sample_rate: of what is heard, in hertz.
    hop_length: samples of that from one feature to the next; feature j lies around (j + 1/2) · hop_length.
    dim: channels.
    num_layers: layers that can be adapted, all of ``dim`` channels; 0 where there is only an output.
    """

    sample_rate: int
    hop_length: int
    dim: int
    num_layers: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` takes it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FeatureSpec":
        """Return the spec that ``to_dict`` described."""
        return cls(**values)


class Features(NamedTuple):
    """Features of a batch, and how many each item has; those behind an item's end do not count."""

    values: Float[Tensor, "b t d"]
    lengths: Int[Tensor, " b"]


@runtime_checkable
class Encoder(Protocol):
    """Turns waveforms at its rate into features."""

    @property
    def feature_spec(self) -> FeatureSpec:
        """What its features are."""
        ...

    def features(
        self,
        wave: Float[Tensor, "b n"],
        lengths: Int[Tensor, " b"] | None = None,
        layer: int | None = None,
        adapt: Adapt | None = None,
    ) -> Features:
        """Return the features of waves at ``feature_spec.sample_rate``; an item's do not depend on its batch.

        ``layer``, from 1 to ``num_layers``, gives the output of that layer; None that of all. Gradients reach what
        ``adapt`` is made of. Raises ``RequestError`` for a layer that there is not.
        """
        ...


def check_layer(layer: int | None, num_layers: int) -> None:
    """Raise ``RequestError`` for a layer that an encoder lacks."""
    if layer is not None and not 1 <= layer <= num_layers:
        what = f"must be from 1 to {num_layers}" if num_layers else "is given, but this encoder has only an output"
        raise RequestError(f"layer={layer} {what}: leave it out for the last", code="range", path="layer", value=layer)


class LogMelEncoder:
    """The plainest features: natural-log mels, one per hop. It has no layers."""

    def __init__(self, mel_spec: MelSpec):
        self.mel_spec = mel_spec
        self.log_mel = LogMel(mel_spec)

    @property
    def feature_spec(self) -> FeatureSpec:
        """One feature per mel frame."""
        return FeatureSpec(self.mel_spec.sample_rate, self.mel_spec.hop_length, self.mel_spec.n_mels)

    def features(
        self,
        wave: Float[Tensor, "b n"],
        lengths: Int[Tensor, " b"] | None = None,
        layer: int | None = None,
        adapt: Adapt | None = None,
    ) -> Features:
        """Return log mels, silent beyond the ends of items."""
        check_layer(layer, 0)
        hop = self.mel_spec.hop_length
        counts = torch.full((len(wave),), wave.shape[1]) if lengths is None else lengths
        counts = counts.to(wave.device)
        wave = wave.masked_fill(torch.arange(wave.shape[1], device=wave.device) >= counts[:, None], 0.0)
        whole = F.pad(wave, (0, -wave.shape[1] % hop))
        log_mel = self.log_mel.to(wave.device)
        return Features(log_mel(whole, pad_mode="constant"), -(-counts // hop))
