"""Data for bandwidth extension: crops of wide sound, each with the same sound narrow."""

from unisono.errors import DataError

from unisono_restore.ap_bwe.narrow import Narrow, NarrowOptions
from unisono_restore.data import CropOptions, MadeData, RecordedData, RestorationData
from unisono_restore.facts import BandFacts

__all__ = ["MadeNarrowData", "NarrowData"]


class NarrowData(RecordedData):
    """Crops of recordings and what is heard of them through a narrow band.

    Args:
        root: a folder of audio files (any depth), a corpus in LJSpeech layout, a CSV or JSONL manifest, a list of
            these, or a mapping from speaker to one.
        sample_rate: of both sides, in hertz; recordings of another are resampled.
        narrow: how crops are made narrow.
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
        sample_rate: int = 16000,
        narrow: NarrowOptions = NarrowOptions(),  # noqa: B008
        crops: CropOptions = CropOptions(),  # noqa: B008
        batch_size: int = 16,
        val_size: int = 16,
        in_memory: bool = False,
        num_workers: int = 0,
    ):
        super().__init__(root, sample_rate, crops, batch_size, val_size, in_memory, num_workers)
        self.narrow = checked(narrow, sample_rate)

    def spoiler(self) -> Narrow:
        return Narrow(self.narrow, self.sample_rate)

    def describe(self) -> BandFacts:
        return band_facts(self, self.narrow)


class MadeNarrowData(MadeData):
    """Buzzes made on the spot and what is heard of them through a narrow band: for tests and tiny recipes.

    Args:
        num_items: buzzes to train on.
        sample_rate, narrow, crops, batch_size, val_size, num_workers: as of ``NarrowData``.
    """

    def __init__(
        self,
        *,
        num_items: int = 64,
        sample_rate: int = 16000,
        narrow: NarrowOptions = NarrowOptions(),  # noqa: B008
        crops: CropOptions = CropOptions(),  # noqa: B008
        batch_size: int = 8,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(num_items, sample_rate, crops, batch_size, val_size, num_workers)
        self.narrow = checked(narrow, sample_rate)

    def spoiler(self) -> Narrow:
        return Narrow(self.narrow, self.sample_rate)

    def describe(self) -> BandFacts:
        return band_facts(self, self.narrow)


def checked(narrow: NarrowOptions, sample_rate: int) -> NarrowOptions:
    """Return the options, or raise ``DataError`` where there is nothing to extend."""
    if narrow.from_rate >= sample_rate:
        raise DataError(
            f"data.narrow.from_rate={narrow.from_rate} must be below data.sample_rate={sample_rate}",
            code="conflict",
            path="data.narrow.from_rate",
            value=narrow.from_rate,
        )
    return narrow


def band_facts(data: RestorationData, narrow: NarrowOptions) -> BandFacts:
    """Return the facts of narrow data."""
    lowest, highest = narrow.cutoffs
    return BandFacts(
        sample_rate=data.sample_rate,
        held_out=tuple(data.held_out),
        from_rate=narrow.from_rate,
        lowest_cutoff=lowest,
        highest_cutoff=highest,
    )
