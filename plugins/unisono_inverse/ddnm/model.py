"""``inverse/ddnm``: pictures restored by any diffusion prior, without training.

DDNM and DDNM+ (Wang et al., arXiv:2212.00490), and DeqIR (Cao et al., arXiv:2311.11600), which is the same chain as one
fixed point; the equations are in ``chain.py``. Measured pictures are those of `operators`. Differences:

- noise levels are those of the prior's own sampler, whatever it was trained for, not a table of 1,000 steps;
- states are a request's own, in a batch of any size; a parallel solver accepts steps picture by picture;
- larger pictures are windows whose estimates are averaged (`tiled`), not restored one after the other.

Shapes: b pictures, c h w of a picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono.batching import Progress, grouped
from unisono.diffusion import NonFiniteError, Report, solve
from unisono.errors import RequestError, UnisonoError, raised_as
from unisono.model import OnStep

from unisono_inverse.data import trial_picture
from unisono_inverse.ddnm.chain import DDNM
from unisono_inverse.ddnm.start import improved_start
from unisono_inverse.on_prior import OnPrior
from unisono_inverse.operators import (
    LUMA,
    Blur,
    Both,
    Grey,
    Mask,
    MeanPool,
    Operator,
    Spectral,
    WalshHadamard,
    gaussian_kernel,
)
from unisono_inverse.pictures import Restored, mask_of, picture_of
from unisono_inverse.request import RestorationRequest, solver_of

__all__ = ["Restorer", "Task"]

GREY_WITHIN = 2 / 255
"""How far the channels of a picture that is said to be grey may be apart."""


@dataclass(frozen=True)
class Task:
    """A request that was read: its operator, its measurement A⁺y, and what of the picture is known as it is."""

    request: RestorationRequest
    operator: Operator
    back: Float[Tensor, "3 h w"]
    known: Bool[Tensor, "1 h w"] | None

    @property
    def group(self) -> tuple[Any, ...]:
        """What requests must share to be restored together."""
        asked = self.request
        kinds = {"super": (asked.factor,), "colour-super": (asked.factor, asked.grey), "colour": (asked.grey,)}
        of_task = {**kinds, "deblur": (asked.blur,), "compressed": (asked.ratio,)}.get(asked.task, ())
        run = (asked.method, asked.solver, asked.window, asked.tolerance, asked.start_steps)
        chain = (asked.num_steps, asked.eta, asked.noise_level, asked.travel_length, asked.travel_repeat, asked.overlap)
        return *self.back.shape, asked.task, *of_task, *run, *chain


class Restorer(OnPrior):
    """Restores pictures by a component, the prior; it has no weights of its own.

    Attributes:
        evaluations: of the prior so far, per picture; a window counts as one.
        rounds: batched evaluations so far; serial restoration takes one for each step.
        reports: of the last call, one for each group of requests that were restored together.
    """

    Media: ClassVar[type[Restored]] = Restored
    Request: ClassVar[Any] = RestorationRequest
    salt: ClassVar[str] = "inverse"
    roles: ClassVar[dict[str, str]] = {
        "prior": "a diffusion model of pictures, which restoration rests on",
        "classifier": "says in evaluation what a restored picture shows",
    }

    # ---- restoring -----------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[RestorationRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Restored]:
        """Return each picture restored."""
        self.component("prior")  # raises before anything is read
        with torch.inference_mode(False), torch.no_grad():
            seeds = [self.seed_of(request, generator) for request in requests]
            tasks = [self.read(request, seed) for request, seed in zip(requests, seeds, strict=True)]
            groups = grouped(range(len(tasks)), lambda index: tasks[index].group)
            chains = [self.chain([tasks[i] for i in members], [seeds[i] for i in members]) for members in groups]
            progress = Progress(on_step, sum(len(m) * c.num_steps for m, c in zip(groups, chains, strict=True)))
            reports: list[Report] = []
            made: dict[int, Restored] = {}
            for members, chain in zip(groups, chains, strict=True):
                clean, report = self.run(chain, tasks[members[0]].request, progress)
                reports.append(report)
                for index, picture in zip(members, clean, strict=True):
                    made[index] = self.picture(tasks[index], picture)
        self.reports = reports
        return [made[index] for index in range(len(tasks))]

    def run(
        self, chain: DDNM, request: RestorationRequest, progress: Progress | None = None
    ) -> tuple[Float[Tensor, "b c h w"], Report]:
        """Run a chain as a request asks; return the pictures in [−1, 1] and the bill, and count it."""
        progress = progress or Progress(None, len(chain.back) * chain.num_steps)
        before, share = progress.done, len(chain.back) * chain.num_steps
        how = solver_of(request, chain.num_steps)
        x, rows = chain.start(), 0
        if request.start_steps:
            better = [self._start(chain, x[i : i + 1], i, request.start_steps, how) for i in range(len(x))]
            x, rows = torch.cat([start for start, _ in better]), better[0][1]
        try:
            solution = solve(
                chain, x, *how, on_round=lambda event: progress.to(before + int(event.done * share + 1e-6))
            )
        except NonFiniteError:
            raise
        except UnisonoError as error:
            raise RequestError(f"method={request.method}: {error}", code=error.code, path="method") from error
        progress.to(before + share)
        report = solution.report
        windows = getattr(chain.prior, "windows", 1)
        self.evaluations += windows * (rows + math.ceil(report.rows / report.num_samples))
        self.rounds += report.rounds
        return solution.sample, report

    def _start(self, chain: DDNM, x: Tensor, index: int, num_steps: int, how: Any) -> tuple[Tensor, int]:
        """The improved start of one picture of a chain, and the rows that it took."""
        row = torch.tensor([index])
        alone = DDNM.of(chain, row, correct_last=False)
        start, _, rows = improved_start(alone, x, num_steps, how)
        return start, rows

    def restore(
        self, operator: Operator, y: Tensor, height: int, width: int, seed: int = 0, **fields: Any
    ) -> tuple[Float[Tensor, "b 3 h w"], Report]:
        """Restore what was measured by an operator of one's own: y = A x of pictures in [−1, 1], one or more.

        ``fields`` are those of a request that say how the chain is run. Returns pictures in [−1, 1], not cut, and
        the bill. Raises ``RequestError``.
        """
        known = {"picture", "pixels", "task", "mask", "damage", "seed"} & set(fields)
        if known:
            raise RequestError(
                f"restore() takes no {min(known)}: the operator says it", code="conflict", path=min(known)
            )
        blank = [[[0.0]]] * 3
        request = self.Request.parse(pixels=blank, task="colour", seed=seed, **fields)
        with torch.inference_mode(False), torch.no_grad():
            back = operator.back(y.to(self.device)).float()
            if back.shape[1:] != (3, height, width) or not bool(back.isfinite().all()):
                raise RequestError(
                    f"A⁺y is {tuple(back.shape)}, finite: {bool(back.isfinite().all())}; it must be pictures of "
                    f"{width} × {height}",
                    code="shape" if back.shape[1:] != (3, height, width) else "value",
                    path="y",
                )
            chain = self._chain(request, operator, back, [seed + row for row in range(len(back))])
            return self.run(chain, request)

    def chain(self, tasks: Sequence[Task], seeds: Sequence[int]) -> DDNM:
        """Return the chain of tasks of one group."""
        operator = tasks[0].operator
        if isinstance(operator, Mask):
            operator = Mask(torch.cat([task.operator.known for task in tasks if isinstance(task.operator, Mask)]))
        back = torch.stack([task.back for task in tasks]).to(self.device)
        return self._chain(tasks[0].request, operator, back, seeds)

    def _chain(self, request: RestorationRequest, operator: Operator, back: Tensor, seeds: Sequence[int]) -> DDNM:
        prior = self.prior_for(back.shape[2], back.shape[3], request.overlap)
        if request.travel_length > request.num_steps:
            raise RequestError(
                f"travel_length={request.travel_length} is more than the {request.num_steps} steps",
                code="range",
                path="travel_length",
                value=request.travel_length,
            )
        with raised_as(RequestError):  # such as more steps than the prior has levels
            return DDNM(
                prior,
                operator,
                back,
                seeds=seeds,
                num_steps=request.num_steps,
                eta=request.eta,
                noise_std=2 * request.noise_level,
                length=request.travel_length,
                repeat=request.travel_repeat,
            )

    def read(self, request: RestorationRequest, seed: int) -> Task:
        """Read a request: its picture, its operator and A⁺y; raises ``RequestError``."""
        given = picture_of(request)
        height, width = given.shape[1:]
        grows = request.task in ("super", "colour-super") and not request.damage
        height, width = (side * request.factor if grows else side for side in (height, width))
        self.prior_for(height, width)  # raises where it is too small
        operator = operator_of(request, height, width)
        noise = 2 * request.noise_level
        if request.damage:
            y = operator.whole(given[None]) if isinstance(operator, Blur) else operator.measure(given[None])
            if noise:
                drawn = torch.Generator().manual_seed(seed)
                y = y + noise * torch.randn(y.shape, generator=drawn)
                y = operator.measure(y) if isinstance(operator, Mask) else y
        else:
            y = given[None]
            if request.task in ("colour", "colour-super"):
                apart = float((given - given.mean(0)).abs().max()) / 2
                if apart > GREY_WITHIN:
                    raise RequestError(
                        f"the picture has colour (channels are {apart:.2f} apart): task={request.task} takes a grey "
                        "one; set damage to make it grey first",
                        code="value",
                        path="picture",
                        value=apart,
                    )
                y = given.mean(0, keepdim=True)[None]
            if isinstance(operator, Mask):
                y = operator.measure(y)
        known = operator.known[0] if isinstance(operator, Mask) and not noise else None
        return Task(request, operator, operator.back(y)[0].float(), known)

    def picture(self, task: Task, clean: Float[Tensor, "3 h w"]) -> Restored:
        """Return what comes out of one task; known pixels are the given ones to the bit."""
        pixels, before = (clean.float().cpu() + 1) / 2, (task.back.cpu() + 1) / 2
        if task.known is not None:
            pixels = torch.where(task.known, before, pixels)
            before = torch.where(task.known, before, 0.5)
        return Restored(pixels.numpy(), before.clamp(0, 1).numpy())

    # ---- what is tried -------------------------------------------------------------------------

    def preview_requests(self) -> list[RestorationRequest]:
        """Half of a picture, one of every other pixel, a small and a grey one."""
        size = self.facts.size
        pixels = [trial_picture(number, size, size).round(3).tolist() for number in range(3)]
        half = [[int(column < size // 2) for column in range(size)] for _ in range(size)]
        chequered = [[(row + column) % 2 for column in range(size)] for row in range(size)]
        return [
            self.Request(pixels=pixels[0], mask=half, num_steps=20),
            self.Request(pixels=pixels[1], mask=chequered, num_steps=20, seed=1),
            self.Request(pixels=pixels[2], task="super", damage=True, num_steps=20, seed=2),
            self.Request(pixels=pixels[0], task="colour", damage=True, num_steps=20, seed=3),
        ]

    def check_requests(self) -> list[RestorationRequest]:
        """The previews; every task, noisy and not, parallel, travelling, and a picture larger than the prior's."""
        first, size = self.preview_requests()[0], self.facts.size
        wide = trial_picture(5, size, size + size // 2).round(3).tolist()
        common: dict[str, Any] = {"pixels": first.pixels, "num_steps": 4, "damage": True}
        tasks = ("super", "colour", "colour-super", "deblur", "compressed")
        return [
            *self.preview_requests(),
            *(self.Request(task=task, **common) for task in tasks),
            *(self.Request(task=task, noise_level=0.05, **common) for task in tasks),
            self.Request(task="colour", method="parallel", solver="anderson", window=4, **{**common, "num_steps": 12}),
            self.Request(task="super", travel_length=2, travel_repeat=2, **common),
            self.Request(task="colour", start_steps=1, eta=0, **common),
            self.Request(pixels=wide, task="colour", damage=True, num_steps=4, overlap=size // 2),
        ]

    def given_parts(self, request: RestorationRequest, made: Restored) -> list[tuple[Any, Any]]:
        """Known pixels stand in the output."""
        if request.task != "inpaint" or request.noise_level:
            return []
        given = ((picture_of(request) + 1) / 2).numpy()
        known = mask_of(request.mask, *given.shape[1:]).expand(3, -1, -1).numpy()
        return [(given[known], made.pixels[known])]


def operator_of(request: RestorationRequest, height: int, width: int) -> Spectral:
    """Return the operator that a request names, for restored pictures of a size."""
    grey = Grey(LUMA if request.grey == "luma" else (1 / 3, 1 / 3, 1 / 3))
    match request.task:
        case "inpaint":
            return Mask(mask_of(request.mask, height, width)[None])
        case "super":
            return MeanPool(request.factor, height, width)
        case "colour":
            return grey
        case "colour-super":
            return Both(grey, MeanPool(request.factor, height, width))
        case "deblur":
            return Blur(gaussian_kernel(request.blur), height, width)
        case _:
            return WalshHadamard(request.ratio, height, width)
