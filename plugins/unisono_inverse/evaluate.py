"""Evaluation of a restorer: pictures that are whole are damaged by several tasks, restored, and compared.

Beside the restorer stand what needs no prior::

    A⁺y          what was measured, as the pseudo-inverse shows it: the floor
    bicubic      Pillow's enlargement of the small picture
    biharmonic   scikit-image's in-painting, or Telea's of OpenCV, where they are installed

Pictures are cut to the prior's size from their middle. Measures are those of pictures as files have them, in [0, 1];
consistency is that of the numbers before they are cut and rounded. A few pictures are restored in parallel as well, and
compared with the serial ones by picture.

Shapes: b pictures, c h w of a picture.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor
from unisono.data import Drop, derive_seed
from unisono.errors import DataError
from unisono.evaluation import Report, Row, Section
from unisono.files import natural
from unisono.media import read_image

from unisono_inverse.operators import Blur, Grey, Mask, MeanPool, Operator, WalshHadamard, gaussian_kernel

__all__ = ["TASKS", "evaluate", "psnr", "ssim"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
TEST_FOLDERS = ("test", "val", "valid", "validation")
AT_ONCE = 32
NUM_STEPS = 25
FLOOR, MODEL, PARALLEL = "A⁺y", "ddnm", "ddnm, parallel"


@dataclass(frozen=True)
class Trial:
    """A damage: its operator for so many pictures of a size, and the noise in [0, 1]."""

    name: str
    make: Callable[[int, int], Operator]
    noise_level: float = 0.0


def _random_mask(count: int, size: int) -> Mask:
    drawn = [
        torch.rand(1, size, size, generator=torch.Generator().manual_seed(derive_seed("mask", i))) for i in range(count)
    ]
    return Mask(torch.stack(drawn) < 0.5)


def _part_mask(size: int, down: slice, right: slice) -> Mask:
    known = torch.ones(1, 1, size, size, dtype=torch.bool)
    known[0, 0, down, right] = False
    return Mask(known)


TASKS = (
    Trial("in-painting, half of the pixels", _random_mask),
    Trial(
        "in-painting, the middle quarter",
        lambda b, n: _part_mask(n, slice(n // 4, 3 * n // 4), slice(n // 4, 3 * n // 4)),
    ),
    Trial("in-painting, the right half", lambda b, n: _part_mask(n, slice(None), slice(n // 2, None))),
    Trial("twice as large", lambda b, n: MeanPool(2, n, n)),
    Trial("four times as large", lambda b, n: MeanPool(4, n, n)),
    Trial("colour", lambda b, n: Grey()),
    Trial("a quarter of the coefficients", lambda b, n: WalshHadamard(0.25, n, n)),
    Trial("blur of 1 pixel, noise 0.05", lambda b, n: Blur(gaussian_kernel(1.0), n, n), 0.05),
)


def evaluate(
    synthesizer: Any,
    data: str | Path,
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    tasks: Sequence[Trial] = TASKS,
    parallel: int = 4,
    progress: bool = True,
    **fields: Any,
) -> Report:
    """Measure a restorer on whole pictures: a folder, whose test part is taken where it has one.

    ``parallel`` pictures are restored in parallel too; ``fields`` are those of a request that say how a chain is run
    (``num_steps=50``). Raises ``DataError`` where no picture can be used.
    """
    model = synthesizer.model
    size = model.facts.size
    asked = {"num_steps": NUM_STEPS, **fields}
    pictures, names, failures = read_pictures(data, size, limit)
    truth = torch.from_numpy(np.stack(pictures)).float() / 127.5 - 1
    judge = model.components.get("classifier")
    systems, sections, items = [FLOOR, MODEL, PARALLEL], [], []
    for trial in track(list(tasks), "restoring", console=Console(stderr=True), disable=not progress):
        operator = trial.make(len(truth), size)
        y = operator.whole(truth) if isinstance(operator, Blur) else operator.measure(truth)
        noise = torch.Generator().manual_seed(derive_seed("noise", trial.name))
        y = y + 2 * trial.noise_level * torch.randn(y.shape, generator=noise)
        made: dict[str, Tensor] = {FLOOR: operator.back(y), **rivals(operator, y, truth.shape[2:])}
        begun, restored, rounds = time.perf_counter(), [], []
        told = {**asked, "noise_level": trial.noise_level}
        for first in range(0, len(truth), AT_ONCE):
            part = torch.arange(first, min(first + AT_ONCE, len(truth)))
            out, report = model.restore(operator.rows(part), y[part], size, size, seed=first, **told)
            restored.append(out)
            rounds += report.rounds_of
        seconds = (time.perf_counter() - begun) / len(truth)
        made[MODEL] = torch.cat(restored).cpu()
        costs: dict[str, list[int]] = {MODEL: rounds}
        work = 1.0
        count = min(parallel, len(truth), AT_ONCE)
        if count:
            part = torch.arange(count)
            out, report = model.restore(operator.rows(part), y[part], size, size, method="parallel", **told)
            made[PARALLEL], costs[PARALLEL] = out.cpu(), report.rounds_of
            work = report.work
        systems += [system for system in made if system not in systems]
        sections.append(_section(trial, operator, y, truth, made, costs, work, seconds, judge, names))
        for system, some in made.items():
            for number, value in enumerate(psnr(truth[: len(some)], some)):
                items.append({"id": names[number], "task": trial.name, "system": system, "psnr": value})
    order = [FLOOR, *(s for s in systems if s not in (FLOOR, MODEL, PARALLEL)), MODEL, PARALLEL]
    name = Path(checkpoint).resolve().name if checkpoint else synthesizer.info.get("model", "a restorer")
    return Report(
        title=f"{name} on {len(truth)} pictures of {size} × {size}",
        systems=order if parallel else order[:-1],
        sections=sections,
        facts={**asked, "pictures": len(truth), "in parallel": f"the first {min(parallel, len(truth))}",
               "threads": torch.get_num_threads(), "device": str(model.device)},
        items=items,
        failures=failures,
    )  # fmt: skip


def _section(
    trial: Trial,
    operator: Operator,
    y: Tensor,
    truth: Tensor,
    made: dict[str, Tensor],
    costs: dict[str, list[int]],
    work: float,
    seconds: float,
    judge: Any,
    names: Sequence[str],
) -> Section:
    """All measures of one task."""
    marks = {system: psnr(truth[: len(some)], some) for system, some in made.items()}
    rows = [
        Row("PSNR", {system: fmean(found) for system, found in marks.items()}, "dB", 2, "higher"),
        Row("SSIM", {system: ssim(truth[: len(some)], some) for system, some in made.items()}, "", 3, "higher"),
    ]
    if PARALLEL in marks:
        apart = {PARALLEL: fmean(marks[PARALLEL]) - fmean(marks[MODEL][: len(marks[PARALLEL])])}
        rows.append(Row("PSNR above the serial one's, same pictures", apart, "dB", 3, "0"))
    if not trial.noise_level:
        back = operator.back(y)
        far: dict[str, float | str | None] = {}
        for system, some in made.items():
            seen = operator.rows(torch.arange(len(some))).project(some)
            far[system] = f"{float((seen - back[: len(some)]).abs().max()) / 2:.0e}"
        rows.append(Row("consistency, largest", far, "of 1", better="lower"))
    if judge is not None and len({name.partition("/")[0] for name in names} & set(judge.classes)) > 1:
        right: dict[str, float | str | None] = {}
        for system, some in {**made, "whole": truth}.items():
            chances = judge.judge(list(files(some)))[1]
            found = [judge.classes[k] for k in chances.argmax(1)]
            right[system] = fmean(a == b.partition("/")[0] for a, b in zip(found, names, strict=False))
        whole = right.pop("whole")
        rows.append(Row(f"classified as asked (whole pictures: {whole:.2f})", right, "", 2, "higher"))
    told: dict[str, float | str | None] = {s: f"{min(n)}–{max(n)}, {median(n):g}" for s, n in costs.items()}
    rows += [
        Row("rounds of a picture: least–most, median", told),
        Row("evaluations, relative to serial", {PARALLEL: work} if PARALLEL in costs else {}, "", 1, "lower"),
        Row("seconds of a picture, in batches", {MODEL: seconds}, "s", 2, "lower"),
    ]
    return Section(trial.name, rows)


def read_pictures(root: str | Path, size: int, limit: int) -> tuple[list[np.ndarray], list[str], list[dict[str, str]]]:
    """Return up to ``limit`` pictures of a folder, their names, and what could not be used; the same of every model.

    Names are paths in it, such as ``frog/0001.jpg``. Raises ``DataError`` where none is left.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(
            f"{str(root)!r:.200} is no folder: give one of pictures", code="missing", path="data", value=str(root)
        )
    folder = next((folder / part for part in TEST_FOLDERS if (folder / part).is_dir()), folder)
    found = sorted((p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES), key=lambda p: natural(str(p)))
    order = sorted(found, key=lambda p: derive_seed("chosen", p.relative_to(folder).as_posix()))
    pictures: list[np.ndarray] = []
    names: list[str] = []
    failures: list[dict[str, str]] = []
    for path in order:
        if len(pictures) == limit:
            break
        name = path.relative_to(folder).as_posix()
        try:
            pixels = read_image(path)
        except Drop as drop:
            failures.append({"id": name, "system": "picture", "reason": f"{drop.reason}: {drop}"})
            continue
        top, left = ((side - size) // 2 for side in pixels.shape[1:])
        if min(top, left) < 0:
            failures.append({"id": name, "system": "picture", "reason": f"smaller than {size} × {size}"})
            continue
        pictures.append(pixels[:, top : top + size, left : left + size])
        names.append(name)
    if not pictures:
        raise DataError(f"{str(folder)!r:.200} holds no picture of {size} × {size} or more", code="empty", path="data")
    return pictures, names, failures


def rivals(operator: Operator, y: Tensor, shape: Sequence[int]) -> dict[str, Tensor]:
    """Return what others make of a measurement, where they can."""
    if isinstance(operator, MeanPool):
        from PIL import Image

        large = [
            np.stack(
                [np.asarray(Image.fromarray(c).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)) for c in one]
            )
            for one in y.numpy()
        ]
        return {"bicubic": torch.from_numpy(np.stack(large))}
    if not isinstance(operator, Mask):
        return {}
    known = operator.known.expand(len(y), -1, -1, -1)[:, 0].numpy()
    try:
        from skimage.restoration import inpaint_biharmonic  # pyright: ignore[reportMissingImports]

        filled = [
            inpaint_biharmonic(one.transpose(1, 2, 0), ~here, channel_axis=-1).transpose(2, 0, 1)
            for one, here in zip(y.numpy(), known, strict=True)
        ]
        return {"biharmonic": torch.from_numpy(np.stack(filled)).float()}
    except ImportError:
        pass
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {}
    filled = [
        cv2.inpaint(np.ascontiguousarray(one.transpose(1, 2, 0)), (~here).astype(np.uint8), 3, cv2.INPAINT_TELEA)
        for one, here in zip(files(y), known, strict=True)
    ]
    return {"Telea": torch.from_numpy(np.stack(filled).transpose(0, 3, 1, 2)).float() / 127.5 - 1}


def files(x: Float[Tensor, "b c h w"]) -> np.ndarray:
    """Return pictures as files have them, 8-bit."""
    return (((x + 1) / 2).clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def psnr(truth: Float[Tensor, "b c h w"], made: Float[Tensor, "b c h w"]) -> list[float]:
    """Return each picture's peak signal-to-noise ratio in dB, as files; 99 for an equal one."""
    a, b = (files(x).astype(np.float64) / 255 for x in (truth, made))
    error = np.square(a - b).reshape(len(a), -1).mean(1)
    return [float(-10 * np.log10(e)) if e > 1e-9 else 99.0 for e in error]


def ssim(truth: Float[Tensor, "b c h w"], made: Float[Tensor, "b c h w"]) -> float:
    """Return the mean structural similarity (Wang et al., 2004), of torchmetrics."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (torch.from_numpy(files(x)).float() / 255 for x in (truth, made))
    found: Any = structural_similarity_index_measure(b, a, data_range=1.0)
    return float(found)
