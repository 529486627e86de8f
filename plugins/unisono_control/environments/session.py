"""Session: an environment under watch; whatever it does wrong is one sentence with seed and step.

Environments are strangers' code. One that raises, that observes NaN or another shape than it declared, that rewards by
NaN, or that never ends, must not spoil a corpus or hang a server: each is an error, or, without an end, an episode that
is cut at the time limit and counts as not done.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8
from unisono.errors import RequestError, UnisonoError

from unisono_control.environments.protocol import Environment, Observation

T = TypeVar("T")
CLOSE = 1e-6
"""How far beyond its limits an action may be by rounding, relative to their distance."""


class Session:
    """One environment, from ``reset`` to its end.

    Args:
        environment: what is watched.
        max_steps: the time limit, where it is shorter than the environment's own.

    Attributes:
        steps: actions so far.
        score: sum of the rewards so far.
    """

    def __init__(self, environment: Environment, max_steps: int | None = None):
        self.environment, self.spec = environment, environment.spec
        self.max_steps = min(self.spec.max_steps, max_steps or self.spec.max_steps)
        self.seed, self.steps, self.score = 0, 0, 0.0
        self._low, self._high = (np.array(v, dtype=np.float32) for v in (self.spec.action_low, self.spec.action_high))
        rounding = CLOSE * (self._high - self._low)
        self._least, self._most = self._low - rounding, self._high + rounding
        self._shape = (len(self.spec.state_names),)

    def reset(self, seed: int, instruction: str = "") -> None:
        """Begin the episode of a seed."""
        if instruction and not self.spec.takes_instruction:
            raise RequestError(
                f"instruction={instruction!r:.80}: {self.spec.name} cannot be told what to do, leave it out",
                code="unsupported",
                path="instruction",
                value=instruction,
            )
        self.seed, self.steps, self.score = seed, 0, 0.0
        self._watched("reset", lambda: self.environment.reset(seed, instruction))
        if self.ended:
            raise self._fault("is over before the first action", "state", seed)

    @property
    def ended(self) -> bool:
        """Whether the environment itself said that the episode is over."""
        return bool(self.environment.done)

    @property
    def done(self) -> bool:
        """Whether the episode is over: it ended, or its time is."""
        return self.ended or self.steps >= self.max_steps

    @property
    def success(self) -> bool:
        """Whether the episode ended, and well."""
        return self.ended and bool(self.environment.success)

    def observe(self) -> Observation:
        """Return what is seen, checked: shapes as declared, all numbers finite."""
        seen = self._watched("observe", self.environment.observe)
        state, size = np.asarray(seen.state, dtype=np.float32), self.spec.picture_size
        if state.shape != self._shape:
            raise self._fault(f"observes a state of shape {state.shape}, not {self._shape}", "shape", state.shape)
        if not np.isfinite(state).all():
            place = int(np.flatnonzero(~np.isfinite(state))[0])
            raise self._fault(f"observes {self.spec.state_names[place]}={state[place]}", "value", float(state[place]))
        if size and (seen.picture is None or seen.picture.shape != (3, size, size) or seen.picture.dtype != np.uint8):
            got = None if seen.picture is None else seen.picture.shape
            raise self._fault(f"observes a picture of shape {got}, not (3, {size}, {size}) of uint8", "shape", got)
        return Observation(state, seen.instruction, seen.picture if size else None)

    def act(self, action: Float[np.ndarray, " a"]) -> float:
        """Carry an action out, checked before; return the reward, checked after."""
        action = self.check_action(action)
        reward = float(self._watched("act", lambda: self.environment.act(action)))
        self.steps += 1
        if not np.isfinite(reward):
            raise self._fault(f"rewards by {reward}", "value", reward)
        self.score += reward
        return reward

    def check_action(self, action: Float[np.ndarray, " a"]) -> Float[np.ndarray, " a"]:
        """Return an action within its limits, as float32; raises ``RequestError`` for another."""
        action = np.asarray(action, dtype=np.float32)
        low, high = self._low, self._high
        if action.shape != low.shape:
            raise self._fault(f"takes actions of shape {low.shape}, got {action.shape}", "shape", action.shape)
        fits = (action >= self._least) & (action <= self._most)  # NaN is neither
        if not fits.all():
            place = int(np.flatnonzero(~fits)[0])
            raise self._fault(
                f"takes {self.spec.action_names[place]} from {low[place]:g} to {high[place]:g}, got {action[place]}",
                "range" if np.isfinite(action[place]) else "value",
                float(action[place]),
            )
        return np.minimum(np.maximum(action, low), high)

    def expert(self) -> Float[np.ndarray, " a"]:
        """Return what the environment's expert would do, checked as an action."""
        environment: Any = self.environment
        return self.check_action(self._watched("expert", environment.expert))

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the environment's picture of itself."""
        return self._watched("render", self.environment.render)

    def _watched(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except UnisonoError:
            raise
        except Exception as error:  # whatever a stranger's environment raises
            said = f"{type(error).__name__}: {error!s:.200}"
            raise self._fault(f"raises in {what}: {said}", "failed", said) from error

    def _fault(self, what: str, code: Any, value: Any) -> RequestError:
        sentence = f"environment {self.spec.name!r} {what}, at step {self.steps} of seed {self.seed}: mend it"
        return RequestError(sentence, code=code, path="environment", value=value)
