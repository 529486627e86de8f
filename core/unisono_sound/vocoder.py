"""Vocoder: what a model that says mels needs of the component that turns them into sound.

A protocol and no base class: a vocoder of a plugin, of a third party or ``GriffinLim`` satisfies it as it stands.

Shapes: b batch, t frames, n samples (t · hop), m mel bins.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from unisono_sound.signal.mel import MelSpec

__all__ = ["Vocoder"]


@runtime_checkable
class Vocoder(Protocol):
    """Turns log mel spectrograms of one kind, ``mel_spec``, into waveforms."""

    mel_spec: MelSpec

    def decode(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b n"]:
        """Return waveforms of ``t · hop`` samples in float32.

        ``lengths`` are frames; an item's samples do not depend on what stands beyond them, and are zero there.
        """
        ...
