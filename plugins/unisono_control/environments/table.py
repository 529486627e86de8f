"""Table: discs, pads and a gripper on a table top, told what to do in a sentence; a simulator in numpy.

The table is the unit square. The gripper moves by at most ``SPEED`` a step, takes the nearest disc where it closes, and
lets go where it opens; discs do not collide. An episode ends when the disc that was asked for lies where it should and
is let go of.

The state is of the gripper (x, y, closed, holding), each disc (x, y, there, held; 0 where it is not there) and each pad
(x, y). With ``observe="picture"`` it is of the gripper alone, and the rest is seen in a picture of 32 × 32.
"""

import numpy as np
from jaxtyping import Float, UInt8
from unisono.errors import DataError

from unisono_control.environments.protocol import EnvironmentSpec, Observation
from unisono_control.environments.tasks import ALL_TASKS, COLOURS, NUM_WAYS, PADS, Task, read_task

SPEED, REACH, CLOSE = 0.06, 0.05, 0.015
DISC, PAD, BESIDE = 0.05, 0.08, 0.14
SIZE = 32
GRIPPER = ("gripper x", "gripper y", "closed", "holding")
PAINT = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 119, 180),
    "yellow": (240, 200, 40),
    "purple": (148, 103, 189),
}
TABLE, INK = (245, 242, 235), (40, 40, 40)


class Table:
    """The table top.

    Args:
        observe: ``state`` for the places of all things, ``picture`` for a picture and the gripper's own place.
        max_steps: the time limit; the expert needs about 25.
    """

    def __init__(self, observe: str = "state", max_steps: int = 60):
        if observe not in ("state", "picture"):
            raise DataError(
                f"observe={observe!r} must be state or picture", code="unknown", path="settings.observe", value=observe
            )
        seen = observe == "picture"
        things = [] if seen else [f"{c} disc {part}" for c in COLOURS for part in ("x", "y", "there", "held")]
        things += [] if seen else [f"{c} pad {part}" for c in PADS for part in ("x", "y")]
        self.spec = EnvironmentSpec(
            name="table",
            version="1",
            state_names=(*GRIPPER, *things),
            groups=(4,) if seen else (4, *(4 for _ in COLOURS), *(2 for _ in PADS)),
            action_names=("dx", "dy", "grip"),
            action_low=(-SPEED, -SPEED, 0.0),
            action_high=(SPEED, SPEED, 1.0),
            hz=10.0,
            max_steps=max_steps,
            picture_size=SIZE if seen else 0,
            takes_instruction=True,
        )
        self.task, self.instruction, self.kind, self.done = ALL_TASKS[0], "", "", True
        self.discs: dict[str, np.ndarray] = {}
        self.pads: dict[str, np.ndarray] = {}
        self.gripper, self.closed, self.held = np.zeros(2), False, ""

    @property
    def success(self) -> bool:
        return self.done

    def reset(self, seed: int, instruction: str = "") -> None:
        """Lay the table of a seed: 3 to 5 discs, 3 pads, and the task's disc not yet where it belongs."""
        draw = np.random.default_rng(seed)
        task, way = ALL_TASKS[int(draw.integers(len(ALL_TASKS)))], int(draw.integers(NUM_WAYS))
        self.task = read_task(instruction) if instruction else task
        self.instruction, self.kind = instruction or task.say(way), self.task.say()
        self.done, self.closed, self.held = False, False, ""
        needed = [self.task.disc, *([] if self.task.relation == "on" else [self.task.other])]
        others = [c for c in draw.permutation(COLOURS).tolist() if c not in needed]
        present = needed + others[: int(draw.integers(3, 6)) - len(needed)]
        for _ in range(10_000):  # a table that can be laid is found within some dozen tries
            places = draw.uniform(0.1, 0.9, (len(PADS) + len(present), 2))
            self.pads = dict(zip(PADS, places[: len(PADS)], strict=True))
            self.discs = dict(zip(present, places[len(PADS) :], strict=True))
            if self._is_laid_well(places):
                break
        else:
            raise RuntimeError(f"no table of {len(present)} discs is laid in 10,000 tries")
        self.gripper = draw.uniform(0.1, 0.9, 2)

    def observe(self) -> Observation:
        state = [*self.gripper, float(self.closed), float(bool(self.held))]
        if self.spec.picture_size:
            picture = self.draw(self.spec.picture_size).transpose(2, 0, 1)
            return Observation(np.array(state, dtype=np.float32), self.instruction, np.ascontiguousarray(picture))
        for colour in COLOURS:
            there = colour in self.discs
            state += [*(self.discs[colour] if there else (0.0, 0.0)), float(there), float(self.held == colour)]
        state += [number for pad in PADS for number in self.pads[pad]]
        return Observation(np.array(state, dtype=np.float32), self.instruction)

    def act(self, action: Float[np.ndarray, " a"]) -> float:
        """Move, then close or open; the reward is 1 where the task is done."""
        self.gripper = (self.gripper + np.asarray(action[:2], dtype=np.float64)).clip(0, 1)
        closes = bool(action[2] > 0.5)
        if closes and not self.closed:
            near = min(self.discs, key=lambda colour: float(np.linalg.norm(self.discs[colour] - self.gripper)))
            self.held = near if np.linalg.norm(self.discs[near] - self.gripper) <= REACH else ""
        elif not closes:
            self.held = ""
        self.closed = closes
        if self.held:
            self.discs[self.held] = self.gripper.copy()
        self.done = not self.held and self._is_done(self.discs[self.task.disc])
        return float(self.done)

    def expert(self) -> Float[np.ndarray, " a"]:
        """Go to the disc, take it, go to its place, let go; what was taken by mistake is let go of at once."""
        grip, target = 0.0, self.discs[self.task.disc]
        if self.held == self.task.disc:
            grip, target = 1.0, self.goal
        elif self.closed:
            return np.zeros(3, dtype=np.float32)
        way = target - self.gripper
        far = float(np.linalg.norm(way))
        if far <= CLOSE:
            return np.array([0.0, 0.0, 1.0 - grip], dtype=np.float32)
        step = way * min(1.0, SPEED / far)
        return np.array([*step, grip], dtype=np.float32)

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        return self.draw(192)

    @property
    def goal(self) -> Float[np.ndarray, "2"]:
        """Where the disc is to be put."""
        if self.task.relation == "on":
            return self.pads[self.task.other]
        side = -BESIDE if self.task.relation == "left" else BESIDE
        return self.discs[self.task.other] + np.array([side, 0.0])

    def draw(self, size: int) -> UInt8[np.ndarray, "h w 3"]:
        """Return a picture of so many pixels a side, y upwards."""
        along = (np.arange(size) + 0.5) / size
        x, y = np.meshgrid(along, along[::-1])
        picture = np.empty((size, size, 3), dtype=np.uint8)
        picture[:] = TABLE
        for colour, (px, py) in self.pads.items():
            inside = (abs(x - px) <= PAD) & (abs(y - py) <= PAD)
            picture[inside] = (np.array(PAINT[colour]) + 2 * np.array(TABLE)) // 3
        for colour, (px, py) in self.discs.items():
            picture[(x - px) ** 2 + (y - py) ** 2 <= DISC**2] = PAINT[colour]
        away = np.hypot(x - self.gripper[0], y - self.gripper[1])
        thick = max(0.012, 0.5 / size)
        picture[away <= (2 if self.closed else 1) * thick] = INK
        if not self.closed:
            picture[abs(away - 0.035) <= thick / 1.5] = INK
        return picture

    def _is_laid_well(self, places: Float[np.ndarray, "n 2"]) -> bool:
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
        if (apart + np.eye(len(places)) < BESIDE + 0.03).any():
            return False
        goal = self.goal
        others = [place for colour, place in self.discs.items() if colour != self.task.disc]
        free = all(np.linalg.norm(place - goal) >= 2 * DISC for place in others)
        inside = bool((goal >= 0.06).all() and (goal <= 0.94).all())
        return free and inside and not self._is_done(self.discs[self.task.disc])

    def _is_done(self, place: Float[np.ndarray, "2"]) -> bool:
        return bool(np.abs(place - self.goal).max() <= REACH)


__all__ = ["Table", "Task"]
