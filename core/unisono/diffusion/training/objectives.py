"""Objectives: what is drawn for an item, what the network sees, what it should answer, and the loss weight.

::

    x0, ε, level ─ corrupt ─┬─ x, time     the network's input
                            └─ target, weight     loss = weight · mean (output − target)²

Three families, each with the samplers of diffusers that go with it:

`Flow`      x = (1 − t)·x0 + t·ε, the network answers ε − x0 (rectified flow, Liu et al., arXiv:2209.03003); times are
            logit-normal (Esser et al., arXiv:2403.03206, §3.1) and can be shifted to more noise (ibid., eq. 23).
`Discrete`  x = α_t·x0 + σ_t·ε with a noise schedule from a diffusers scheduler's own table (Ho et al.,
            arXiv:2006.11239); the network answers ε, x0 or v = α·ε − σ·x0 (Salimans and Ho, arXiv:2202.00512), weighted
            by min-SNR-γ (Hang et al., arXiv:2303.09556).
`EDM`       x0 + σ·ε with log-normal σ, and a network that is preconditioned to unit variance on both sides (Karras et
            al., arXiv:2206.00364, Table 1); the target is what the inner network should answer.

Nothing here reads a global seed: noise and levels are handed in, drawn from a generator of the caller's.

Shapes: b batch, … the rest of an item. Levels are float64 [b].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unisono.errors import UnisonoError

Prediction = Literal["eps", "x0", "v"]

_TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class Noised(NamedTuple):
    """A corrupted batch: the network's input ``x`` and ``time`` [b], what it should answer, and its weight [b]."""

    x: Float[Tensor, "b ..."]
    time: Float[Tensor, " b"]
    target: Float[Tensor, "b ..."]
    weight: Float[Tensor, " b"]


class Objective(Protocol):
    """A way to train a denoiser; ``family`` names the samplers that go with it."""

    family: str

    def level(self, uniform: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Turn numbers that are uniform in [0, 1] into noise levels: t, a step of the table, or σ."""
        ...

    def corrupt(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Noised:
        """Mix items with noise at each one's level."""
        ...

    def x0(self, x: Float[Tensor, "b ..."], output: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Tensor:
        """Return the clean item that an output for the network's input ``x`` stands for."""
        ...


@dataclass(frozen=True)
class Flow:
    """Flow matching on straight lines, times logit-normal: t = sigmoid(mean + std·n), then shifted.

    ``std`` 0 makes times uniform. ``shift`` s maps t to s·t / (1 + (s − 1)·t): above 1 for large images. The network's
    time is 1000·t, as diffusers' flow-matching schedulers give it.

    Raises:
        UnisonoError: if std is negative or shift not above 0.
    """

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0
    family: str = field(default="flow", init=False)

    def __post_init__(self):
        if not 0 <= self.std < math.inf:
            raise UnisonoError(f"Flow(std={self.std}) must be at least 0", code="range", path="std", value=self.std)
        if not 0 < self.shift < math.inf:
            raise UnisonoError(
                f"Flow(shift={self.shift}) must be above 0", code="range", path="shift", value=self.shift
            )

    def level(self, uniform: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        t = uniform.double()
        if self.std:
            t = torch.sigmoid(self.mean + self.std * _normal(t))
        return self.shift * t / (1 + (self.shift - 1) * t)

    def corrupt(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Noised:
        t = _like(level, x0)
        return Noised((1 - t) * x0 + t * noise, 1000 * level.to(x0.dtype), noise - x0, torch.ones_like(level).to(x0))

    def x0(self, x: Float[Tensor, "b ..."], output: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Tensor:
        return x - _like(level, x) * output


class Discrete:
    """DDPM's chain of noise levels, from the table of a diffusers scheduler.

    ``schedule`` is a scheduler with ``alphas_cumprod``, or the name of a beta schedule of diffusers' DDPMScheduler
    ("linear", "scaled_linear", "squaredcos_cap_v2"). ``gamma`` is min-SNR's: the loss in terms of x0 counts
    min(SNR, γ); None counts all errors of the output the same.

    Raises:
        UnisonoError: if the prediction or schedule is unknown, or gamma is not above 0.
    """

    family = "discrete"

    def __init__(self, schedule: Any = "linear", prediction: Prediction = "eps", gamma: float | None = 5.0):
        if prediction not in _TYPES:
            raise UnisonoError(
                f"prediction={prediction!r} must be one of {', '.join(_TYPES)}",
                code="unknown",
                path="prediction",
                value=prediction,
            )
        if gamma is not None and not 0 < gamma < math.inf:
            raise UnisonoError(
                f"gamma={gamma} must be above 0, or None for equal weights", code="range", path="gamma", value=gamma
            )
        if isinstance(schedule, str):
            from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

            try:
                name: Any = schedule  # refused below, where there is no such one
                schedule = DDPMScheduler(beta_schedule=name)
            except NotImplementedError:
                raise UnisonoError(
                    f"schedule={schedule!r} is no beta schedule of diffusers: "
                    "take linear, scaled_linear or squaredcos_cap_v2",
                    code="unknown",
                    path="schedule",
                    value=schedule,
                ) from None
        table = getattr(schedule, "alphas_cumprod", None)
        if table is None:
            raise UnisonoError(
                f"{type(schedule).__name__} has no table alphas_cumprod: give a scheduler that has one",
                code="unsupported",
                path="schedule",
                value=type(schedule).__name__,
            )
        self.prediction, self.gamma = prediction, gamma
        self.table = torch.as_tensor(table).double().cpu()
        betas = getattr(schedule, "betas", None)
        self.betas = betas_of(self.table) if betas is None else torch.as_tensor(betas).double().cpu()

    @property
    def prediction_type(self) -> str:
        """What diffusers' schedulers call the prediction."""
        return _TYPES[self.prediction]

    def level(self, uniform: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        n = len(self.table)
        return (uniform.double() * n).floor().clamp(0, n - 1)

    def snr(self, level: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Signal-to-noise ratio α²/σ²."""
        square = self.table.to(level.device)[level.long()]
        return square / (1 - square)

    def weight(self, level: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The loss weight of a squared error of the output.

        An error e of ε is one of e·σ/α in x0, one of v is one of e·σ: the weight min(SNR, γ) of x0 becomes
        min(SNR, γ) / SNR and min(SNR, γ) / (SNR + 1).
        """
        if self.gamma is None:
            return torch.ones_like(level)
        snr = self.snr(level)
        capped = snr.clamp(max=self.gamma)
        return {"x0": capped, "eps": capped / snr, "v": capped / (snr + 1)}[self.prediction]

    def corrupt(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Noised:
        a, s = self._levels(level, x0)
        target = {"eps": noise, "x0": x0, "v": a * noise - s * x0}[self.prediction]
        return Noised(a * x0 + s * noise, level.to(x0.dtype), target, self.weight(level).to(x0))

    def x0(self, x: Float[Tensor, "b ..."], output: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Tensor:
        a, s = self._levels(level, x)
        return {"eps": (x - s * output) / a, "x0": output, "v": a * x - s * output}[self.prediction]

    def _levels(self, level: Float[Tensor, " b"], like: Tensor) -> tuple[Tensor, Tensor]:
        square = self.table.to(level.device)[level.long()]
        return _like(square.sqrt(), like), _like((1 - square).sqrt(), like)


@dataclass(frozen=True)
class EDM:
    """Karras et al.'s training: ln σ normal with ``mean`` and ``std``, and a preconditioned network.

    The denoiser is c_skip·x + c_out·F(c_in·x, c_noise); the weight λ(σ) = 1/c_out² makes every error of F count the
    same. ``sigma_data`` is the standard deviation of the data, which must have mean 0.

    Raises:
        UnisonoError: if std or sigma_data is not above 0.
    """

    sigma_data: float = 0.5
    mean: float = -1.2
    std: float = 1.2
    family: str = field(default="edm", init=False)

    def __post_init__(self):
        for name, value in (("sigma_data", self.sigma_data), ("std", self.std)):
            if not 0 < value < math.inf:
                raise UnisonoError(f"EDM({name}={value}) must be above 0", code="range", path=name, value=value)

    def level(self, uniform: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return torch.exp(self.mean + self.std * _normal(uniform.double()))

    def scales(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in and c_noise (Table 1, last column)."""
        d = self.sigma_data
        total = sigma**2 + d**2
        return d**2 / total, sigma * d / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4

    def corrupt(self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Noised:
        skip, out, scale, time = self.scales(level)
        x = x0 + _like(level, x0) * noise
        target = (x0 - _like(skip, x0) * x) / _like(out, x0)
        return Noised(_like(scale, x0) * x, time.to(x0.dtype), target, torch.ones_like(level).to(x0))

    def x0(self, x: Float[Tensor, "b ..."], output: Float[Tensor, "b ..."], level: Float[Tensor, " b"]) -> Tensor:
        skip, out, scale, _ = self.scales(level)
        return _like(skip / scale, x) * x + _like(out, x) * output


def denoising_loss(output: Float[Tensor, "b ..."], noised: Noised) -> Float[Tensor, " b"]:
    """Each item's weighted mean squared error, in float32 or wider."""
    wide = output if output.dtype == torch.float64 else output.float()
    return noised.weight.to(wide) * (wide - noised.target.to(wide)).square().flatten(1).mean(1)


def forgotten(uniform: Float[Tensor, " b"], share: float) -> Bool[Tensor, " b"]:
    """Which items lose their condition while training, for classifier-free guidance (arXiv:2207.12598, algorithm 1).

    Raises:
        UnisonoError: if share is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UnisonoError(f"a share of {share} must be from 0 to 1", code="range", path="share", value=share)
    return uniform < share


def betas_of(table: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """β of each step from the cumulative products ᾱ of 1 − β."""
    before = torch.cat([torch.ones_like(table[:1]), table[:-1]])
    return 1 - table / before


def _normal(uniform: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Standard normal numbers from uniform ones; 0 and 1 themselves are moved inside."""
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))


def _like(level: Tensor, x: Tensor) -> Tensor:
    """Numbers per item, to multiply items with."""
    return level.to(x).reshape(-1, *[1] * (x.ndim - 1))
