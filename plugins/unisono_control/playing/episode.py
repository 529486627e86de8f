"""Episode: what a policy makes; an episode that saves itself as a film, as a picture and as JSON, and can be read back.

A film is not kept: an environment does the same for the same seed and actions, so frames are drawn when they are asked
for, by playing the episode again. States that then differ are an error, since the film would show another episode.

Shapes: t steps, s numbers of the state, a of an action, c chunks, m actions of a chunk.
"""

import base64
import html
import io
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from jaxtyping import Float, Int, UInt8
from unisono.errors import DataError, RequestError
from unisono.files import read_json, shown
from unisono.media import Media

from unisono_control.environments import Session, make_environment

MAX_FPS = 25
SHOWN_FRAMES = 6
FILM_SIZE = 300
"""Pixels of a film's longer side, at most."""
HOLD_SECONDS = 1.0
"""For which the last frame of a film stays."""
ARRAYS = {"states": np.float32, "actions": np.float32, "rewards": np.float32, "tokens": np.int64, "fixed": np.int64}


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode(Media):
    """One episode, and what it cost to plan it.

    Attributes:
        environment, settings, version: which environment, and of what version.
        seed, instruction, kind: which episode; ``kind`` is the sort of its task.
        states: seen before each action and at the end, [t + 1, s].
        actions: carried out, [t, a]; ``rewards`` [t].
        success: whether it ended well; ``ended`` whether it ended before the time limit.
        executed: how many actions of each chunk were carried out; ``rounds`` how many evaluations each needed.
        tokens: of each chunk, [c, m, a]; ``fixed`` the round, from 1, from which on each had its value. None of
            policies without tokens.
    """

    environment: str
    settings: dict[str, Any]
    version: str
    hz: float
    seed: int
    instruction: str
    kind: str
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    states: Float[np.ndarray, "t s"]
    actions: Float[np.ndarray, "t a"]
    rewards: Float[np.ndarray, " t"]
    success: bool
    ended: bool
    chunk: int
    executed: tuple[int, ...]
    rounds: tuple[int, ...]
    tokens: Int[np.ndarray, "c m a"] | None = None
    fixed: Int[np.ndarray, "c m a"] | None = None

    suffixes: ClassVar[tuple[str, ...]] = (".gif", ".json")

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.actions) / self.hz

    @property
    def score(self) -> float:
        """The sum of the rewards."""
        return float(self.rewards.astype(np.float64).sum())

    def boundary_jerk(self) -> tuple[float, float]:
        """Return how far actions are from the one before, on average over their numbers: where chunks meet, and within.

        NaN where there is no such place.
        """
        change = np.abs(np.diff(self.actions.astype(np.float64), axis=0)).mean(1)
        meets = np.zeros(len(self.actions), dtype=bool)
        ends = np.cumsum(self.executed)[:-1]
        meets[ends[ends < len(meets)]] = True
        meets = meets[1:]
        return tuple(float(part.mean()) if len(part) else float("nan") for part in (change[meets], change[~meets]))  # type: ignore[return-value]

    def about(self) -> dict[str, Any]:
        """Return all but the numbers of each step, as plain JSON."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ARRAYS}
        return {"seconds": self.seconds, "score": self.score, "steps": len(self.actions), **_plain(named)}

    def __repr__(self) -> str:
        how = "success" if self.success else "failure" if self.ended else "time is up"
        said = f"{self.instruction!r}, " if self.instruction else ""
        return (
            f"Episode({self.environment}, seed {self.seed}, {said}{how}, {len(self.actions)} steps, return "
            f"{self.score:.1f}, {sum(self.rounds)} evaluations of {len(self.rounds)} chunks)"
        )

    @classmethod
    def read(cls, path: str | Path) -> "Episode":
        """Read an episode that was saved as JSON; raises ``DataError`` for another file."""
        raw = read_json(Path(path))
        names = {field.name for field in fields(cls)}
        if not isinstance(raw, dict) or not names - {"tokens", "fixed"} <= raw.keys() <= names:
            raise DataError(f"{shown(path)}: is not an episode saved as JSON; save it again", code="format", path=path)
        try:
            values: dict[str, Any] = {key: tuple(v) if type(v) is list else v for key, v in raw.items()}
            for name, kind in ARRAYS.items():
                if values.get(name) is not None:
                    values[name] = np.array(values[name], dtype=kind)
                    if not np.isfinite(values[name]).all():
                        raise ValueError(f"{name} hold NaN or infinity")
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{shown(path)}: is damaged ({error!s:.120}); save it again", code="damaged", path=path
            ) from None

    def frames(self, stride: int = 1) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Play the episode again and return what it looks like before every ``stride``-th action, and at the end.

        Raises ``RequestError`` where the environment does something else than it did.
        """
        session = Session(make_environment(self.environment, **self.settings))
        session.reset(self.seed, self.instruction if session.spec.takes_instruction else "")
        drawn = []
        for step in range(len(self.states)):
            if not np.array_equal(session.observe().state, self.states[step]):
                raise RequestError(
                    f"environment {self.environment!r} ({session.spec.version}) is in another state at step {step} of "
                    f"seed {self.seed} than when the episode was played ({self.version}): draw it with that version",
                    code="version",
                    path="environment",
                    value=session.spec.version,
                )
            if step % stride == 0 or step == len(self.actions):
                drawn.append(session.render())
            if step < len(self.actions):
                session.act(self.actions[step])
        return drawn

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".json":
            values = {field.name: getattr(self, field.name) for field in fields(self)}
            path.write_text(json.dumps(_plain(values), ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        else:
            path.write_bytes(self._film())

    def _film(self) -> bytes:
        from PIL import Image as Pillow
        from PIL import ImageDraw

        stride = max(1, round(self.hz / MAX_FPS))
        pictures = []
        for frame in self.frames(stride):
            picture = Pillow.fromarray(frame)
            picture.thumbnail((FILM_SIZE, FILM_SIZE))
            if self.instruction:
                framed = Pillow.new("RGB", (picture.width, picture.height + 16), "white")
                framed.paste(picture, (0, 16))
                ImageDraw.Draw(framed).text((3, 2), self.instruction, fill=(20, 20, 20))
                picture = framed
            pictures.append(picture.quantize(64, dither=Pillow.Dither.NONE))
        period = max(20, round(100 * stride / self.hz) * 10)
        periods = [period] * (len(pictures) - 1) + [int(1000 * HOLD_SECONDS)]
        buffer = io.BytesIO()
        first, *rest = pictures
        first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=periods, loop=0)
        return buffer.getvalue()

    def plot(self):
        """Draw frames at equal distances in time, and below them the actions and the rounds in which each was fixed."""
        from matplotlib.figure import Figure

        frames = self.frames(max(1, len(self.actions) // SHOWN_FRAMES))[-SHOWN_FRAMES:]
        figure = Figure(figsize=(10, 6), layout="constrained")
        figure.suptitle(repr(self), fontsize=8)
        rows = figure.subplot_mosaic(
            [[f"frame {i}" for i in range(len(frames))], ["actions"] * len(frames), ["fixed"] * len(frames)],
            height_ratios=[2, 1.3, 1.3],
        )
        for i, frame in enumerate(frames):
            rows[f"frame {i}"].imshow(frame)
            rows[f"frame {i}"].set_axis_off()
        time = np.arange(len(self.actions)) / self.hz
        actions, fixed = rows["actions"], rows["fixed"]
        for i, name in enumerate(self.action_names):
            actions.step(time, self.actions[:, i], where="post", label=name, linewidth=1)
        for end in np.cumsum(self.executed)[:-1]:
            actions.axvline(end / self.hz, color="0.85", linewidth=0.7, zorder=0)
        actions.set(ylabel="action", xlim=(0, max(self.seconds, 1 / self.hz)))
        actions.legend(fontsize=7, loc="upper right")
        if self.fixed is None:
            fixed.set_axis_off()
        else:
            by_place = self.fixed.reshape(len(self.fixed), -1).T
            fixed.imshow(by_place, aspect="auto", interpolation="nearest")
            fixed.set(xlabel="chunk", ylabel="token; bright: fixed late")
        return figure

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.encoded(".gif")).decode()
        label = html.escape(repr(self))
        return f'<img alt="{label}" title="{label}" src="data:image/gif;base64,{data}">'


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: cast(Any, v).tolist() if isinstance(v, np.ndarray) else v for key, v in values.items()}
