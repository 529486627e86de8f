"""Data for enhancers: crops of clean sound, each with a noisy one, drawn anew each epoch.

What is done to a crop is ``unisono_sound.degrade``'s, a function of (seed, epoch, item). Babble is made of the other
training clips, never of the crop's own.

Shapes: n samples of a crop.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit
from unisono.errors import DataError
from unisono_sound.degrade import Degrade, DegradeOptions, NoiseOptions

from unisono_restore.clips import Clip
from unisono_restore.data import CropOptions, CropSet, MadeData, RecordedData, RestorationData
from unisono_restore.mp_senet.facts import NoisyFacts

__all__ = ["MadeNoisyData", "NoisyData"]

NOISY = DegradeOptions(noise=NoiseOptions(share=0.95))
"""Steady and passing noise at 0 to 20 dB; one crop in twenty stays clean, so that clean sound is left alone."""


class WholeClips:
    """Clips from end to end, as ``unisono_sound.degrade.Clips``."""

    def __init__(self, clips: Sequence[Clip], rate: int):
        self.clips, self.rate = clips, rate

    def __len__(self) -> int:
        return len(self.clips)

    def wave(self, number: int) -> Float[Tensor, " n"]:
        return self.clips[number].load(0, self.clips[number].num_samples)


class NoisyCrops(CropSet):
    """Crops, each with itself degraded; ``own`` says whether the clips are those that babble is made of."""

    def __init__(self, clips: Sequence[Clip], crops: CropOptions, degrade: Degrade, rate: int, own: bool):
        super().__init__(clips, crops.samples, _as_it_is, tiled=own, gain_db=crops.gain_db if own else 0.0)
        self.degrade, self.rate, self.own = degrade, rate, own

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        item = super().item(index, generator)
        which = self.places[index][0] if self.own else None
        return item | {"heard": self.degrade(item["wave"], self.rate, generator, which)}


class Noisy(RestorationData):
    """What both kinds of noisy data share: ``degrade`` and the sets."""

    degrade: DegradeOptions

    def fill(self, audit: Audit, train: Sequence[Clip], val: Sequence[Clip]) -> Audit:
        """Make the two sets; validation hears the kinds that training does, from the same clips."""
        rate = self.sample_rate
        degrade = Degrade.of(self.degrade, rate, audit, WholeClips(train, rate))
        self.train_set = NoisyCrops(train, self.crops, degrade, rate, own=True)
        self.val_set = NoisyCrops(val, self.crops, degrade, rate, own=False)
        return self.finish(audit)

    def describe(self) -> NoisyFacts:
        options = self.degrade
        steps = [step for step in options.steps().values() if step.share]
        return NoisyFacts(
            sample_rate=self.sample_rate,
            held_out=tuple(self.held_out),
            heard=tuple(kind for step in steps for kind in options.trained_on(step)),
            unheard=options.held_out,
            snr_db=options.noise.snr_db,
        )


class NoisyData(Noisy, RecordedData):
    """Crops of recordings, and each degraded.

    Args:
        root: a folder of clean recordings, a corpus in LJSpeech layout, a manifest, a list of these, or a mapping from
            speaker to one.
        degrade: what is done to them. Their level is not changed on one side alone: ``crops.gain_db`` changes both.
        sample_rate: of both sides, in hertz.
        crops: length in samples and range of levels.
        batch_size: crops per step over all processes.
        val_size: recordings held out.
        in_memory: hold the waveforms in memory instead of mapping the cache.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        degrade: DegradeOptions = NOISY,
        sample_rate: int = 16000,
        crops: CropOptions = CropOptions(samples=32000),  # noqa: B008
        batch_size: int = 4,
        val_size: int = 16,
        in_memory: bool = False,
        num_workers: int = 0,
    ):
        super().__init__(root, sample_rate, crops, batch_size, val_size, in_memory, num_workers)
        self.degrade = checked(degrade)


class MadeNoisyData(Noisy, MadeData):
    """Crops of buzzes made on the spot, and each degraded: for tests and tiny recipes.

    Args:
        num_items: crops to train on.
        degrade, sample_rate, crops, batch_size, val_size, num_workers: as of ``restore/noisy``.
    """

    def __init__(
        self,
        *,
        num_items: int = 64,
        degrade: DegradeOptions = NOISY,
        sample_rate: int = 16000,
        crops: CropOptions = CropOptions(samples=4000),  # noqa: B008
        batch_size: int = 4,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(num_items, sample_rate, crops, batch_size, val_size, num_workers)
        self.degrade = checked(degrade)


def checked(options: DegradeOptions) -> DegradeOptions:
    """Return options; raises ``DataError`` where they change the level of one side of a pair."""
    if options.level.share:
        message = (
            f"data.degrade.level.share={options.level.share} makes the noisy side of a pair louder than the clean one, "
            "which a restorer cannot undo: leave it out, and set data.crops.gain_db, which changes both"
        )
        raise DataError(message, code="conflict", path="data.degrade.level.share", value=options.level.share)
    return options


def _as_it_is(wave: Float[Tensor, " n"], generator: Any) -> Float[Tensor, " n"]:
    return wave
