"""Skeleton: joints, the parent of each and the offset from it; forward kinematics and its inverse.

Shapes: t frames, j joints. Metres; y is up.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from unisono.errors import DataError

MAX_JOINTS = 512


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A tree of joints: ``offsets`` [j, 3] is where a joint sits on its parent's frame, in metres.

    ``parents[0]`` is -1, and a parent stands before its children. ``ends`` [j, 3] is how far a joint without
    children reaches (BVH's end site), 0 for the others.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    ends: np.ndarray

    def __post_init__(self):
        count = len(self.names)
        if not (count == len(self.parents) == len(self.offsets) == len(self.ends)) or count == 0:
            raise DataError(
                f"a skeleton of {count} names needs as many parents, offsets and ends",
                code="shape",
                path="parents",
                value=len(self.parents),
            )
        if count > MAX_JOINTS:
            raise DataError(
                f"a skeleton of {count} joints is too large: at most {MAX_JOINTS}",
                code="limit",
                path="names",
                value=count,
            )
        shapes = f"{np.shape(self.offsets)} and {np.shape(self.ends)}"
        if np.shape(self.offsets) != (count, 3) or np.shape(self.ends) != (count, 3):
            raise DataError(
                f"offsets and ends must be [{count}, 3], got {shapes}",
                code="shape",
                path="offsets",
                value=np.shape(self.offsets),
            )
        if self.parents[0] != -1 or not all(0 <= p < i for i, p in enumerate(self.parents) if i):
            raise DataError(
                "a skeleton's first joint is its root (parent -1), and parents stand before children",
                code="value",
                path="parents",
                value=self.parents,
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise DataError(
                f"two joints are called {twice[0]!r}: rename one of them", code="value", path="names", value=twice[0]
            )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Skeleton({len(self)} joints, root {self.names[0]!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skeleton) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.names, self.parents))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` takes it back."""
        return {
            "names": list(self.names),
            "parents": list(self.parents),
            "offsets": np.asarray(self.offsets, np.float64).round(7).tolist(),
            "ends": np.asarray(self.ends, np.float64).round(7).tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Skeleton":
        """Return the skeleton that ``to_dict`` described."""
        return cls(
            tuple(values["names"]),
            tuple(values["parents"]),
            np.array(values["offsets"], np.float64),
            np.array(values["ends"], np.float64),
        )

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The children of each joint."""
        return tuple(tuple(i for i, p in enumerate(self.parents) if p == joint) for joint in range(len(self)))

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each joint, the one on the other side, by names (left/right, L/R); itself where there is none."""
        place = {name: i for i, name in enumerate(self.names)}
        other = [next((place[n] for n in _other_side(name) if n in place), i) for i, name in enumerate(self.names)]
        return tuple(o if other[o] == i else i for i, o in enumerate(other))

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) joints that hang on the same parent: where legs and arms begin."""
        pairs = []
        for left, right in enumerate(self.mirror):
            if left != right and self.parents[left] == self.parents[right] and _is_left(self.names[left]):
                pairs.append((left, right))
        return tuple(pairs)

    @cached_property
    def legs(self) -> tuple[int, ...]:
        """The joints below a pair that hangs on the root."""
        tops = {joint for pair in self.pairs for joint in pair if self.parents[joint] == 0}
        found: list[int] = []
        for joint, parent in enumerate(self.parents):
            if joint in tops or parent in found:
                found.append(joint)
        return tuple(found)

    @cached_property
    def feet(self) -> tuple[int, ...]:
        """Joints that may touch the ground: called ankle, foot or toe, left ones first."""
        found = [i for i, name in enumerate(self.names) if re.search("ankle|foot|feet|toe", name, re.IGNORECASE)]
        return tuple(sorted(found, key=lambda i: (not _is_left(self.names[i]), i)))

    def mirrored_name(self, joint: int) -> str:
        """The name of the joint on the other side."""
        return self.names[self.mirror[joint]]

    @property
    def height(self) -> float:
        """The longest way along bones from the lowest leaf to the root and on to the farthest other leaf, in metres."""
        reach = np.zeros(len(self))
        for joint in range(1, len(self)):
            reach[joint] = reach[self.parents[joint]] + np.linalg.norm(self.offsets[joint])
        legs = [reach[i] for i in self.legs]
        rest = [reach[i] for i in range(len(self)) if i not in self.legs]
        return float(max(legs, default=0.0) + max(rest))

    def positions(
        self, rotations: Float[np.ndarray, "t j 3 3"], root: Float[np.ndarray, "t 3"]
    ) -> Float[np.ndarray, "t j 3"]:
        """Return where every joint is, for rotations relative to the parent's frame (forward kinematics)."""
        frames = self.global_rotations(rotations)
        places = np.empty((len(root), len(self), 3))
        places[:, 0] = root
        for joint in range(1, len(self)):
            parent = self.parents[joint]
            places[:, joint] = places[:, parent] + frames[:, parent] @ self.offsets[joint]
        return places

    def global_rotations(self, rotations: Float[np.ndarray, "t j 3 3"]) -> Float[np.ndarray, "t j 3 3"]:
        """Return rotations relative to the world from those relative to the parent's frame."""
        frames = np.array(rotations, dtype=np.float64)
        for joint in range(1, len(self)):
            frames[:, joint] = frames[:, self.parents[joint]] @ frames[:, joint]
        return frames

    def local_rotations(self, frames: Float[np.ndarray, "t j 3 3"]) -> Float[np.ndarray, "t j 3 3"]:
        """Return rotations relative to the parent's frame from those relative to the world."""
        local = np.array(frames, dtype=np.float64)
        for joint in range(1, len(self)):
            local[:, joint] = frames[:, self.parents[joint]].mT @ frames[:, joint]
        return local

    def fit_rotations(
        self,
        positions: Float[np.ndarray, "t j 3"],
        guess: Float[np.ndarray, "t j 3 3"] | None = None,
        guess_weight: float = 1e-3,
    ) -> Float[np.ndarray, "t j 3 3"]:
        """Return rotations relative to the parent that lay the bones along given positions.

        Each joint solves Wahba's problem from the root on: the rotation R that maximises
        ``Σ ⟨direction of bone, R · its rest direction⟩ + guess_weight · ⟨R, guess⟩``. A bone leaves the turn
        about itself open; the guess (relative to the parent, the rest pose by default) decides it.
        """
        num_frames = len(positions)
        if guess is None:
            guess = np.broadcast_to(np.eye(3), (num_frames, len(self), 3, 3))
        local = np.array(guess, dtype=np.float64)
        frames = np.empty_like(local)
        for joint in range(len(self)):
            parent = self.parents[joint]
            above = frames[:, parent] if joint else np.broadcast_to(np.eye(3), (num_frames, 3, 3))
            expected = above @ guess[:, joint]
            total = guess_weight * expected
            bones = [c for c in self.children[joint] if np.linalg.norm(self.offsets[c]) > 1e-6]
            for child in bones:
                bone = positions[:, child] - positions[:, joint]
                bone = bone / np.maximum(np.linalg.norm(bone, axis=-1, keepdims=True), 1e-9)
                rest = self.offsets[child] / np.linalg.norm(self.offsets[child])
                total = total + bone[:, :, None] * rest
            frames[:, joint] = nearest_rotation(total) if bones else expected
            local[:, joint] = above.mT @ frames[:, joint]
        return local


def nearest_rotation(matrix: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Return the rotation R with the largest ``⟨R, matrix⟩`` (orthogonal Procrustes without reflections)."""
    u, _, vh = np.linalg.svd(matrix)
    flip = np.linalg.det(u @ vh)
    u = u * np.stack([np.ones_like(flip), np.ones_like(flip), np.sign(flip)], -1)[..., None, :]
    return u @ vh


_ONE_LETTER = r"(?:(?<=[_.:\- ])|^)[LRlr](?=[_.:\- ]|$|[A-Z])|(?<=[a-z])[LR]$"
_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))


def _other_side(name: str) -> list[str]:
    """Names that the joint on the other side may have."""
    found = []
    for left, right in _SIDES:
        for one, other in ((left, right), (right, left)):
            if one in name:
                found.append(name.replace(one, other))
    swap = {"L": "R", "R": "L", "l": "r", "r": "l"}
    for side in re.finditer(_ONE_LETTER, name):
        at = side.start()
        found.append(name[:at] + swap[name[at]] + name[at + 1 :])
    return found


def _is_left(name: str) -> bool:
    """Whether a name is that of a left joint, among names that have another side."""
    if re.search("left", name, re.IGNORECASE):
        return True
    if re.search("right", name, re.IGNORECASE):
        return False
    found = re.search(_ONE_LETTER, name)
    return found is not None and found[0] in "Ll"
