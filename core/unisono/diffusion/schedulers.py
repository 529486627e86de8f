"""Schedulers by name: those of diffusers that sample what a model was trained for.

A scheduler is chosen per request. Which ones there are depends on the model's objective: a network that answers with a
flow cannot be stepped by a scheduler that expects noise. All of its numbers come from the objective; diffusers'
defaults are never used for them. The test of each is an exact network: one that knows a picture must give it back,
from pure noise and from any start.

Three schedulers of diffusers do not pass that test as they are, and are mended here: DEIS ends one step before the
picture, LMS takes coefficients of steps that a chain which begins later has not made, and PNDM mixes what a network
says at several steps, which is right for ε alone.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unisono.diffusion.training.objectives import EDM, Discrete, Flow
from unisono.errors import RequestError, did_you_mean

NAMES: dict[str, tuple[str, ...]] = {
    "flow": ("flow-euler", "flow-heun", "dpm++2m", "dpm++3m", "unipc"),
    "discrete": (
        "dpm++2m",
        "dpm++3m",
        "unipc",
        "ddim",
        "ddpm",
        "euler",
        "euler-a",
        "heun",
        "deis",
        "lms",
        "pndm",
        "sde-dpm++2m",
    ),
    "edm": ("dpm++2m", "euler"),
}
"""By family of objectives; the first is the default."""

PREDICTIONS: dict[str, tuple[str, ...]] = {"euler-a": ("eps", "v")}
"""What a discrete scheduler can be told of, where it is not all: predictions of a network."""

LEAST_STEPS = {"pndm": 4}
"""Where a scheduler needs more steps than one."""

WHOLE_ONLY = ("pndm",)
"""Schedulers whose chain cannot begin at a start picture: their first steps are of another kind than the rest."""


def names_of(objective: Any) -> tuple[str, ...]:
    """Return the schedulers of an objective; the first is the default."""
    names = NAMES[objective.family]
    if not isinstance(objective, Discrete):
        return names
    return tuple(name for name in names if objective.prediction in PREDICTIONS.get(name, (objective.prediction,)))


def make_scheduler(name: str | None, num_steps: int, objective: Any, schedule: str, clip: bool) -> Any:
    """Make a scheduler with its timesteps set.

    ``clip`` says that pictures are pixels, in [-1, 1]. ``schedule`` is the objective's beta schedule by name; the
    numbers are taken from the objective itself. Raises ``RequestError`` for a name that is not one of this
    objective's, or fewer steps than the scheduler can take.
    """
    names = names_of(objective)
    name = names[0] if name is None else name
    if name not in names:
        if name in NAMES[objective.family]:
            raise RequestError(
                f"scheduler={name!r} takes no network that predicts {objective.prediction}, only "
                f"{' and '.join(PREDICTIONS[name])}: use one of {', '.join(names)}",
                code="unsupported",
                path="scheduler",
                value=name,
            )
        raise RequestError(
            f"unknown scheduler {name!r} for a model of this kind{did_you_mean(name, names)}",
            code="unknown",
            path="scheduler",
            value=name,
        )
    match objective:
        case Flow():
            scheduler = _flow(name, objective)
        case Discrete():
            scheduler = _discrete(name, objective, clip)
            if not torch.allclose(scheduler.alphas_cumprod.double(), objective.table, rtol=1e-5, atol=1e-8):
                raise RequestError(
                    f"scheduler={name!r} samples other noise levels than the model was trained on: use another one",
                    code="unsupported",
                    path="scheduler",
                    value=name,
                )
        case EDM():
            diffusers = _diffusers()
            kinds = {"dpm++2m": diffusers.EDMDPMSolverMultistepScheduler, "euler": diffusers.EDMEulerScheduler}
            scheduler = kinds[name](sigma_data=objective.sigma_data)
        case _:
            raise TypeError(f"no scheduler is known for {objective!r}")
    most = len(objective.table) if isinstance(objective, Discrete) else 1000
    if isinstance(objective, Flow) and name.startswith("dpm++"):
        most = 999  # its timesteps are whole numbers, and one would come twice
    least = LEAST_STEPS.get(name, 1)
    if not least <= num_steps <= most:
        raise RequestError(
            f"num_steps={num_steps} must be from {least} to {most} for scheduler={name!r}",
            code="range",
            path="num_steps",
            value=num_steps,
        )
    scheduler.set_timesteps(num_steps)
    if name not in WHOLE_ONLY and _repeats(scheduler):
        raise RequestError(
            f"num_steps={num_steps} makes scheduler={name!r} step twice from one noise level: give fewer steps",
            code="range",
            path="num_steps",
            value=num_steps,
        )
    return scheduler


def _repeats(scheduler: Any) -> bool:
    """Whether a scheduler has one noise level twice (up to rounding), between which no step can be made."""
    sigmas = getattr(scheduler, "sigmas", None)
    levels = (scheduler.timesteps if sigmas is None else sigmas).double()[:: scheduler.order]
    return bool((levels.diff() > -1e-5 * levels[:-1]).any())


def first_step(name: str | None, scheduler: Any, objective: Any, strength: float) -> int:
    """Return the step at which a chain from a start picture begins.

    ``strength`` in (0, 1] is a share of the model's own noise schedule, whatever the scheduler: t of a flow before its
    shift, a step of the table over all, σ on Karras et al.'s curve. The step whose noise is nearest is taken, so that
    two schedulers begin with the same noise up to their grids. Raises ``RequestError`` for a scheduler whose chain
    can only be run as a whole.
    """
    names = names_of(objective)
    name = names[0] if name is None else name
    if name in WHOLE_ONLY:
        others = ", ".join(other for other in names if other not in WHOLE_ONLY)
        raise RequestError(
            f"scheduler={name!r} cannot begin at a picture: leave the image out, or use one of {others}",
            code="unsupported",
            path="scheduler",
            value=name,
        )
    order = scheduler.order
    shares = noise_shares(scheduler, objective)[::order]
    if strength == 1:
        return 0
    return order * min(range(len(shares)), key=lambda i: abs(shares[i] - strength))


def noise_shares(scheduler: Any, objective: Any) -> list[float]:
    """Return where each step of a scheduler begins in its model's noise schedule: near 1 the most noise, 0 none."""
    timesteps = scheduler.timesteps.double().tolist()
    match objective:
        case Flow():
            times = [t / 1000 for t in timesteps]
            return [t / (objective.shift - (objective.shift - 1) * t) for t in times]
        case Discrete():
            return [t / (len(objective.table) - 1) for t in timesteps]
        case _:
            low, high, rho = scheduler.config.sigma_min, scheduler.config.sigma_max, scheduler.config.rho
            ends = low ** (1 / rho), high ** (1 / rho)
            return [(math.exp(4 * t) ** (1 / rho) - ends[0]) / (ends[1] - ends[0]) for t in timesteps]


def noised(scheduler: Any, x0: Tensor, noise: Tensor, first: int) -> Tensor:
    """Return items at the noise level at which step ``first`` begins."""
    diffusers = _diffusers()
    twin, time = copy.copy(scheduler), scheduler.timesteps[first : first + 1]  # mixing may count as a step
    if isinstance(twin, diffusers.FlowMatchEulerDiscreteScheduler | diffusers.FlowMatchHeunDiscreteScheduler):
        return twin.scale_noise(x0, time, noise)
    return twin.add_noise(x0, noise, time)


def _flow(name: str, objective: Flow) -> Any:
    diffusers = _diffusers()
    if name == "flow-euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=objective.shift)
    if name == "flow-heun":
        return diffusers.FlowMatchHeunDiscreteScheduler(shift=objective.shift)
    multistep: dict[str, Any] = dict(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=objective.shift
    )
    if name == "unipc":
        return diffusers.UniPCMultistepScheduler(**multistep)
    return diffusers.DPMSolverMultistepScheduler(**multistep, solver_order=3 if name == "dpm++3m" else 2)


def _discrete(name: str, objective: Discrete, clip: bool) -> Any:
    diffusers = _diffusers()
    own: dict[str, dict[str, Any]] = {
        "ddim": {"clip_sample": clip, "set_alpha_to_one": True},
        "ddpm": {"clip_sample": clip},
        "dpm++3m": {"solver_order": 3},
        "sde-dpm++2m": {"algorithm_type": "sde-dpmsolver++"},
        "pndm": {"set_alpha_to_one": True},
    }
    kinds = {
        "ddim": diffusers.DDIMScheduler,
        "ddpm": diffusers.DDPMScheduler,
        "dpm++2m": diffusers.DPMSolverMultistepScheduler,
        "dpm++3m": diffusers.DPMSolverMultistepScheduler,
        "sde-dpm++2m": diffusers.DPMSolverMultistepScheduler,
        "unipc": diffusers.UniPCMultistepScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
        "euler-a": diffusers.EulerAncestralDiscreteScheduler,
        "heun": diffusers.HeunDiscreteScheduler,
        "deis": _mended()[0],
        "lms": _mended()[1],
        "pndm": _mended()[2],
    }
    return kinds[name](
        num_train_timesteps=len(objective.table),
        trained_betas=np.asarray(objective.betas, np.float32).tolist(),
        prediction_type=objective.prediction_type,
        **own.get(name, {}),
    )


def _diffusers() -> Any:
    """The library, whose types say less than it takes."""
    import diffusers

    return diffusers


@functools.cache
def _mended() -> tuple[type, type, type]:
    """DEIS that ends at the picture, LMS that can begin at any step, and PNDM for every prediction."""
    from diffusers.schedulers.scheduling_utils import SchedulerOutput

    diffusers = _diffusers()

    class DEISScheduler(diffusers.DEISMultistepScheduler):
        """Its last step goes to the predicted picture, as that of DPM-Solver does; diffusers' leaves noise in it."""

        def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
            if self.step_index is None:
                self._init_step_index(timestep)
            at: Any = self.step_index
            if at < len(self.timesteps) - 1:
                return super().step(model_output, timestep, sample, return_dict)
            alpha, sigma = self._sigma_to_alpha_sigma_t(self.sigmas[at])
            noise = self.convert_model_output(model_output, sample=sample)
            self._step_index = at + 1
            x0 = (sample - sigma * noise) / alpha
            return SchedulerOutput(prev_sample=x0) if return_dict else (x0,)

    class LMSScheduler(diffusers.LMSDiscreteScheduler):
        """Its order grows with the steps that were made, not with the steps before in the table."""

        def step(self, model_output: Any, timestep: Any, sample: Any, order: int = 4, return_dict: bool = True) -> Any:
            return super().step(model_output, timestep, sample, min(order, len(self.derivatives) + 1), return_dict)

    class PNDMScheduler(diffusers.PNDMScheduler):
        """Turns each answer into ε where it was given, and mixes those."""

        def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
            square = self.alphas_cumprod[int(timestep)].to(sample)
            alpha, sigma = square.sqrt(), (1 - square).sqrt()
            match self.config.prediction_type:
                case "sample":
                    model_output = (sample - alpha * model_output) / sigma
                case "v_prediction":
                    model_output = alpha * model_output + sigma * sample
            return super().step(model_output, timestep, sample, return_dict)

        def _get_prev_sample(self, sample: Any, timestep: Any, prev_timestep: Any, model_output: Any) -> Any:
            now = self.alphas_cumprod[int(timestep)].to(sample)
            last = self.final_alpha_cumprod
            after = (self.alphas_cumprod[int(prev_timestep)] if prev_timestep >= 0 else last).to(sample)
            x0 = (sample - (1 - now).sqrt() * model_output) / now.sqrt()
            return after.sqrt() * x0 + (1 - after).sqrt() * model_output  # DDIM's step, PNDM's equation 9

    return DEISScheduler, LMSScheduler, PNDMScheduler
