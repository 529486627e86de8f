"""Lander: LunarLander of gymnasium with continuous engines, and its own heuristic as the expert.

A landing counts as a success from a return of 200 on, as the environment's authors have it.
"""

import warnings
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from unisono.errors import DataError, MissingExtra

from unisono_control.environments.protocol import EnvironmentSpec, Observation

SOLVED = 200.0
STATE = ("x", "y", "speed x", "speed y", "angle", "turning", "left leg", "right leg")


class Lander:
    """LunarLander-v3: land between the flags.

    Args:
        max_steps: the time limit; 1,000 as published.
    """

    def __init__(self, max_steps: int = 1000):
        for package in ("gymnasium", "Box2D"):
            if find_spec(package) is None:
                raise MissingExtra(package, "control")
        if not 1 <= max_steps <= 1000:
            raise DataError(
                f"max_steps={max_steps} must be from 1 to 1000, the environment's own limit",
                code="range",
                path="settings.max_steps",
                value=max_steps,
            )
        self.spec = EnvironmentSpec(
            name="lander",
            version=f"gymnasium {version('gymnasium')}, Box2D {version('Box2D')}",
            state_names=STATE,
            groups=(len(STATE),),
            action_names=("main engine", "side engines"),
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            hz=50.0,
            max_steps=max_steps,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of SWIG's types, as Box2D is imported
            import gymnasium
            from gymnasium.envs.box2d.lunar_lander import heuristic

        self._heuristic: Any = heuristic
        self._game: Any = gymnasium.make(
            "LunarLander-v3", continuous=True, render_mode="rgb_array", disable_env_checker=True
        )
        self._state = np.zeros(len(STATE), dtype=np.float32)
        self._score, self.done, self.kind = 0.0, True, ""

    @property
    def success(self) -> bool:
        return self.done and self._score >= SOLVED

    def reset(self, seed: int, instruction: str = "") -> None:
        self._state, _ = self._game.reset(seed=seed)
        self._score, self.done = 0.0, False

    def observe(self) -> Observation:
        return Observation(np.array(self._state, dtype=np.float32))

    def act(self, action: Float[np.ndarray, " a"]) -> float:
        self._state, reward, ended, cut, _ = self._game.step(np.asarray(action, dtype=np.float32))
        self._score, self.done = self._score + float(reward), bool(ended or cut)
        return float(reward)

    def expert(self) -> Float[np.ndarray, " a"]:
        action = self._heuristic(self._game.unwrapped, self._state)
        return np.asarray(action, dtype=np.float32)

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        if find_spec("pygame") is None:
            raise MissingExtra("pygame", "control")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pkg_resources, as pygame is imported
            return np.asarray(self._game.render(), dtype=np.uint8)
