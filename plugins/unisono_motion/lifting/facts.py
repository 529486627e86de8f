"""LifterFacts: what a lifter must know of its data."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import DataError

from unisono_motion.skeleton import Skeleton

View = tuple[tuple[tuple[float, float, float], ...], ...]
"""Frames of joints: places in the picture as in ``camera``, and confidences."""


@dataclass(frozen=True, kw_only=True)
class LifterFacts(Facts):
    """Facts about views of clips of one skeleton.

    Attributes:
        skeleton: of all clips; its bones are the graph.
        fps: frames a second.
        frames: the longest stretch that is seen at once.
        mean: the mean pose in the camera's frame, relative to the first joint, in metres: 3 numbers a joint.
        samples: a few views of validation clips, for previews.
        held_out: ids of the clips that are validated on.
        held_patterns: patterns of names, such as a style's, of which every clip is held out.
        hours: of all clips that are kept.
    """

    skeleton: Skeleton
    fps: float
    frames: int
    mean: tuple[float, ...]
    samples: tuple[View, ...] = ()
    held_out: tuple[str, ...] = ()
    held_patterns: tuple[str, ...] = ()
    hours: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = 3 * len(self.skeleton)
        if len(self.mean) != wanted:
            raise DataError(
                f"LifterFacts: mean has {len(self.mean)} numbers, {len(self.skeleton)} joints need {wanted}: these are "
                "statistics of another skeleton",
                code="shape",
                path="mean",
                value=len(self.mean),
            )
        if self.frames < 2:
            raise DataError(
                f"LifterFacts: frames={self.frames} must be at least 2: velocity is learnt",
                code="range",
                path="frames",
                value=self.frames,
            )
