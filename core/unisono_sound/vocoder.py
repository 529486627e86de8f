"""Vocoder: what a model that says mels needs of the component that turns them into sound.

A protocol and no base class: a vocoder of a plugin, of a third party or ``GriffinLim`` satisfies it as it stands.

Shapes: b batch, t frames, n samples (t · hop), m mel bins.
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.graphs import Graphs
from unisono.model import Model

from unisono_sound.signal.mel import MelSpec

__all__ = ["GraphVocoder", "Vocoder", "check_vocoder"]


@runtime_checkable
class Vocoder(Protocol):
    """Turns log mel spectrograms of one kind, ``mel_spec``, into waveforms."""

    mel_spec: MelSpec

    def decode(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b n"]:
        """Return waveforms of ``t · hop`` samples in float32.

        ``lengths`` are frames; an item's samples do not depend on what stands beyond them, and are zero there.
        """
        ...


@runtime_checkable
class GraphVocoder(Vocoder, Protocol):
    """A vocoder that can be part of a graph."""

    def graph_form(self) -> nn.Module:
        """Return what turns log mels [1, t, m] into waves [1, t · hop] without complex numbers or checks of values."""
        ...

    def graph_modules(self) -> Graphs:
        """Return the graph ``wave``: log mels, and what else it needs to go on from an earlier piece, to waves."""
        ...


def check_vocoder(mel_spec: MelSpec, vocoder: Any) -> None:
    """Refuse, by ``RecipeError``, what is no vocoder, and one made for another mel spectrogram."""
    speaks = isinstance(vocoder, Model) and "vocoder" in vocoder.roles  # a voice has decode() too, of another kind
    if speaks or not isinstance(vocoder, Vocoder):
        message = (
            f"a {type(vocoder).__name__} is no vocoder, which has mel_spec and decode(mel, lengths): choose another"
        )
        raise RecipeError(message, code="type", path="vocoder", value=type(vocoder).__name__)
    if vocoder.mel_spec != mel_spec:
        message = f"the vocoder is for {vocoder.mel_spec}, this model speaks {mel_spec}: train one of them again"
        raise RecipeError(message, code="conflict", path="vocoder", value=vocoder.mel_spec)
