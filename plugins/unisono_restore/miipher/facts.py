"""Facts: what Miipher must know of its data: the mel that its vocoder speaks, and the features that it cleans."""

from dataclasses import dataclass

from unisono_sound.encoder import FeatureSpec
from unisono_sound.signal import MelSpec

from unisono_restore.facts import RestorationFacts

__all__ = ["FeatureFacts"]


@dataclass(frozen=True, kw_only=True)
class FeatureFacts(RestorationFacts):
    """Facts about pairs of damaged and clean sound, and about what is heard of them.

    Attributes:
        mel_spec: of the vocoder, at ``sample_rate``.
        features: of the encoder; None where the mel itself is what is cleaned.
    """

    mel_spec: MelSpec
    features: FeatureSpec | None = None
