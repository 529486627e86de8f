"""Denoiser: a diffusion model as E[x0 | x] at any noise level, which is all that solvers of inverse problems ask of it.

    x = α·x0 + σ·ε   →   x0(x, α, σ) = E[x0 | x]

A network knows one family of levels (`unisono.diffusion.training.objectives`). `NetworkDenoiser` takes a state of any α
and σ to the level of that family that has the same ratio σ/α, which is the same question in other numbers:

    flow       x/(α + σ) at t = σ/(α + σ)
    discrete   x/√(α² + σ²) at the step of the table with that ratio; between two steps, in the logarithm of the ratio
    EDM        x/α at σ/α

A model that can serve as a prior has `denoiser()`; a pipeline of diffusers is one by `of_pipeline`, unmodified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unisono.diffusion.chain.purity import check_pure
from unisono.diffusion.limits import whole
from unisono.diffusion.training.objectives import EDM, Discrete, Flow, Objective
from unisono.errors import UnisonoError

NoiseLevels = tuple[tuple[float, ...], tuple[float, ...]]
"""α and σ of each step, from the most noise to the least, with α² + σ² = 1; a clean end follows the last one."""


class Denoiser(Protocol):
    """The posterior mean of clean items at any noise level; no row depends on another."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the items that it knows, such as [c, h, w]."""
        ...

    def x0(self, x: Tensor, alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> Tensor:
        """E[x0 | x = α·x0 + σ·ε] for rows x [n, *shape], differentiable in x."""
        ...

    def noise_levels(self, num_steps: int) -> NoiseLevels:
        """The levels at which a chain of so many steps asks it."""
        ...


@runtime_checkable
class HasDenoiser(Protocol):
    """A model that can be a prior: its denoiser, of items without any condition, in [−1, 1] where they are pictures."""

    def denoiser(self) -> Denoiser: ...


class NetworkDenoiser:
    """A network that was trained for an objective.

    `network(x [n, …], time [n])` answers as the objective defines it.

    Raises:
        UnisonoError: if the network drops out or normalises over the batch.
    """

    def __init__(self, objective: Objective, network: Callable[[Tensor, Tensor], Tensor], shape: Sequence[int]):
        check_pure(network)
        self.objective, self.network, self.shape = objective, network, tuple(shape)

    def x0(self, x: Tensor, alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> Tensor:
        """E[x0 | x], by one evaluation of the network."""
        a, s = alpha.double(), sigma.double()
        match self.objective:
            case Flow():
                total = a + s
                level = s / total
                seen = x / _like(total, x)
                return self.objective.x0(seen, self.network(seen, (1000 * level).to(x.dtype)), level)
            case EDM():
                level = s / a
                _, _, scale, time = self.objective.scales(level)
                seen = x * _like(scale / a, x)
                return self.objective.x0(seen, self.network(seen, time.to(x.dtype)), level)
            case Discrete():
                norm = (a.square() + s.square()).sqrt()
                seen, a, s = x / _like(norm, x), a / norm, s / norm
                output = self.network(seen, table_steps(self.objective.table, a, s).to(x.dtype))
                match self.objective.prediction:
                    case "x0":
                        return output
                    case "eps":
                        return (seen - _like(s, x) * output) / _like(a, x)
                    case _:
                        return _like(a, x) * seen - _like(s, x) * output
            case other:
                raise UnisonoError(
                    f"no noise level is known for {type(other).__name__}: use Flow, Discrete or EDM",
                    code="unsupported",
                    path="objective",
                    value=type(other).__name__,
                )

    def noise_levels(self, num_steps: int) -> NoiseLevels:
        """Levels of the objective's own sampler: even times of a flow, trailing steps of a table, Karras et al.'s."""
        num_steps = whole("num_steps", num_steps)
        match self.objective:
            case Flow(shift=shift):
                t = 1 - torch.arange(num_steps, dtype=torch.float64) / num_steps
                t = shift * t / (1 + (shift - 1) * t)
                return _preserving((1 - t), t)
            case EDM():
                ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
                most, least = 80 ** (1 / 7), 0.002 ** (1 / 7)
                sigma = (most + ramp * (least - most)) ** 7
                return _preserving(torch.ones_like(sigma), sigma)
            case _:
                return table_levels(getattr(self.objective, "table", linear_table()), num_steps)


def of_pipeline(pipeline: Any) -> NetworkDenoiser:
    """The denoiser of an unmodified pipeline of diffusers with an unconditional `unet` (DDPM, DDIM, score models with a
    table); its network stays where it is and is put into `eval()`.

    Raises:
        UnisonoError: if it has no unet, or that needs a condition; if its scheduler has no table of noise levels, or
            does not say what the network predicts.
    """
    unet, scheduler = getattr(pipeline, "unet", None), getattr(pipeline, "scheduler", None)
    name = type(pipeline).__name__
    if unet is None or scheduler is None or not hasattr(unet.config, "in_channels"):
        raise UnisonoError(
            f"a {name} is no pipeline with a unet and a scheduler: give one such as DDPMPipeline",
            code="type",
            path="pipeline",
            value=name,
        )
    size = unet.config.get("sample_size")
    conditional = "cross_attention_dim" in unet.config or unet.config.get("num_class_embeds")
    if size is None or conditional:
        raise UnisonoError(
            f"{name}'s unet {'needs a condition' if conditional else 'does not say its sample_size'}: a prior is the "
            "UNet2DModel of an unconditional pipeline",
            code="unsupported",
            path="unet",
            value=type(unet).__name__,
        )
    named = scheduler.config.get("prediction_type", "epsilon")
    predictions: dict[str, Any] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
    if named not in predictions:
        raise UnisonoError(
            f"prediction_type={named!r} of {type(scheduler).__name__} is not known: use {', '.join(predictions)}",
            code="unsupported",
            path="scheduler.prediction_type",
            value=named,
        )
    channels = int(unet.config.in_channels)
    unet.eval()

    def network(x: Tensor, time: Tensor) -> Tensor:
        weight = next(unet.parameters())
        answer = unet(x.to(weight), time.to(weight), return_dict=False)[0]
        return answer[:, :channels].to(x)  # variances that some networks predict come behind

    side = (size, size) if isinstance(size, int) else tuple(size)
    return NetworkDenoiser(Discrete(scheduler, predictions[named]), network, (channels, *side))


def linear_table(num_steps: int = 1000) -> Float[Tensor, " t"]:
    """ᾱ of Ho et al.'s linear schedule (arXiv:2006.11239), for priors that have no levels of their own."""
    return (1 - torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)).cumprod(0)


def table_levels(table: Float[Tensor, " t"], num_steps: int) -> NoiseLevels:
    """`num_steps` levels of a table of ᾱ, evenly from its last one on.

    Raises:
        UnisonoError: if the table has fewer.
    """
    num_steps, n = whole("num_steps", num_steps), len(table)
    if num_steps > n:
        raise UnisonoError(
            f"num_steps={num_steps} are more than the prior's {n} noise levels: give at most {n}",
            code="range",
            path="num_steps",
            value=num_steps,
        )
    at = torch.tensor([round(n - i * n / num_steps) - 1 for i in range(num_steps)])
    square = table.double().cpu()[at]
    return _preserving(square.sqrt(), (1 - square).sqrt())


def table_steps(table: Float[Tensor, " t"], alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> Tensor:
    """The steps of a table of ᾱ that have the ratios α/σ, as real numbers; beyond its ends, the ends."""
    known = table.double().log() - (1 - table.double()).clamp_min(1e-300).log()
    asked = 2 * (alpha.double().log() - sigma.double().clamp_min(1e-150).log())
    steps = np.interp(-asked.detach().cpu().numpy(), -known.cpu().numpy(), np.arange(len(known)))
    return torch.from_numpy(np.atleast_1d(steps)).to(alpha.device)


def _preserving(alpha: Tensor, sigma: Tensor) -> NoiseLevels:
    norm = (alpha.square() + sigma.square()).sqrt()
    return tuple((alpha / norm).tolist()), tuple((sigma / norm).tolist())


def _like(level: Tensor, x: Tensor) -> Tensor:
    return level.to(x).reshape(-1, *[1] * (x.ndim - 1))
