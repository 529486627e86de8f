"""MotionFacts: what a motion model must know of its clips."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import DataError

from unisono_motion.corpus.features import MotionSpec


@dataclass(frozen=True, kw_only=True)
class MotionFacts(Facts):
    """Facts about clips of one skeleton.

    Attributes:
        motion: what the features mean.
        mean, std: of each feature over all training frames.
        max_frames: of the longest training clip.
        words: of the training captions, sorted.
        sample_captions: a few, for previews.
        held_out: ids of the clips that are validated on.
        hours: of all clips that are kept.
    """

    motion: MotionSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_frames: int | None = None
    words: tuple[str, ...] = ()
    sample_captions: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    hours: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            if count != self.motion.dim:
                raise DataError(
                    f"MotionFacts: {name} has {count} numbers, the features {self.motion.dim}: give one each",
                    code="shape",
                    path=name,
                    value=count,
                )
