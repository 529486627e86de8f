"""Detector: what a finder of joints makes of a projected person: places that are off, joints that are lost.

Shapes: t frames, j joints.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from unisono.errors import DataError

from unisono_motion.lifting.coco import CocoJoints

CONFIDENT = 0.02
"""A place that is off by this share of the person's height has the confidence 1/e."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """How far detected joints are off.

    sigma: range of the standard deviation of a place, in heights of the person; one is drawn for each item.
    dropout: the share of joints that are lost, each frame by itself: confidence 0.
    coco_share: the share of items of which only those joints are seen that COCO's 17 keypoints tell.
    """

    sigma: tuple[float, float] = (0.0, 0.02)
    dropout: float = 0.05
    coco_share: float = 0.2

    def __post_init__(self):
        low, high = self.sigma
        if not 0 <= low <= high <= 1:
            raise DataError(
                f"data.detector.sigma=[{low:g}, {high:g}] must be a range within 0 and 1",
                code="range",
                path="data.detector.sigma",
                value=[low, high],
            )
        for name in ("dropout", "coco_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "dropout" and value == 1):
                raise DataError(
                    f"data.detector.{name}={value:g} must be a share in [0, 1], and not all joints be lost",
                    code="range",
                    path=f"data.detector.{name}",
                    value=value,
                )

    def detect(
        self,
        seen: Float[np.ndarray, "t j 2"],
        height: float,
        coco: CocoJoints | None,
        generator: torch.Generator,
    ) -> Float[np.ndarray, "t j 3"]:
        """Return places and confidences of projected joints.

        Errors e are normal; the confidence is exp(−|e| / (0.02 heights)). A joint that is lost is (0, 0, 0).

        Args:
            height: of the person in the picture, in the unit of ``seen``.
            coco: what COCO tells of the skeleton; None where nothing is known of it.
        """
        frames, joints = seen.shape[:2]
        sigma, as_coco = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        sigma = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * sigma
        off = sigma * height * torch.randn(frames, joints, 2, generator=generator).numpy()
        lost = torch.rand(frames, joints, generator=generator).numpy() < self.dropout
        found = seen + off
        if coco is not None and as_coco < self.coco_share:
            found = coco.imitate(found)
            lost = lost | ~coco.known
        confidence = np.exp(-np.linalg.norm(off, axis=-1) / (CONFIDENT * height))
        return np.concatenate([found, confidence[..., None]], -1) * ~lost[..., None]
