"""Lifter: joints in a film to joints in space, all frames of a window at once (MotionAGFormer, arXiv:2310.16288).

Nothing in one picture tells size from distance, nor where a person stands: the pose is relative to the first joint, as
large as bodies of the training data are.

Shapes: b batch, t frames, j joints.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono import Model
from unisono.batching import Progress, chunks
from unisono.model import OnStep

from unisono_motion.lifting.camera import levelled
from unisono_motion.lifting.facts import LifterFacts
from unisono_motion.lifting.losses import LiftObjective, joint_distance, scaled_distance, step_distance
from unisono_motion.lifting.network import FrameNetwork, LifterSizes, LiftingNetwork
from unisono_motion.lifting.request import LiftRequest, normalised_keypoints
from unisono_motion.lifting.views import flipped
from unisono_motion.lifting.windows import Window, windows
from unisono_motion.skeleton import Motion

AT_ONCE = 32
"""Windows that the network sees at once: what bounds memory, however long a clip is."""


class Lifter(Model):
    """The two streams of MotionAGFormer; drawn in ``network``.

    Differences in training: lengths and places are metres of the corpus, where published units are those of the
    picture ("2.5D factor"); a pose's first joint is subtracted from it; the rate's schedule is the recipe's.

    Args:
        network: sizes, and which streams.
        objective: what the losses count.
    """

    Media: ClassVar[type[Motion]] = Motion
    Facts: ClassVar[type[LifterFacts]] = LifterFacts
    facts: LifterFacts
    source_facts: ClassVar[tuple[str, ...]] = ("skeleton", "fps")
    Request: ClassVar[type[LiftRequest]] = LiftRequest
    text_field: ClassVar[str] = "keypoints"
    salt: ClassVar[str] = "lifter"
    deterministic: ClassVar[bool] = True

    def __init__(
        self,
        *,
        network: LifterSizes = LifterSizes(),  # noqa: B008
        objective: LiftObjective = LiftObjective(),  # noqa: B008
    ):
        super().__init__()
        self.network, self.objective = network, objective

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the skeleton of the data."""
        super().build(facts)
        self.net = self.make_network()

    def make_network(self) -> nn.Module:
        """Return the network: keypoints [b, t, j, 3] and a mask [b, t] or None to poses [b, t, j, 3]."""
        return LiftingNetwork(self.facts.skeleton.parents, self.network)

    @property
    def system(self) -> str:
        """What a report calls it."""
        return {"both": "two streams"}.get(self.network.streams, f"{self.network.streams} only")

    def predict(
        self, keypoints: Float[Tensor, "b t j 3"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t j 3"]:
        """Return poses in the camera's frame, in metres from the first joint."""
        poses = self.net(keypoints, mask)
        return poses - poses[..., :1, :]

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        keypoints, real, lengths = batch["keypoints"], batch["poses"], batch["length"]
        mask = torch.arange(keypoints.shape[1], device=keypoints.device) < lengths[:, None]
        made = self.predict(keypoints, None if bool(mask.all()) else mask).float()
        parts = {
            "mpjpe": self.global_mean(joint_distance(made, real), mask),
            "scaled": self.global_mean(scaled_distance(made, real), mask),
            "velocity": self.global_mean(step_distance(made, real), mask[:, 1:]),
        }
        weights = self.objective
        loss = parts["mpjpe"] + weights.scale_weight * parts["scaled"] + weights.velocity_weight * parts["velocity"]
        return {"loss": loss, **parts}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"frames": int(batch["length"].sum())}

    # ---- synthesis -----------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[LiftRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Motion]:
        """Return a motion for each request: y up, facing the camera is facing z. Deterministic.

        Progress is counted in frames.
        """
        read = [normalised_keypoints(request, self.facts) for request in requests]
        progress = Progress(on_step, sum(map(len, read)))
        made = []
        for request, keypoints in zip(requests, read, strict=True):
            pieces = list(self.lift(keypoints, request.flip, request.overlap, progress))
            made.append(self._motion(request, np.concatenate(pieces)))
        progress.finish()
        return made

    def stream(self, request: LiftRequest, generator: torch.Generator | None = None) -> Iterator[Motion]:
        """Yield the motion of the frames that are final, some windows at a time."""
        for poses in self.lift(normalised_keypoints(request, self.facts), request.flip, request.overlap):
            yield self._motion(request, poses)

    @torch.no_grad()
    def lift(
        self,
        keypoints: Float[np.ndarray, "t j 3"],
        flip: bool = True,
        overlap: float = 0.5,
        progress: Progress | None = None,
    ) -> Iterator[Float[np.ndarray, "t j 3"]]:
        """Yield poses in the camera's frame, relative to the first joint, of one stretch after the other.

        ``keypoints`` are normalised as in ``camera``. With ``flip``, poses are the mean of those and the mirror image
        of what is made of their mirror image.
        """
        for part in chunks(windows(len(keypoints), self.facts.frames, overlap), AT_ONCE):
            views = np.stack([keypoints[window.start : window.stop] for window in part]).astype(np.float32)
            poses = self._lift(torch.from_numpy(views).to(self.device), flip)
            yield np.concatenate([_kept(window, pose) for window, pose in zip(part, poses, strict=True)])
            if progress is not None:
                progress.advance(part[-1].last - part[0].first)

    def _lift(self, views: Float[Tensor, "b t j 3"], flip: bool) -> Float[np.ndarray, "b t j 3"]:
        views = views.to(next(self.net.parameters()).dtype)
        poses = self.predict(views)
        if flip:
            mirror = self.facts.skeleton.mirror
            poses = (poses + flipped(self.predict(flipped(views, mirror)), mirror)) / 2
        return poses.float().cpu().numpy()

    def _motion(self, request: LiftRequest, poses: Float[np.ndarray, "t j 3"]) -> Motion:
        skeleton = self.facts.skeleton
        positions = levelled(poses.astype(np.float64), np.radians(request.pitch_degrees))
        rotations = skeleton.fit_rotations(positions)
        if request.bones == "fitted":
            positions = skeleton.positions(rotations, positions[:, 0])
        if request.root == "grounded":
            positions = positions - positions[..., 1].min(1)[:, None, None] * [0, 1, 0]
        return Motion(positions.astype(np.float32), skeleton, self.facts.fps, rotations.astype(np.float32))

    # ---- what is asked of it while it trains, and by the kit -----------------------------------

    def preview_requests(self) -> list[LiftRequest]:
        return [self._asked(np.array(sample)) for sample in self.facts.samples]

    def check_requests(self) -> list[LiftRequest]:
        """Beside the usual ones, a single frame and a clip of several windows."""
        sample = np.array(self.facts.samples[0])
        long = np.concatenate([sample, sample[::-1]] * 2)
        return [*super().check_requests(), self._asked(sample[:1]), self._asked(long)]

    def _asked(self, keypoints: Float[np.ndarray, "t j 3"]) -> LiftRequest:
        """A request for normalised keypoints, in a picture of 1000 × 1000 pixels."""
        places = (keypoints[..., :2] + 1) * 500
        points = np.concatenate([places, keypoints[..., 2:]], -1).round(3)
        return self.Request(points=points.tolist(), width=1000, height=1000, fps=self.facts.fps)


class FrameLifter(Lifter):
    """A baseline that looks at one frame at a time: a linear map, or the residual MLP of arXiv:1705.03098.

    Args:
        width: of the MLP.
        num_blocks: of two layers each; 0 is a linear map.
        dropout: while training.
        objective: what the losses count.
    """

    def __init__(
        self,
        *,
        width: int = 1024,
        num_blocks: int = 2,
        dropout: float = 0.1,
        objective: LiftObjective = LiftObjective(),  # noqa: B008
    ):
        super().__init__(objective=objective)
        self.width, self.num_blocks, self.dropout = width, num_blocks, dropout

    def make_network(self) -> nn.Module:
        return FrameNetwork(len(self.facts.skeleton), self.width, self.num_blocks, self.dropout)

    @property
    def system(self) -> str:
        return "frames, MLP" if self.num_blocks else "frames, linear"


def _kept(window: Window, pose: Float[np.ndarray, "t j 3"]) -> Float[np.ndarray, "t j 3"]:
    return pose[window.first - window.start : window.last - window.start]
