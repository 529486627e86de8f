"""Lift request: what can be asked of a lifter, and how it becomes the keypoints that one reads.

Shapes: t frames, j joints.
"""

from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BeforeValidator, Field, model_validator
from unisono import Request
from unisono.errors import DataError, RequestError, raised_as
from unisono.request import FILE

from unisono_motion.lifting.facts import LifterFacts
from unisono_motion.lifting.keypoints import MAX_FPS, Keypoints

MAX_SECONDS = 3600.0


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


class LiftRequest(Request):
    """A person's joints in a film: a file, or numbers."""

    keypoints: str | None = Field(
        default=None, description="path of a JSON or NPZ file of keypoints, or one of COCO's", json_schema_extra=FILE
    )
    points: Annotated[list[list[list[float]]] | None, BeforeValidator(_listed)] = Field(
        default=None,
        description="keypoints instead, frames of joints of pixels to the right and down and perhaps a confidence",
    )
    joints: list[str] | None = Field(
        default=None, description="names of the joints of points (default: the model's, in its order)"
    )
    width: float | None = Field(
        default=None, gt=0, le=1e6, description="of the picture in pixels, where the file does not say"
    )
    height: float | None = Field(
        default=None, gt=0, le=1e6, description="of the picture in pixels, where the file does not say"
    )
    fps: float | None = Field(
        default=None,
        gt=0,
        le=MAX_FPS,
        description="frames a second, where the file does not say (default: the model's)",
    )
    flip: bool = Field(default=True, description="average with the mirror image: twice the evaluations")
    overlap: float = Field(default=0.5, ge=0, le=0.9, description="share of a window that its neighbour sees too")
    pitch_degrees: float = Field(default=0.0, ge=-89, le=89, description="by which the camera looks down")
    root: Literal["grounded", "pinned"] = Field(
        default="grounded", description="put the lowest joint of each frame on the ground, or the first one at 0"
    )
    bones: Literal["free", "fitted"] = Field(
        default="free", description="joints as they were lifted, or at the skeleton's lengths by inverse kinematics"
    )

    @model_validator(mode="after")
    def _one_source(self):
        if (self.keypoints is None) == (self.points is None):
            raise RequestError(
                "give either keypoints, a path, or points, a list of frames",
                code="missing" if self.keypoints is None else "conflict",
                path="keypoints",
            )
        if self.keypoints is not None and self.joints is not None:
            raise RequestError(
                "joints are those of points: a file names its own", code="conflict", path="joints", value=self.joints
            )
        return self


def normalised_keypoints(request: LiftRequest, facts: LifterFacts) -> Float[np.ndarray, "t j 3"]:
    """Return a request's keypoints at a model's rate, in its joints' order, normalised as in ``camera``.

    Whatever is wrong with them is a ``RequestError``.
    """
    given = {name: getattr(request, name) for name in ("width", "height", "fps")}
    with raised_as(RequestError):
        if request.keypoints is not None:
            found = Keypoints.read(request.keypoints)
        else:
            names = None if request.joints is None else tuple(request.joints)
            found = Keypoints.of(request.points, joints=names)
        known = {name: getattr(found, name) if value is None else value for name, value in given.items()}
        found = Keypoints(found.values, found.joints, **known)
        check_length(len(found.values), found.fps or facts.fps)
        return found.at_rate(facts.fps).normalised(facts.skeleton)


def check_length(num_frames: int, fps: float) -> None:
    """Raise ``DataError`` for more than ``MAX_SECONDS``."""
    if num_frames / fps > MAX_SECONDS:
        raise DataError(
            f"{num_frames} frames are {num_frames / fps:.0f} s: at most {MAX_SECONDS:g} s are lifted at once; cut them",
            code="limit",
            path="keypoints",
            value=num_frames,
        )
