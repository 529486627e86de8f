"""Drawings of a moving skeleton: a strip of poses, GIF and MP4, with the ground below.

The camera looks along the ground from the front right, a little from above, without perspective; matplotlib's
own 3-D axes are too slow for films. Left limbs are blue, right ones red, the trunk is dark.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from unisono_motion.skeleton.skeleton import Skeleton

AZIMUTH, ELEVATION = np.radians(30), np.radians(12)
LEFT, RIGHT, TRUNK = "#2b6cb0", "#c53030", "#2d3748"
GROUND, LINES = "#edf2f7", "#cbd5e0"
MAX_GIF_FPS = 25
INCHES, DPI = 4.0, 80


@dataclass(frozen=True)
class Scene:
    """What is drawn: ``positions`` [t, j, 3] in metres (y up) of a skeleton's joints, and the words above."""

    positions: np.ndarray
    skeleton: Skeleton
    fps: float
    caption: str = ""


def project(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
    """Return where a point of the world (y up) is seen: rightwards and upwards, in metres."""
    x, y, z = np.moveaxis(points, -1, 0)
    right = x * np.cos(AZIMUTH) - z * np.sin(AZIMUTH)
    back = x * np.sin(AZIMUTH) + z * np.cos(AZIMUTH)
    return np.stack([right, y * np.cos(ELEVATION) - back * np.sin(ELEVATION)], -1)


def strip_figure(scene: Scene, num_poses: int = 8):
    """Draw poses at equal distances in time, side by side on the ground, each facing as it does."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    count = min(num_poses, len(scene.positions))
    frames = np.linspace(0, len(scene.positions) - 1, count).round().astype(int)
    poses = scene.positions[frames].astype(np.float64)
    poses = poses - poses[:, :1] * [1, 0, 1]
    seen = project(poses)
    width = max(1.15 * float(np.ptp(seen[..., 0], axis=1).max()), 0.6)
    seen[..., 0] += width * np.arange(count)[:, None]
    floor = min(float(poses[..., 1].min()), 0.0)
    figure = Figure(figsize=(1.6 * count, 3.4), layout="constrained")
    axes = figure.add_subplot()
    _ground(axes, (-width, width * count), (-0.6, 0.6), floor, shift=True)
    skeleton = scene.skeleton
    colours = _colours(skeleton)
    for pose in seen:
        axes.add_collection(LineCollection(_bones(skeleton, pose), colors=colours, linewidths=2.5, capstyle="round"))
    for place, frame in zip(width * np.arange(count), frames, strict=True):
        axes.text(place, seen[..., 1].min() - 0.22, f"{frame / scene.fps:.1f} s", ha="center", fontsize=8)
    axes.set(xlim=(-width * 0.6, width * (count - 0.4)), ylim=(seen[..., 1].min() - 0.3, seen[..., 1].max() + 0.1))
    axes.set_aspect("equal")
    axes.axis("off")
    if scene.caption:
        axes.set_title(scene.caption, fontsize=10)
    return figure


def write_gif(scene: Scene, file: Path | BinaryIO, max_fps: float = MAX_GIF_FPS) -> None:
    """Write an animated GIF that repeats, at the motion's speed, of at most ``max_fps`` frames a second."""
    from PIL import Image

    stride = max(1, round(scene.fps / max_fps))
    images = [Image.fromarray(image) for image in _images(scene, stride)]
    palette = [image.quantize(32, dither=Image.Dither.NONE) for image in images]
    # GIF counts hundredths of a second: each frame ends at the nearest one, so that errors do not add up.
    ends = [round(100 * (i + 1) * stride / scene.fps) for i in range(len(palette))]
    periods = [10 * max(end - start, 2) for start, end in zip([0, *ends], ends, strict=False)]
    palette[0].save(file, format="GIF", save_all=True, append_images=palette[1:], duration=periods, loop=0, disposal=1)


def write_video(scene: Scene, path: Path) -> None:
    """Write a GIF or, through ffmpeg, an MP4; the suffix decides."""
    if path.suffix.lower() == ".gif":
        write_gif(scene, path)
        return
    from matplotlib.animation import FFMpegWriter

    figure, update = _stage(scene)
    fps: Any = scene.fps  # ffmpeg takes fractions, though the writer declares a whole number
    writer = FFMpegWriter(fps=fps)
    with writer.saving(figure, str(path), DPI):
        for frame in range(len(scene.positions)):
            update(frame)
            writer.grab_frame()


def _images(scene: Scene, stride: int) -> list[np.ndarray]:
    figure, update = _stage(scene)
    images = []
    for frame in range(0, len(scene.positions), stride):
        update(frame)
        figure.canvas.draw()
        images.append(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
    return images


def _stage(scene: Scene) -> tuple[Any, Any]:
    """Return a figure with the ground and a function that sets the skeleton to a frame; the camera follows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    positions = scene.positions.astype(np.float64)
    seen = project(positions)
    figure = Figure(figsize=(INCHES, INCHES))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    low, high = positions.min((0, 1)), positions.max((0, 1))
    _ground(axes, (low[0] - 2, high[0] + 2), (low[2] - 2, high[2] + 2), min(low[1], 0.0))
    bones = LineCollection([], colors=_colours(scene.skeleton), linewidths=3, capstyle="round")
    axes.add_collection(bones)
    axes.set_aspect("equal")
    axes.axis("off")
    if scene.caption:
        axes.set_title(scene.caption, fontsize=9, y=0.93, wrap=True)
    reach = 1.2 * max(np.abs(seen - seen[:, :1]).max(), 0.5)
    middle = float(seen[:, 0, 1].mean())

    def update(frame: int) -> None:
        bones.set_segments(_bones(scene.skeleton, seen[frame]))
        centre = float(seen[frame, 0, 0])
        axes.set(xlim=(centre - reach, centre + reach), ylim=(middle - reach, middle + reach))

    return figure, update


def _ground(axes: Any, x: tuple[float, float], z: tuple[float, float], height: float, shift: bool = False) -> None:
    """Draw the ground as a plate with a line every half metre; ``shift``: x runs along the picture."""
    from matplotlib.collections import LineCollection, PolyCollection

    def place(points: list[tuple[float, float]]) -> np.ndarray:
        flat = np.array([(0.0 if shift else px, height, pz) for px, pz in points])
        seen = project(flat)
        if shift:
            seen[:, 0] += [px for px, _ in points]
        return seen

    corners = place([(x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1])])
    axes.add_collection(PolyCollection([corners], facecolors=GROUND, zorder=0))
    ticks = [np.arange(np.ceil(2 * low) / 2, high + 1e-9, 0.5) for low, high in (x, z)]
    lines = [place([(t, z[0]), (t, z[1])]) for t in ticks[0]] + [place([(x[0], t), (x[1], t)]) for t in ticks[1]]
    axes.add_collection(LineCollection(lines, colors=LINES, linewidths=0.6, zorder=1))


def _bones(skeleton: Skeleton, seen: Float[np.ndarray, "j 2"]) -> list[np.ndarray]:
    parents = skeleton.parents
    return [seen[[parents[joint], joint]] for joint in range(1, len(parents))]


def _colours(skeleton: Skeleton) -> list[str]:
    tops = {joint: colour for pair in skeleton.pairs for joint, colour in zip(pair, (LEFT, RIGHT), strict=True)}
    side: list[str] = [TRUNK]
    for joint in range(1, len(skeleton)):
        side.append(tops.get(joint) or side[skeleton.parents[joint]])
    return side[1:]
