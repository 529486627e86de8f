"""Data for Miipher: crops of clean speech, each with the same crop damaged.

Items are ``{"wave": [n], "heard": [n]}``; where the encoder hears another rate than the mel's, both sides come at its
rate besides: ``heard`` is then at that, and ``clean`` beside it.

Shapes: b batch, n samples of a crop.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from unisono.data import Audit
from unisono.errors import DataError, RecipeError
from unisono_sound.degrade import Degrade, DegradeOptions
from unisono_sound.encoder import Encoder, FeatureSpec
from unisono_sound.signal import MelSpec, resample

from unisono_restore.clips import Clip
from unisono_restore.data import CropOptions, MadeData, RecordedData, RestorationData
from unisono_restore.miipher.damage import SIDON, Damage, Others
from unisono_restore.miipher.facts import FeatureFacts

__all__ = ["DamagedData", "MadeDamagedData"]

DEFAULT_MEL = MelSpec()
CROPS = CropOptions(samples=44032)
"""2 s at 22,050 Hz, whole frames."""


class Damaged(RestorationData):
    """What both kinds of data share: the damage, and the encoder whose features are cleaned, where there is one."""

    uses: ClassVar[tuple[str, ...]] = ("encoder",)
    mel: MelSpec
    degrade: DegradeOptions
    clean: float
    features: FeatureSpec | None = None

    def attach(self, role: str, component: Any) -> None:
        """Learn what features the encoder gives; it hears nothing here."""
        super().attach(role, component)
        if not isinstance(component, Encoder):
            message = (
                f"the encoder must give features of waves, which a {type(component).__name__} does not: attach a "
                "recogniser, a codec or a folder of transformers"
            )
            raise RecipeError(message, code="type", path="components.encoder", value=type(component).__name__)
        self.features = component.feature_spec
        self._components.pop(role)  # worker processes need no copy of it

    def choose(self, mel: MelSpec, degrade: DegradeOptions, clean: float) -> None:
        """Take what both kinds of data are given; raises ``DataError`` for a share that is none."""
        if not 0 <= clean <= 1:
            raise DataError(f"data.clean={clean} must be in [0, 1]", code="range", path="data.clean", value=clean)
        self.mel, self.degrade, self.clean = mel, degrade, clean

    def fill(self, audit: Audit, train: Sequence[Clip], val: Sequence[Clip]) -> Audit:
        """Make the two sets, and read the noise that crops are heard in."""
        self.pipeline = Degrade.of(self.degrade, self.sample_rate, audit, Others(train, self.sample_rate))
        return super().fill(audit, train, val)

    def spoiler(self) -> Damage:
        return Damage(self.pipeline, self.clean, self.sample_rate)

    def describe(self) -> FeatureFacts:
        return FeatureFacts(
            sample_rate=self.sample_rate,
            held_out=tuple(self.held_out),
            mel_spec=self.mel,
            features=self.features,
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().collate(items)
        if self.features is None or self.features.sample_rate == self.sample_rate:
            return batch
        rates = (self.sample_rate, self.features.sample_rate)
        heard, clean = (_resampled(batch[name], *rates) for name in ("heard", "wave"))
        return batch | {"heard": heard, "clean": clean}


class DamagedData(Damaged, RecordedData):
    """Crops of recordings and what is heard of them.

    Args:
        root: a folder of audio files (any depth), a corpus in LJSpeech layout, a CSV or JSONL manifest, a list of
            these, or a mapping from speaker to one.
        mel: of the vocoder; its rate is that of both sides.
        degrade: which damages befall a crop, and how often.
        clean: the share of the crops that stay as they are (published port: 0.05).
        crops: what crops are like.
        batch_size: crops per step over all processes.
        val_size: recordings held out for validation (one crop each).
        in_memory: hold the waveforms in memory instead of mapping the cache.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        mel: MelSpec = DEFAULT_MEL,
        degrade: DegradeOptions = SIDON,
        clean: float = 0.05,
        crops: CropOptions = CROPS,
        batch_size: int = 16,
        val_size: int = 16,
        in_memory: bool = False,
        num_workers: int = 0,
    ):
        super().__init__(root, mel.sample_rate, crops, batch_size, val_size, in_memory, num_workers)
        self.choose(mel, degrade, clean)


class MadeDamagedData(Damaged, MadeData):
    """Buzzes made on the spot and what is heard of them: for tests and tiny recipes.

    Args:
        num_items: buzzes to train on.
        mel, degrade, clean, crops, batch_size, val_size, num_workers: as of ``DamagedData``.
    """

    def __init__(
        self,
        *,
        num_items: int = 64,
        mel: MelSpec = DEFAULT_MEL,
        degrade: DegradeOptions = SIDON,
        clean: float = 0.05,
        crops: CropOptions = CROPS,
        batch_size: int = 8,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(num_items, mel.sample_rate, crops, batch_size, val_size, num_workers)
        self.choose(mel, degrade, clean)


def _resampled(waves: Tensor, rate: int, new_rate: int) -> Tensor:
    return torch.stack([resample(wave, rate, new_rate) for wave in waves])
