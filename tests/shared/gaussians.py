"""Gaussians: exact priors over small pictures, dense operators, and what a chain makes of them in closed form."""

import torch
from torch import Tensor
from unisono.diffusion import NoiseLevels, linear_table, table_levels
from unisono.testing.oracles import Gaussian
from unisono_inverse.ddnm.chain import DDNM


class Pictures:
    """A Gaussian over flattened pictures [c, h, w] as a ``Denoiser``."""

    def __init__(self, covariance: Tensor, shape: tuple[int, ...], mean: Tensor | None = None):
        self.shape, self.covariance = shape, covariance
        self.mean = torch.zeros(len(covariance), dtype=torch.float64) if mean is None else mean
        self.oracle = Gaussian(self.mean, covariance)

    def denoiser(self):
        return self

    def noise_levels(self, num_steps: int) -> NoiseLevels:
        return table_levels(linear_table(), num_steps)

    def x0(self, x, alpha, sigma):
        return self.oracle.x0(x.flatten(1), alpha, sigma).reshape(x.shape)


def smooth(shape: tuple[int, int, int], reach: float = 2.0) -> Tensor:
    """A covariance of pictures: near pixels are alike, and channels by 0.8."""
    c, h, w = shape
    place = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in (h, w)), indexing="ij")).flatten(1).T
    spatial = 0.3 * torch.exp(-torch.cdist(place, place) / reach)
    channels = 0.2 * torch.eye(c, dtype=torch.float64) + 0.8
    return torch.kron(channels, spatial)


def dense(function, shape: tuple[int, ...]) -> Tensor:
    """The matrix [outputs, inputs] of a linear function of batches of pictures."""
    size = int(torch.tensor(shape).prod())
    return function(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1).T


def posterior(covariance: Tensor, matrix: Tensor, noise_std: float) -> Tensor:
    """The covariance of x given y = A x + noise."""
    total = matrix @ covariance @ matrix.T
    total = total + noise_std**2 * torch.eye(len(total), dtype=total.dtype)
    gain = covariance @ matrix.T @ torch.linalg.pinv(total, hermitian=True)
    return covariance - gain @ matrix @ covariance


def derived(chain: DDNM, covariance: Tensor, matrix: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a chain's result over its noise, by matrices alone: every step is affine.

    The singular vectors are those of the dense matrix, not the operator's own.
    """
    d = len(covariance)
    eye = torch.eye(d, dtype=torch.float64)
    _, s, vh = torch.linalg.svd(matrix)
    s = torch.cat([torch.where(s > 1e-9, s, 0), torch.zeros(d - len(s), dtype=s.dtype)])
    v = vh.T
    mean = torch.zeros(d, dtype=torch.float64) if mean is None else mean
    back = chain.back.double().flatten(1)[0]
    cov, at = eye, torch.zeros(d, dtype=torch.float64)
    rest = (1 - chain.eta**2) ** 0.5
    for i, (start, to, then) in enumerate(chain.steps):
        assert then == to, i
        a, sg, a2, s2 = chain.alpha[start], chain.sigma[start], chain.alpha[to], chain.sigma[to]
        gain = a * covariance @ torch.linalg.inv(a * a * covariance + sg * sg * eye)
        offset = mean - a * gain @ mean
        share, dz, de = torch.ones(d), torch.full((d,), chain.eta * s2), torch.full((d,), rest * s2)
        share, dz, de = share.double(), dz.double(), de.double()
        for k in range(d):
            if s[k] == 0:
                share[k] = 0
            elif chain.noise_std:
                brought = a2 * chain.noise_std / float(s[k])
                if s2 >= brought:
                    left = (s2**2 - brought**2) ** 0.5
                    dz[k], de[k] = chain.eta * left, rest * left
                else:
                    share[k], dz[k], de[k] = rest * s2 / brought, chain.eta * s2, 0
        keep, put = eye - v @ torch.diag(share) @ v.T, v @ torch.diag(share) @ v.T
        old = v @ torch.diag(de) @ v.T / sg
        step = a2 * keep @ gain + old @ (eye - a * gain)
        at = step @ at + a2 * (keep @ offset + put @ back) - a * old @ offset
        cov = step @ cov @ step.T + v @ torch.diag(dz**2) @ v.T
    return at, cov
