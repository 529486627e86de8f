"""Chain: DDNM and DDNM+ as a recurrence (Wang et al., ICLR 2023, arXiv:2212.00490), for serial and parallel solvers.

From level (α, σ) to (α', σ'), with x0 the prior's estimate at x and ε = (x − α·x0)/σ:

    x0^ = x0 − A⁺(A x0 − y)
    x'  = α'·x0^ + σ'·(η·z + √(1 − η²)·ε)

With noise of standard deviation σ_y in y (DDNM+), per singular value s of A, in its basis V (`operators`):

    x'  = α'·(x0 − λ·A⁺(A x0 − y)) + d_z·z + d_ε·ε
    σ' ≥ α'σ_y/s   λ = 1                            d² = σ'² − (α'σ_y/s)²   d_z = η·d    d_ε = √(1 − η²)·d
    σ' < α'σ_y/s   λ = √(1 − η²)·s·σ'/(α'σ_y)                                d_z = η·σ'   d_ε = 0
    s = 0          no correction                                             d_z = η·σ'   d_ε = √(1 − η²)·σ'

so that the noise that A⁺y brings and the noise that is added have the variance σ'² together. The last step has σ' = 0:
without noise its result is consistent with y exactly; with noise it is the prior's estimate, uncorrected.

Time travel (Lugmayr et al., arXiv:2201.09865): each block of `length` steps is walked `repeat` times; before a further
walk the state is noised back to the block's level. A walk back is part of the step before it, so that every step of
this chain evaluates the prior once. Noise is a function of (seed, step), so that any solver may replay any step.

DeqIR (Cao et al., CVPR 2024, arXiv:2311.11600) finds all states of this chain at once, as one fixed point: here that is
`unisono.diffusion.solve` with `Picard` or `Anderson`, and its gradients those of `unisono.diffusion.differentiable`.
It differs from the paper in that the fixed point is found in a sliding window with one criterion for each picture.

Shapes: b pictures, n rows, k samples of a lane, c h w of a picture in [−1, 1].
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
from unisono.errors import RequestError

from unisono_inverse.operators import ByFunctions, Operator, Spectral

__all__ = ["DDNM", "walk"]


class DDNM:
    """The chain of pictures that were measured by one operator.

    `back` is A⁺y of each; `noise_std` σ_y, in the units of pictures in [−1, 1]; `seeds` one for each picture.
    `correct_last` False leaves the last step's estimate as the prior gives it.

    Raises:
        RequestError: if y has noise and the operator's singular values are not known.
    """

    def __init__(
        self,
        prior: Denoiser,
        operator: Operator,
        back: Float[Tensor, "b c h w"],
        *,
        seeds: Sequence[int],
        num_steps: int = 100,
        eta: float = 0.85,
        noise_std: float = 0.0,
        length: int = 1,
        repeat: int = 1,
        correct_last: bool = True,
    ):
        if noise_std and not isinstance(operator, Spectral) and getattr(operator, "one_value", None) is None:
            raise RequestError(
                f"noise_level={noise_std / 2:g} needs the singular values of the measurement, which "
                f"{type(operator).__name__} does not have: give singular= where all are one number, or noise_level=0",
                code="unsupported",
                path="noise_level",
                value=noise_std / 2,
            )
        self.prior, self.operator, self.back = prior, operator, back
        self.num_levels, self.travel = num_steps, (length, repeat)
        self.seeds, self.eta, self.noise_std, self.correct_last = list(seeds), eta, noise_std, correct_last
        alpha, sigma = prior.noise_levels(num_steps)
        self.alpha, self.sigma = (*alpha, 1.0), (*sigma, 0.0)
        self.steps = walk(num_steps, length, repeat)
        self.num_steps = len(self.steps)
        begins = [at for at, _, _ in self.steps]
        self.levels = Levels(tuple(alpha[i] for i in begins), tuple(sigma[i] for i in begins), "x0")
        self._sample = torch.zeros(0, dtype=torch.long)

    @classmethod
    def of(cls, chain: "DDNM", index: Int[Tensor, " n"], *, correct_last: bool = True) -> "DDNM":
        """Return the chain of some of a chain's pictures."""
        length, repeat = chain.travel
        return cls(
            chain.prior,
            chain.operator.rows(index),
            chain.back[index],
            seeds=[chain.seeds[i] for i in index.tolist()],
            num_steps=chain.num_levels,
            eta=chain.eta,
            noise_std=chain.noise_std,
            length=length,
            repeat=repeat,
            correct_last=correct_last,
        )

    def start(self) -> Float[Tensor, "b c h w"]:
        """The noise that the pictures' chains begin with."""
        return self.noise(torch.arange(len(self.back)), 0, "start")

    def noise(self, sample: Int[Tensor, " k"], i: int, purpose: str) -> Float[Tensor, "k c h w"]:
        """The noise of some pictures at a step."""
        drawn = [
            torch.randn(
                self.back.shape[1:], generator=torch.Generator().manual_seed(derive_seed(self.seeds[s], purpose, i))
            )
            for s in sample.tolist()
        ]
        return torch.stack(drawn).to(self.back)

    # ---- the recurrence ------------------------------------------------------------------------

    def evaluate(self, x: Tensor, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Tensor:
        """The prior's estimate of the clean picture at each row's level."""
        alpha, sigma = (torch.tensor(v, dtype=torch.float64) for v in (self.levels.alpha, self.levels.sigma))
        at = step.cpu()
        return self.prior.x0(x, alpha[at].to(x.device), sigma[at].to(x.device))

    def begin(self, sample: Int[Tensor, " k"]) -> Any:
        """Which pictures a lane is of is all that it carries."""
        return sample

    def snapshot(self) -> Any:
        return self._sample

    def restore(self, carry: Any) -> None:
        self._sample = carry

    def hold(
        self, output: Tensor, i: int, x_old: Tensor, x_new: Tensor, quantity: Quantity = "v", j: int | None = None
    ) -> Tensor:
        """The estimate at another state, with a quantity held."""
        return self.levels.hold(output, i, x_old, x_new - x_old, quantity, i if j is None else j)

    def history(self) -> tuple[str, ...]:
        """Nothing: a step depends on its state alone."""
        return ()

    def advance(self, output: Tensor, i: int, x: Tensor) -> Tensor:
        """One step down, and back up where the walk goes back."""
        at, to, then = self.steps[i]
        a, s, lower = self.alpha[at], self.sigma[at], self.sigma[to]
        eps = (x - a * output) / s
        sample = self._sample
        if to == len(self.alpha) - 1 and then == to and not self.correct_last:
            return output
        operator, back = self.operator.rows(sample), self.back[sample]
        z = self.noise(sample, i, "down") if lower and self.eta else torch.zeros_like(x)
        if self.noise_std:
            x = self._noisy(operator, output, back, eps, z, self.alpha[to], lower)
        else:
            clean = operator.settle(output, back)
            x = self.alpha[to] * clean + lower * (self.eta * z + math.sqrt(1 - self.eta**2) * eps)
        if then != to:
            ratio = self.alpha[then] / self.alpha[to]
            x = ratio * x + math.sqrt(self.sigma[then] ** 2 - (ratio * lower) ** 2) * self.noise(sample, i, "up")
        return x

    def _noisy(
        self, operator: Operator, x0: Tensor, back: Tensor, eps: Tensor, z: Tensor, alpha: float, sigma: float
    ) -> Tensor:
        """The state after a step of DDNM+."""
        if isinstance(operator, Spectral):
            mix, d_z, d_eps = self.scales(operator.singular.to(x0), alpha, sigma)
            parts = (operator.analyse(part) for part in (x0, back, eps, z))
            x0, back, eps, z = parts
            return operator.synthesise(alpha * (x0 - mix * (x0 - back)) + d_z * z + d_eps * eps)
        assert isinstance(operator, ByFunctions) and operator.one_value is not None
        seen = self.scales(torch.tensor([operator.one_value]), alpha, sigma)
        unseen = self.scales(torch.zeros(1), alpha, sigma)
        of = [operator.project(part) for part in (x0, eps, z)]
        (mix, d_z, d_eps), (_, free_z, free_eps) = ([float(v) for v in scale] for scale in (seen, unseen))
        x = alpha * (x0 - mix * (of[0] - back)) + free_z * z + free_eps * eps
        return x + (d_z - free_z) * of[2] + (d_eps - free_eps) * of[1]

    def scales(self, singular: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        """λ, d_z and d_ε of each singular value; λ is 0 where that is 0."""
        brought = torch.where(singular > 0, alpha * self.noise_std / singular.clamp_min(1e-12), 0)
        rest = math.sqrt(1 - self.eta**2)
        above = sigma >= brought
        left = (sigma**2 - brought.square()).clamp_min(0).sqrt()
        mix = torch.where(above, 1.0, rest * sigma / brought.clamp_min(1e-12)) * (singular > 0)
        return mix, self.eta * torch.where(above, left, sigma), rest * torch.where(above, left, 0)


def walk(num_steps: int, length: int = 1, repeat: int = 1) -> list[tuple[int, int, int]]:
    """Return the steps of a chain with time travel: from level, to level, and the level that the next one begins at.

    Levels are counted from 0, the most noise, to ``num_steps``, none.
    """
    steps = []
    for first in range(0, num_steps, length):
        last = min(first + length, num_steps)
        for turn in range(repeat):
            for at in range(first, last):
                back = at + 1 == last and turn + 1 < repeat
                steps.append((at, at + 1, first if back else at + 1))
    return steps
