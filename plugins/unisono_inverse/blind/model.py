"""``inverse/blind-dps``: blurred pictures whose blur is not known, by a prior of pictures and one of kernels.

BlindDPS (Chung et al., CVPR 2023, arXiv:2211.10656); the equations, and what differs, are in ``chain.py``. A picture
and its kernel may be moved against each other without any change of what was measured: a kernel is known up to a shift.

Shapes: b pictures, c h w of a picture, k side of a kernel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from unisono import Image
from unisono.batching import Progress, grouped
from unisono.data import derive_seed
from unisono.diffusion import HasDenoiser, NonFiniteError, Report, Serial, Tolerance, solve
from unisono.errors import RecipeError, RequestError, UnisonoError, raised_as
from unisono.model import OnStep

from unisono_inverse.blind.chain import BlindDPS, blurred
from unisono_inverse.blind.kernels import kernel_of, made_kernel
from unisono_inverse.data import trial_picture
from unisono_inverse.on_prior import OnPrior
from unisono_inverse.pictures import picture_of
from unisono_inverse.request import PictureRequest
from unisono_inverse.tiled import Tiled

__all__ = ["BlindRestorer", "Deblurred"]


@dataclass(frozen=True, eq=False, repr=False)
class Deblurred(Image):
    """A picture without its blur: ``before`` is the blurred one, ``kernel`` [k, k] the blur that was found."""

    before: np.ndarray
    kernel: np.ndarray

    shown: ClassVar[str] = "image"

    def plot(self) -> Any:
        """Draw the blurred picture, the kernel and the picture without it."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 4.4))
        smooth = "nearest" if max(self.width, self.height) <= 128 else "antialiased"
        before, kernel, after = figure.subplots(1, 3)
        before.imshow(Image(self.before).bytes, interpolation=smooth)
        kernel.imshow(self.kernel, cmap="gray")
        after.imshow(self.bytes, interpolation=smooth)
        for axes, name in ((before, "before"), (kernel, "kernel"), (after, "restored")):
            axes.set_title(name)
            axes.set_axis_off()
        return figure


class BlindRequest(PictureRequest):
    """What can be asked of a restorer that does not know the blur."""

    damage: bool = Field(
        default=False,
        description="the picture is whole: blur it first, by a kernel of the seed, to see what comes back",
    )
    noise_level: float = Field(
        default=0.0, ge=0, le=1, description="with damage: standard deviation of noise, of values in [0, 1]"
    )
    num_steps: int = Field(default=120, ge=1, le=1000, description="noise levels of the chain (published: 1000)")
    step_size: float = Field(
        default=0.05, ge=0, le=100, description="step of the picture against the residual, times the root of its size"
    )
    kernel_step_size: float = Field(default=3.0, ge=0, le=100, description="step of the kernel, likewise")
    sparsity: float = Field(default=0.0, ge=0, le=10, description="weight of the kernel's absolute values")
    overlap: int | None = Field(
        default=None,
        ge=0,
        le=4095,
        description="pixels that windows share where the picture is larger than the prior's; default: half of a window",
    )


class BlindRestorer(OnPrior):
    """Restores pictures by two components, the priors of pictures and of kernels; it has no weights of its own.

    Attributes:
        evaluations: of both priors so far, per picture.
        rounds: batched evaluations so far.
        reports: of the last call, one for each group.
    """

    Media: ClassVar[type[Deblurred]] = Deblurred
    Request: ClassVar[type[BlindRequest]] = BlindRequest
    salt: ClassVar[str] = "blind"
    roles: ClassVar[dict[str, str]] = {
        "prior": "a diffusion model of pictures",
        "kernels": "a diffusion model of blur kernels, such as inverse/kernels",
    }
    component_kinds: ClassVar[dict[str, Any]] = {**OnPrior.component_kinds, "kernels": HasDenoiser}
    builtin_components: ClassVar[dict[str, str]] = {
        **OnPrior.builtin_components,
        "few-kernels": "unisono_inverse.blind.kernels:few_kernels",
    }

    def attach(self, role: str, component: Any) -> None:
        """Take a component; raises ``RecipeError`` for a prior of another size, or kernels that are none."""
        self.check_component(role, component)
        if role == "kernels":
            shape = tuple(component.denoiser().shape)
            if len(shape) != 3 or shape[0] != 1 or shape[1] != shape[2] or shape[1] % 2 == 0:
                raise RecipeError(
                    f"the prior of kernels knows items of {list(shape)}: give one of [1, k, k] with an odd k",
                    code="conflict",
                    path="components.kernels",
                    value=list(shape),
                )
            if shape[1] // 2 >= self.facts.size:
                raise RecipeError(
                    f"kernels of {shape[1]} pixels are too large for pictures of {self.facts.size}",
                    code="conflict",
                    path="components.kernels",
                    value=shape[1],
                )
        super().attach(role, component)

    def synthesize(
        self,
        requests: Sequence[BlindRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Deblurred]:
        """Return each picture without its blur."""
        made: dict[int, Deblurred] = {}
        reports: list[Report] = []
        self.component("prior")
        self.component("kernels")
        with torch.inference_mode(False), torch.no_grad():
            seeds = [self.seed_of(request, generator) for request in requests]
            given = [self.read(request, seed) for request, seed in zip(requests, seeds, strict=True)]

            def group(index: int) -> tuple[Any, ...]:
                r = requests[index]
                return *given[index].shape, r.num_steps, r.step_size, r.kernel_step_size, r.sparsity, r.overlap

            groups = grouped(range(len(requests)), group)
            progress = Progress(on_step, sum(request.num_steps for request in requests))
            for members in groups:
                asked = requests[members[0]]
                y = torch.stack([given[i] for i in members]).to(self.device)
                before, share = progress.done, len(members) * asked.num_steps

                def told(event: Any, before: int = before, share: int = share) -> None:
                    progress.to(before + int(event.done * share + 1e-6))

                chain = self.chain(asked, y, [seeds[i] for i in members])
                try:
                    done = solve(chain, chain.start(), Serial(), Tolerance(1.0, per_sample=False), on_round=told)
                except NonFiniteError:
                    raise
                except UnisonoError as error:
                    raise RequestError(str(error), code=error.code, path=error.path, value=error.value) from error
                progress.to(before + share)
                reports.append(done.report)
                self.evaluations += 2 * getattr(chain.prior, "windows", 1) * asked.num_steps
                self.rounds += done.report.rounds
                kernels = kernel_of(done.sample["kernel"][:, 0])
                for index, picture, kernel in zip(members, done.sample["picture"], kernels, strict=True):
                    pixels, old = (((x.float().cpu() + 1) / 2).numpy() for x in (picture, given[index]))
                    made[index] = Deblurred(pixels, old.clip(0, 1), kernel.float().cpu().numpy().copy())
        self.reports = reports
        return [made[index] for index in range(len(requests))]

    def chain(self, request: BlindRequest, y: Float[Tensor, "b 3 h w"], seeds: Sequence[int]) -> BlindDPS:
        """Return the chain of blurred pictures of one size."""
        prior = self.prior_for(y.shape[2], y.shape[3], request.overlap)
        with raised_as(RequestError):  # such as more steps than the prior has levels
            return BlindDPS(
                prior,
                self.component("kernels").denoiser(),
                y,
                seeds=seeds,
                num_steps=request.num_steps,
                step_size=request.step_size,
                kernel_step_size=request.kernel_step_size,
                sparsity=request.sparsity,
            )

    def read(self, request: BlindRequest, seed: int) -> Float[Tensor, "3 h w"]:
        """Return the blurred picture of a request in [−1, 1]; raises ``RequestError``."""
        picture = picture_of(request)
        Tiled(self.component("prior").denoiser(), *picture.shape[1:])  # raises where it is too small
        if not request.damage:
            if request.noise_level:
                raise RequestError(
                    f"noise_level={request.noise_level:g} is added with damage alone: leave it out",
                    code="conflict",
                    path="noise_level",
                    value=request.noise_level,
                )
            return picture
        size = self.component("kernels").denoiser().shape[-1]
        kernel = torch.from_numpy(made_kernel(np.random.default_rng(derive_seed("blur", seed)), size))
        noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(derive_seed("noise", seed)))
        return blurred(picture[None], kernel[None])[0] + 2 * request.noise_level * noise

    def preview_requests(self) -> list[BlindRequest]:
        """Two pictures that are blurred first."""
        size = self.facts.size
        pixels = [trial_picture(number, size, size).round(3).tolist() for number in range(2)]
        return [self.Request(pixels=rows, damage=True, num_steps=20, seed=n) for n, rows in enumerate(pixels)]

    def check_requests(self) -> list[BlindRequest]:
        """The previews, noise, sparsity, and a picture larger than the prior's."""
        first, size = self.preview_requests()[0], self.facts.size
        wide = trial_picture(5, size, size + size // 2).round(3).tolist()
        common: dict[str, Any] = {"pixels": first.pixels, "damage": True, "num_steps": 4}
        return [
            *self.preview_requests(),
            self.Request(noise_level=0.05, **common),
            self.Request(sparsity=0.1, **common),
            self.Request(**{**common, "damage": False}),
            self.Request(**{**common, "pixels": wide}, overlap=size // 2),
        ]


def aligned(kernel: Float[np.ndarray, "k k"], other: Float[np.ndarray, "k k"]) -> tuple[float, tuple[int, int]]:
    """Return the largest correlation of two kernels over shifts of one, and that shift."""
    size = len(kernel)
    a, best = kernel - kernel.mean(), (-math.inf, (0, 0))
    for down in range(-(size // 2), size // 2 + 1):
        for right in range(-(size // 2), size // 2 + 1):
            b = np.roll(other, (down, right), (0, 1))
            b = b - b.mean()
            found = float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
            best = max(best, (found, (down, right)))
    return best
