"""Chain: BlindDPS (Chung et al., CVPR 2023, arXiv:2211.10656): picture and kernel denoised side by side.

At each level, with x0 and k0 the two priors' estimates at the states x and k, and k^ the kernel that k0 stands for,

    r = ‖y − k^ ∗ x0‖   over one picture
    x' = ancestral step of x − ρ_x ∂r/∂x      k' = ancestral step of k − ρ_k ∂(r + λ‖k0‖₁)/∂k

with gradients through both networks. Both normalisations are a row's own: the kernel is divided by its own sum, and r
is one picture's norm, so that a picture is restored the same alone and in a batch (the published code sums over the
batch). A step ρ is a number times √d of the d values of a picture, or of a kernel, so that it means the same for every
size: what a residual of d values is moved by grows as its norm does. The published steps are constants, tuned for
1,000 levels and 256 × 256 pixels. ‖k0‖₀, the published default, has no gradient; λ weighs ‖(k0 + 1)/2‖₁.

The state is a tree of both, so that `unisono.diffusion.solve` runs it, serial or parallel.

Shapes: b pictures, n rows, c h w of a picture, k side of a kernel.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.data import derive_seed
from unisono.diffusion import Denoiser, Levels
from unisono.diffusion.chain.recurrence import Quantity

from unisono_inverse.blind.kernels import kernel_of

__all__ = ["BlindDPS", "blurred"]


def blurred(
    x: Float[Tensor, "n c h w"], kernel: Float[Tensor, "n k k"], border: str = "reflect"
) -> Float[Tensor, "n c h w"]:
    """Convolve each picture with its own kernel; borders are mirrored, the edge pixel not repeated."""
    reach, (n, c) = kernel.shape[-1] // 2, x.shape[:2]
    padded = torch.nn.functional.pad(x, (reach,) * 4, mode=border)
    weight = kernel.flip(-2, -1).repeat_interleave(c, 0)[:, None]
    made = torch.nn.functional.conv2d(padded.reshape(1, n * c, *padded.shape[2:]), weight, groups=n * c)
    return made.reshape(n, c, *made.shape[2:])


class BlindDPS:
    """The chains of blurred pictures ``y``, each with its kernel."""

    def __init__(
        self,
        prior: Denoiser,
        kernels: Denoiser,
        y: Float[Tensor, "b c h w"],
        *,
        seeds: Sequence[int],
        num_steps: int = 120,
        step_size: float = 0.3,
        kernel_step_size: float = 3.0,
        sparsity: float = 0.0,
    ):
        self.prior, self.kernels, self.y, self.seeds = prior, kernels, y, list(seeds)
        sizes = y[0].numel(), math.prod(kernels.shape)
        self.rates = tuple(size * math.sqrt(n) for size, n in zip((step_size, kernel_step_size), sizes, strict=True))
        self.sparsity = sparsity
        alpha, sigma = prior.noise_levels(num_steps)
        self.alpha, self.sigma = (*alpha, 1.0), (*sigma, 0.0)
        self.num_steps = num_steps
        self.levels = Levels(alpha, sigma, "x0")
        self._sample = torch.zeros(0, dtype=torch.long)

    def start(self) -> dict[str, Tensor]:
        """Noise for both."""
        return self._noise(torch.arange(len(self.y)), "start", 0)

    def _noise(self, sample: Int[Tensor, " k"], purpose: str, i: int) -> dict[str, Tensor]:
        shapes = {"picture": self.y.shape[1:], "kernel": self.kernels.shape}
        drawn = {name: [] for name in shapes}
        for s in sample.tolist():
            for name, shape in shapes.items():
                generator = torch.Generator().manual_seed(derive_seed(self.seeds[s], purpose, name, i))
                drawn[name].append(torch.randn(tuple(shape), generator=generator))
        return {name: torch.stack(some).to(self.y) for name, some in drawn.items()}

    def evaluate(self, x: dict[str, Tensor], step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> dict[str, Tensor]:
        """Both estimates, and the gradients of each row's own residual."""
        at = step.cpu()
        a = torch.tensor(self.alpha, dtype=torch.float64)[at].to(self.y.device)
        s = torch.tensor(self.sigma, dtype=torch.float64)[at].to(self.y.device)
        with torch.enable_grad():
            picture, kernel = (x[name].detach().requires_grad_() for name in ("picture", "kernel"))
            x0, k0 = self.prior.x0(picture, a, s), self.kernels.x0(kernel, a, s)
            residual = self.y[sample] - blurred(x0, kernel_of(k0[:, 0]))
            # A norm per row, and then their sum: no row's gradient depends on another.
            total = residual.flatten(1).norm(dim=1) + self.sparsity * ((k0 + 1) / 2).abs().flatten(1).sum(1)
            of_picture, of_kernel = torch.autograd.grad(total.sum(), (picture, kernel))
        return {"x0": x0.detach(), "k0": k0.detach(), "of_picture": of_picture, "of_kernel": of_kernel}

    def begin(self, sample: Int[Tensor, " k"]) -> Any:
        return sample

    def snapshot(self) -> Any:
        return self._sample

    def restore(self, carry: Any) -> None:
        self._sample = carry

    def history(self) -> tuple[str, ...]:
        return ()

    def hold(self, output: Any, i: int, x_old: Any, x_new: Any, quantity: Quantity = "v", j: int | None = None) -> Any:
        """Both estimates re-expressed at other states; the gradients stay."""
        j = i if j is None else j
        held = dict(output)
        for name, estimate in (("picture", "x0"), ("kernel", "k0")):
            shift = x_new[name] - x_old[name]
            held[estimate] = self.levels.hold(output[estimate], i, x_old[name], shift, quantity, j)
        return held

    def advance(self, output: dict[str, Tensor], i: int, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """An ancestral step of both, and a step against their gradients."""
        a, s, a2, s2 = self.alpha[i], self.sigma[i], self.alpha[i + 1], self.sigma[i + 1]
        fresh = math.sqrt(max((s2 / s) ** 2 * (1 - (a / a2) ** 2), 0.0))
        z = self._noise(self._sample, "down", i)
        after = {}
        for name, estimate, gradient, rate in (
            ("picture", "x0", "of_picture", self.rates[0]),
            ("kernel", "k0", "of_kernel", self.rates[1]),
        ):
            clean = output[estimate]
            eps = (x[name] - a * clean) / s
            moved = a2 * clean + math.sqrt(max(s2**2 - fresh**2, 0.0)) * eps + fresh * z[name]
            after[name] = moved - rate * a2 * output[gradient]
        return after
