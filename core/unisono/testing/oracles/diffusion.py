"""Exact networks: Gaussians and mixtures, whose denoiser is known in closed form for every noise level.

For data x0 ~ Σ_k N(μ_k, C)/K and x = α·x0 + σ·ε the posterior mean is, in the basis where C is diagonal (λ),

    E[x0 | x] = Σ_k r_k μ_k + αλ/(α²λ + σ²) · (x − α Σ_k r_k μ_k),   r = softmax_k(−½ Σ (x − αμ_k)²/(α²λ + σ²))

A sampler that is tested with these needs no weights, and shows how a solver behaves where a network's Jacobian is
scalar (`Mixture`), image-like (`ImageMixture`: power-law spectrum, modes between which a trajectory may switch), or
constant (`Gaussian`, for which every common step is affine).

Letters: n rows, k modes, d dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.diffusion.chain.levels import levels_of
from unisono.diffusion.chain.tree import cat, rows
from unisono.diffusion.denoiser import NoiseLevels, linear_table, table_levels
from unisono.errors import UnisonoError


class Oracle:
    """A mixture with one covariance: means [k, d] and variances [d] in a basis, and the way there and back."""

    def __init__(self, shape: tuple[int, ...], means: Tensor, variances: Tensor, basis: Callable, back: Callable):
        self.shape, self.means, self.variances = shape, means, variances
        self._basis, self._back = basis, back

    def x0(self, x: Tensor, alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> Tensor:
        """E[x0 | x] for rows x [n, *shape] at their noise levels."""
        h = self._basis(x).reshape(len(x), 1, -1)
        a, s = alpha.to(x)[:, None, None], sigma.to(x)[:, None, None]
        means, variances = self.means.to(x), self.variances.to(x)
        total = a * a * variances + s * s
        log_weight = -((h - a * means).square() / (2 * total)).sum(-1)
        mean = (log_weight.softmax(-1)[:, :, None] * means).sum(1, keepdim=True)
        return self._back((mean + a * variances / total * (h - a * mean)).reshape(x.shape))

    def noise_levels(self, num_steps: int) -> NoiseLevels:
        """Levels of the linear schedule: an oracle knows all."""
        return table_levels(linear_table(), num_steps)

    def denoiser(self) -> Oracle:
        """Itself: it is a `unisono.diffusion.Denoiser`."""
        return self

    def predict(self, x: Tensor, alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"], prediction: str) -> Tensor:
        """What a perfect network outputs: "x0", "eps", "v" = α·ε − σ·x0, or "flow" = ε − x0.

        Raises:
            UnisonoError: if the prediction is another.
        """
        x0 = self.x0(x, alpha, sigma)
        wide = [level.to(x).reshape(-1, *[1] * (x.ndim - 1)) for level in (alpha, sigma)]
        eps = (x - wide[0] * x0) / wide[1]
        made = {"x0": x0, "eps": eps, "v": wide[0] * eps - wide[1] * x0, "flow": eps - x0}
        if prediction not in made:
            raise UnisonoError(
                f"prediction={prediction!r} is unknown: use {', '.join(made)}",
                code="unknown",
                path="prediction",
                value=prediction,
            )
        return made[prediction]

    def network(self, scheduler: Any) -> Callable[[Tensor, Tensor, Int[Tensor, " n"]], Tensor]:
        """A perfect network for a scheduler with its timesteps set, as `SchedulerRecurrence` calls one."""
        levels, timesteps = levels_of(scheduler), scheduler.timesteps.double()
        alpha, sigma = (torch.tensor(v, dtype=torch.float64) for v in (levels.alpha, levels.sigma))

        def network(x: Tensor, t: Tensor, sample: Int[Tensor, " n"]) -> Tensor:
            at = (t.double()[:, None] - timesteps).abs().argmin(1)
            return self.predict(x, alpha[at], sigma[at], levels.prediction)

        return network

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws of x0 [count, *shape]."""
        mode = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self._back((self.means[mode] + self.variances.sqrt() * noise).reshape(count, *self.shape))


class Gaussian(Oracle):
    """N(mean [d], covariance [d, d]); rows are [n, d]."""

    def __init__(self, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]):
        values, vectors = torch.linalg.eigh(covariance)
        means = (mean @ vectors)[None]
        super().__init__(tuple(mean.shape), means, values, lambda x: x @ vectors.to(x), lambda h: h @ vectors.to(h).T)


class Mixture(Oracle):
    """Modes drawn from N(0, 1) with a variance of std² around each."""

    def __init__(self, shape: tuple[int, ...] = (4, 16, 16), num_modes: int = 16, std: float = 0.25, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        means = torch.randn(num_modes, math.prod(shape), generator=generator, dtype=torch.float64)
        variances = torch.full((math.prod(shape),), std**2, dtype=torch.float64)
        super().__init__(shape, means, variances, lambda x: x, lambda h: h)


class ImageMixture(Oracle):
    """Modes and covariance with a power law over the frequencies of a two-dimensional cosine transform, as images have.

    Pixels have unit variance; `share` is the part of their standard deviation that is between modes.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (4, 16, 16),
        num_modes: int = 8,
        power: float = 2.0,
        share: float = 0.7,
        seed: int = 0,
    ):
        c, h, w = shape
        rows_, columns = _cosines(h), _cosines(w)
        frequency = (torch.arange(h)[:, None] ** 2 + torch.arange(w) ** 2).double().sqrt()
        spectrum = (1 + frequency) ** -power
        spectrum = spectrum / spectrum.mean()
        generator = torch.Generator().manual_seed(seed)
        means = torch.randn(num_modes, c, h, w, generator=generator, dtype=torch.float64) * spectrum.sqrt() * share
        variances = (spectrum * (1 - share**2) + 1e-4).expand(c, h, w).reshape(-1)
        super().__init__(
            shape,
            means.flatten(1),
            variances,
            lambda x: rows_.to(x) @ x @ columns.to(x).T,
            lambda x: rows_.to(x).T @ x @ columns.to(x),
        )


class RowByRow:
    """A network that is called with one row at a time: its answer for a row is the same bits in any batch."""

    def __init__(self, network: Callable[[Any, Tensor, Tensor], Any]):
        self.network = network

    def __call__(self, x: Any, t: Tensor, sample: Int[Tensor, " n"]) -> Any:
        one = [slice(i, i + 1) for i in range(len(t))]
        return cat([self.network(rows(x, i), t[i], sample[i]) for i in one])


def _cosines(n: int) -> Float[Tensor, "n n"]:
    """The orthonormal cosine transform (DCT-II)."""
    k, i = torch.arange(n).double()[:, None], torch.arange(n).double()
    basis = torch.cos(math.pi * (i + 0.5) * k / n) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis
