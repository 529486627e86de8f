"""Counting: an environment that counts to 3, and can be asked to break its word in one way."""

import numpy as np
from unisono_control.environments import EnvironmentSpec, Observation, register_environment

COUNTING = EnvironmentSpec(
    name="counting",
    version="1",
    state_names=("count", "still"),
    groups=(2,),
    action_names=("step", "nothing"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    hz=5.0,
    max_steps=20,
)


class Counting:
    """Count to 3 by actions of 1; ``fault`` names what it does wrong."""

    def __init__(self, fault: str = ""):
        self.spec, self.fault = COUNTING, fault
        self.count, self.done, self.kind, self.calls = 0.0, True, "", 0

    @property
    def success(self) -> bool:
        return self.count >= 3

    def reset(self, seed: int, instruction: str = "") -> None:
        self.count, self.done, self.calls = (seed % 7) / 10, self.fault == "over", 0
        if self.fault == "reset":
            raise KeyError("no such level")

    def observe(self) -> Observation:
        if self.fault == "shape":
            return Observation(np.zeros(3, dtype=np.float32))
        seen = np.array([self.count, 0], dtype=np.float32)
        if self.fault == "nan" and self.calls == 2:
            seen[0] = np.nan
        return Observation(seen)

    def act(self, action: np.ndarray) -> float:
        self.calls += 1
        if self.fault == "act" and self.calls == 2:
            raise ZeroDivisionError("physics")
        self.count += float(action[0])
        self.done = self.count >= 3 and self.fault != "endless"
        return float("nan") if self.fault == "reward" else float(action[0])

    def expert(self) -> np.ndarray:
        return np.array([np.nan if self.fault == "expert" else 1.0, 0.0], dtype=np.float32)

    def render(self) -> np.ndarray:
        return np.full((8, 8, 3), min(int(self.count * 60), 255), dtype=np.uint8)


register_environment("counting", Counting)
