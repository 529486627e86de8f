"""Variational head: diagonal Gaussians from vectors, draws, and the divergence between two of them.

The parts of a variational autoencoder (Kingma & Welling, arXiv:1312.6114) that do not depend on what is encoded::

    vectors ─ Linear ─ mean, log variance ─┬─ mean + T · deviation · noise ─ latents
                                           └─ divergence from a prior, by coordinate ─ free bits ─ loss

Shapes: *b any leading dimensions, d channels, z latent coordinates. Divergences are in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unisono.peers import add_up, num_peers

LOG_VARIANCES = (-10.0, 6.0)
"""What log variances are kept between: deviations from 0.007 to 20."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent normal distributions, one per coordinate."""

    mean: Float[Tensor, "*b z"]
    log_variance: Float[Tensor, "*b z"]

    @classmethod
    def standard(cls, like: Float[Tensor, "*b z"]) -> Self:
        """Return N(0, 1) of a tensor's shape."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    def draw(self, noise: Float[Tensor, "*b z"], temperature: float | Float[Tensor, "..."] = 1.0) -> Tensor:
        """Return mean + temperature · deviation · noise, through which gradients flow; 0 is the mean."""
        return self.mean + temperature * (self.log_variance / 2).exp() * noise

    def detach(self) -> "Gaussian":
        """Return the same without gradients."""
        return Gaussian(self.mean.detach(), self.log_variance.detach())


class GaussianHead(nn.Module):
    """A linear layer to means and log variances; at first the means are near 0 and the variances are 1."""

    def __init__(self, dim: int, latent_dim: int):
        super().__init__()
        self.out = nn.Linear(dim, 2 * latent_dim)
        with torch.no_grad():
            self.out.weight[latent_dim:] *= 0.1
            self.out.bias[latent_dim:] = 0

    def forward(self, x: Float[Tensor, "*b d"]) -> Gaussian:
        """Always in float32: a variance is an exponential."""
        mean, log_variance = self.out(x).float().chunk(2, -1)
        return Gaussian(mean, log_variance.clamp(*LOG_VARIANCES))


def kl_divergence(posterior: Gaussian, prior: Gaussian | None = None) -> Float[Tensor, "*b z"]:
    """Return KL(posterior ‖ prior) of each coordinate in closed form; without a prior, from N(0, 1).

    ½ (log σp² − log σq² + (σq² + (μq − μp)²) / σp² − 1)
    """
    if prior is None:
        prior = Gaussian.standard(posterior.mean)
    spread = (posterior.log_variance - prior.log_variance).exp()
    distance = (posterior.mean - prior.mean).square() * (-prior.log_variance).exp()
    return 0.5 * (prior.log_variance - posterior.log_variance + spread + distance - 1)


def mean_divergence(
    divergence: Float[Tensor, "*b z"], mask: Bool[Tensor, "*b"], free_nats: float = 0.0
) -> Float[Tensor, ""]:
    """Return the divergence of the mean latent: of each coordinate the mean over all that are kept, then their sum.

    The mean is over the batches of all processes. A coordinate whose mean is below ``free_nats`` counts as just that
    many and gets no gradient, so that some are used before they are paid for (Kingma et al., arXiv:1606.04934, eq. 15).
    """
    kept = mask[..., None]
    count = add_up(mask.sum(dtype=torch.float64)).clamp(min=1)
    sums = (divergence * kept).flatten(0, -2).sum(0)
    # Each process has its share; the average that training takes over processes makes the mean of it.
    shares = sums * (num_peers() / count).to(sums)
    if not free_nats:
        return shares.sum()
    everyone = add_up(sums.detach().double()) / count
    return torch.where(everyone > free_nats, shares, free_nats).sum()


def gaussian_noise(
    seeds: Sequence[int], shapes: Sequence[Sequence[int]], like: Float[Tensor, "b *s"]
) -> Float[Tensor, "b *s"]:
    """Return standard normal noise in the shape of ``like``: of each item its own shape, from its own seed, else 0.

    What an item gets does not depend on the padding or on who else is in the batch.
    """
    noise = torch.zeros(like.shape)
    for row, (seed, shape) in enumerate(zip(seeds, shapes, strict=True)):
        drawn = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
        noise[row][tuple(slice(size) for size in shape)] = drawn
    return noise.to(like)


def log_ratio(posterior: Gaussian, latents: Float[Tensor, "*b z"]) -> Float[Tensor, "*b z"]:
    """Return log N(0, 1) − log posterior of each coordinate of latents: what a draw's weight has of them."""
    spread = (latents - posterior.mean).square() * (-posterior.log_variance).exp()
    return 0.5 * (spread + posterior.log_variance - latents.square())


def importance_bound(log_weights: Float[Tensor, "k *b"]) -> Float[Tensor, "*b"]:
    """Return log (1/k Σ w), a bound on log p(x) that grows with k (Burda et al., arXiv:1509.00519).

    ``log_weights`` are log p(x | z) + log p(z) − log q(z | x) of k draws from q; of one draw it is the usual bound.
    """
    return log_weights.logsumexp(0) - torch.tensor(len(log_weights)).to(log_weights).log()
