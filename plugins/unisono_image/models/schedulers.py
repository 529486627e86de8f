"""Schedulers by name: those of diffusers that sample what a model was trained for.

A scheduler is chosen per request. Which ones there are depends on the model's objective: a network that answers with a
flow cannot be stepped by a scheduler that expects noise.
"""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor
from unisono.diffusion import EDM, Discrete, Flow
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


def make_scheduler(name: str | None, num_steps: int, objective: Any, schedule: str, clip: bool) -> Any:
    """Make a scheduler with its timesteps set.

    ``schedule`` is the beta schedule of a discrete objective; ``clip`` says that pictures are pixels, in −1..1.
    Raises ``RequestError`` for a name that is not one of this objective's.
    """
    names = NAMES[objective.family]
    name = names[0] if name is None else name
    if name not in names:
        raise RequestError(f"unknown scheduler {name!r} for a model of this kind{did_you_mean(name, names)}")
    match objective:
        case Flow():
            scheduler = _flow(name, objective)
        case Discrete():
            scheduler = _discrete(name, objective, schedule, clip)
        case EDM():
            import diffusers

            kinds = {"dpm++2m": diffusers.EDMDPMSolverMultistepScheduler, "euler": diffusers.EDMEulerScheduler}
            scheduler = kinds[name](sigma_data=objective.sigma_data)
        case _:
            raise TypeError(f"no scheduler is known for {objective!r}")
    scheduler.set_timesteps(num_steps)
    return scheduler


def noised(scheduler: Any, x0: Tensor, noise: Tensor, first: int) -> Tensor:
    """Return items at the noise level at which step ``first`` begins."""
    twin, time = copy.copy(scheduler), scheduler.timesteps[first : first + 1]
    mix: Callable[..., Tensor] | None = getattr(twin, "scale_noise", None)
    return mix(x0, time, noise) if mix is not None else twin.add_noise(x0, noise, time)


def _flow(name: str, objective: Flow) -> Any:
    import diffusers

    if name == "flow-euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=objective.shift)
    if name == "flow-heun":
        return diffusers.FlowMatchHeunDiscreteScheduler(shift=objective.shift)
    multistep = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=objective.shift)
    if name == "unipc":
        return diffusers.UniPCMultistepScheduler(**multistep)
    return diffusers.DPMSolverMultistepScheduler(**multistep, solver_order=3 if name == "dpm++3m" else 2)


def _discrete(name: str, objective: Discrete, schedule: str, clip: bool) -> Any:
    import diffusers

    own = {"ddim": {"clip_sample": clip}, "ddpm": {"clip_sample": clip}, "dpm++3m": {"solver_order": 3}}
    own["sde-dpm++2m"] = {"algorithm_type": "sde-dpmsolver++"}
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
        "deis": diffusers.DEISMultistepScheduler,
        "lms": diffusers.LMSDiscreteScheduler,
        "pndm": diffusers.PNDMScheduler,
    }
    return kinds[name](beta_schedule=schedule, prediction_type=objective.prediction_type, **own.get(name, {}))
