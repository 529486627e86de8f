"""Environment protocol: reset by a seed, observe, act, until it is done; and a scripted expert where there is one.

::

    reset(seed, instruction) ─ observe() ─ act(action) ─ observe() ─ … ─ done

Shapes: s numbers of the state, a of an action, h × w a picture.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from unisono.errors import DataError


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """What an environment observes and takes.

    Attributes:
        name: under which it is registered.
        version: of what its physics depend on; an episode is the same in the same version only.
        state_names: of the numbers that are observed.
        groups: how many of them belong together, one after the other, such as the numbers of one object: a policy reads
            each group as one vector.
        action_names: of the numbers of an action.
        action_low, action_high: what each may be, ends included.
        hz: actions a second.
        max_steps: after which an episode is over, whatever the environment says.
        picture_size: side of the square picture that is observed beside the state, in pixels; 0: none.
        takes_instruction: whether it can be told what to do.
    """

    name: str
    version: str
    state_names: tuple[str, ...]
    groups: tuple[int, ...]
    action_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    hz: float
    max_steps: int
    picture_size: int = 0
    takes_instruction: bool = False

    def __post_init__(self):
        if sum(self.groups) != len(self.state_names) or any(size < 1 for size in self.groups):
            raise DataError(
                f"{self.name}: groups of {self.groups} for {len(self.state_names)} numbers of the state: each number "
                "is in one group",
                code="shape",
                path="groups",
                value=self.groups,
            )
        if not len(self.action_names) == len(self.action_low) == len(self.action_high) > 0:
            raise DataError(
                f"{self.name}: {len(self.action_names)} names of actions, {len(self.action_low)} lowest and "
                f"{len(self.action_high)} highest values: give one each, at least one",
                code="shape",
                path="action_names",
                value=len(self.action_names),
            )
        if self.max_steps < 1 or not 0 < self.hz < math.inf:
            wrong = "max_steps" if self.max_steps < 1 else "hz"
            raise DataError(
                f"{self.name}: max_steps={self.max_steps} must be at least 1, hz={self.hz} above 0 and finite",
                code="range",
                path=wrong,
                value=getattr(self, wrong),
            )

    @property
    def num_actions(self) -> int:
        """How many numbers an action has."""
        return len(self.action_names)


@dataclass(frozen=True, eq=False)
class Observation:
    """What a policy sees: numbers, what it was told, and a picture where the environment gives one."""

    state: Float[np.ndarray, " s"]
    instruction: str = ""
    picture: UInt8[np.ndarray, "3 h w"] | None = None


class Environment(Protocol):
    """What can be observed and acted on. All its randomness comes from the seed of ``reset``.

    Attributes:
        spec: what it observes and takes.
        done: whether the episode is over.
        success: whether it ended well; asked when it is over.
        kind: which sort of task the episode is, as an instruction where it takes one; "" where there is but one.
    """

    spec: EnvironmentSpec
    done: bool
    success: bool
    kind: str

    def reset(self, seed: int, instruction: str = "") -> None:
        """Begin the episode of a seed; an empty instruction: the episode's own.

        Raises ``RequestError`` for an instruction that it cannot follow.
        """
        ...

    def observe(self) -> Observation:
        """Return what is seen now."""
        ...

    def act(self, action: Float[np.ndarray, " a"]) -> float:
        """Carry one action out and return the reward."""
        ...

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """Draw it as it is now."""
        ...


@runtime_checkable
class Scripted(Environment, Protocol):
    """An environment that knows what to do: its expert makes demonstrations."""

    def expert(self) -> Float[np.ndarray, " a"]:
        """Return the action that the expert takes now; nothing is changed or drawn."""
        ...
