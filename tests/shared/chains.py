"""Chains for tests of parallel samplers: diffusers' schedulers, exact networks, and the serial loop that pipelines run.

The loop shares no code with the library.
"""

import inspect

import diffusers
import torch
from unisono.diffusion import SchedulerRecurrence

VP = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")

SCHEDULERS = {
    "ddim": ("DDIMScheduler", VP | dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1)),
    "ddpm": ("DDPMScheduler", VP | dict(clip_sample=False)),
    "dpm++2m": ("DPMSolverMultistepScheduler", VP | dict(solver_order=2)),
    "dpm++3m": ("DPMSolverMultistepScheduler", VP | dict(solver_order=3)),
    "sde-dpm++2m": ("DPMSolverMultistepScheduler", VP | dict(algorithm_type="sde-dpmsolver++")),
    "dpm-single": ("DPMSolverSinglestepScheduler", VP),
    "unipc": ("UniPCMultistepScheduler", VP),
    "deis": ("DEISMultistepScheduler", VP),
    "sa-solver": ("SASolverScheduler", VP),
    "pndm": ("PNDMScheduler", VP | dict(skip_prk_steps=True, steps_offset=1)),
    "euler": ("EulerDiscreteScheduler", VP),
    "euler-a": ("EulerAncestralDiscreteScheduler", VP),
    "heun": ("HeunDiscreteScheduler", VP),
    "lms": ("LMSDiscreteScheduler", VP),
    "kdpm2": ("KDPM2DiscreteScheduler", VP),
    "kdpm2-a": ("KDPM2AncestralDiscreteScheduler", VP),
    "lcm": ("LCMScheduler", VP),
    "tcd": ("TCDScheduler", VP),
    "flow": ("FlowMatchEulerDiscreteScheduler", dict(shift=3.0)),
    "flow-sde": ("FlowMatchEulerDiscreteScheduler", dict(shift=3.0, stochastic_sampling=True)),
    "flow-heun": ("FlowMatchHeunDiscreteScheduler", dict(shift=3.0)),
    "edm-euler": ("EDMEulerScheduler", {}),
    "edm-dpm++": ("EDMDPMSolverMultistepScheduler", {}),
}


def scheduler_of(name, num_steps, **changes):
    """A scheduler with its timesteps set."""
    kind, config = SCHEDULERS[name]
    scheduler = getattr(diffusers, kind)(**config | changes)
    scheduler.set_timesteps(num_steps)
    return scheduler


def noise(shape, scheduler, seed=2, dtype=torch.float64, batch=1):
    """x_0, drawn per sample."""
    rows = [torch.randn(1, *shape, generator=gen(seed + i), dtype=torch.float64) for i in range(batch)]
    return (torch.cat(rows) * float(getattr(scheduler, "init_noise_sigma", 1.0))).to(dtype)


def gen(seed=7):
    return torch.Generator().manual_seed(seed)


def serial_loop(scheduler, network, x, generator=None, **kwargs):
    """Every state of diffusers' own loop, for one sample or a batch."""
    if "generator" in inspect.signature(scheduler.step).parameters:
        kwargs["generator"] = generator
    states = [x]
    for t in scheduler.timesteps:
        given = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = network(given, t.expand(len(x)), torch.arange(len(x)))
        x = scheduler.step(output, t, x, return_dict=False, **kwargs)[0]
        states.append(x)
    return states


def oracle_chain(oracle, name, num_steps, wrap=lambda network: network, seeds=(7,), **kwargs):
    """A recurrence over a scheduler and an exact network."""
    network = wrap(oracle.network(scheduler_of(name, num_steps)))
    return SchedulerRecurrence(scheduler_of(name, num_steps), network, generator=[gen(s) for s in seeds], **kwargs)


def apart(a, b):
    """‖a − b‖ / ‖b‖."""
    return float((a - b).detach().norm() / b.detach().norm())


class Counted:
    """A network that counts its calls and rows, and the dtype it is called with."""

    def __init__(self, network):
        self.network, self.calls, self.rows = network, 0, 0

    def __call__(self, x, t, sample):
        self.calls += 1
        self.rows += len(t)
        return self.network(x, t, sample)


class TreeChain:
    """x' and y' of a coupled, damped rotation: a chain over a dict of two tensors, written out, no scheduler."""

    def __init__(self, num_steps=12, forcing=0.3):
        self.num_steps, self.forcing = num_steps, forcing

    def evaluate(self, x, step, sample):
        phase = (step.double() / self.num_steps)[:, None]
        return {"a": torch.sin(x["b"][:, :2] + phase), "b": torch.cat([torch.cos(x["a"]), x["a"][:, :1] * phase], 1)}

    def begin(self, sample):
        return None

    def snapshot(self):
        return None

    def restore(self, carry):
        pass

    def advance(self, output, i, x):
        return {key: 0.9 * x[key] + self.forcing * output[key] for key in x}

    def hold(self, output, i, x_old, x_new, quantity="v", j=None):
        return output

    def history(self):
        return ()


__all__ = [
    "SCHEDULERS",
    "VP",
    "Counted",
    "TreeChain",
    "apart",
    "gen",
    "noise",
    "oracle_chain",
    "scheduler_of",
    "serial_loop",
]
